"""What is taken from a document, and how it is judged."""

import pytest
from tests.unit.loadgen.compare.documents import document, latency, older

from loadgen.compare.measures import Kind, measures, rule
from loadgen.compare.reading import Report

FAULT = {"name": "blackhole", "kind": "blackhole", "program": None, "from_s": 5.0, "to_s": 8.0, "error": None}


def test_everything_that_is_compared() -> None:
    found = measures(Report.model_validate(document(completed=2000, outcomes={"reset": 4}, stalls={"body": 1})))
    assert {name: value for name, value in found.items() if value} == pytest.approx(
        {
            "latency.p50": 50,
            "latency.p99": 100,
            "latency.get.p50": 50,
            "latency.get.p99": 100,
            "latency.upload.p50": 50,
            "latency.upload.p99": 100,
            "outcome.reset": 2,
            "stalls.body": 0.5,
            "offered_per_s": 20,
            "drain.seconds": 0.5,
            "memory.proxy-client": 1,
            "fds.proxy-client": 2,
        }
    )
    assert "outcome.ok" not in found
    assert {"timeouts.ttfb", "rescued"} <= found.keys()


def test_what_a_document_does_not_have_is_not_there() -> None:
    nobody = {"link": {"rss_start_bytes": None, "rss_end_bytes": 1, "fds_start": None, "fds_end": None}}
    found = measures(Report.model_validate(older(document(p99=None, ends={}, resources=nobody))))
    assert not {"latency.p50", "latency.p99", "latency.get.p99", "rescued", "memory.link", "fds.link"} & found.keys()
    assert "latency.get.p50" in found


def test_rescued_ends_of_all_hops() -> None:
    events = {"received": 9, "forwarded": 9, "confirmed": 9}
    ends = {
        "proxy-client": {"client_to_target": {**events, "rescued": 1}, "target_to_client": {**events, "rescued": 2}},
        "proxy-server": {"client_to_target": {**events, "rescued": 3}},
    }
    assert measures(Report.model_validate(document(ends=ends)))["rescued"] == 6


def test_with_faults_the_quiet_windows_count() -> None:
    """But wrong bytes are wrong anywhere, and the drain is in no window."""
    quiet = {
        "completed": 500, "outcomes": {"ok": 499, "reset": 1}, "stalls": {"body": 1}, "timeouts": {"ttfb": 2},
        "latency_ms": latency(10, 20),
    }  # fmt: skip
    found = measures(
        Report.model_validate(
            document(
                outcomes={"reset": 90, "timeout": 70, "corrupt": 5},
                stalls={"body": 50, "ttfb": 50},
                timeouts={"ttfb": 70, "drain": 1},
                windows={"quiet": quiet},
                faults=[FAULT],
            )
        )
    )
    assert (found["outcome.reset"], found["stalls.body"], found["timeouts.ttfb"]) == (2, 2, 4)
    assert not {"outcome.timeout", "stalls.ttfb"} & found.keys()
    assert (found["outcome.corrupt"], found["timeouts.drain"]) == (10, 2)
    assert (found["latency.p50"], found["latency.get.p50"]) == (10, 50)


def test_rules() -> None:
    assert rule("latency.p50", False).floor < rule("latency.p99", False).floor
    assert rule("latency.get.p99", False) == rule("latency.p99", False)
    assert rule("latency.p99", True).judged
    assert not rule("latency.get.p99", True).judged
    assert rule("outcome.reset", False).kind is rule("rescued", False).kind is Kind.FAILURE
    assert rule("stalls.body", False).kind is Kind.HICCUP
    assert (rule("outcome.reset", False).floor, rule("outcome.eof_missing", False).floor) == (1, 0)
    assert not rule("offered_per_s", False).judged
