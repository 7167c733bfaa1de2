"""The end of a run in words: what broke, when, what came of it, and what never ended."""

from typing import Any

import pytest

from loadgen.soak.summary import summarise

DOCUMENT: dict[str, Any] = {
    "verdict": "fail",
    "reasons": ["drain.pending == 0: was 1"],
    "run": {"duration_s": 30.0},
    "totals": {"scheduled": 4, "completed": 3, "dropped": 1},
    "offered_per_s": 20.0,
    "scenarios": {
        "get": {"completed": 3, "outcomes": {"ok": 2}, "latency_ms": {"p50": 1, "p90": 2, "p99": 3, "max": None}}
    },
    "outcomes": {"ok": 2, "reset": 1, "corrupt": 0},
    "timeouts": {"body": 0},
    "stalls": {"body": {"count": 2, "recovered": 1, "longest_s": 6.25}},
    "generator": {"lag_max_s": 0.1, "blamed": 2},
    "faults": [
        {"name": "hole", "program": None, "from_s": 5.0, "to_s": 8.0, "error": None},
        {"name": "nap", "program": "link", "from_s": 9.0, "to_s": None, "error": "no answer"},
        {"name": "late", "program": "link", "from_s": None, "to_s": None, "error": None},
    ],
    "windows": {"quiet": {"seconds": 20.0, "outcomes": {"ok": 2}, "stalls": {"body": 0}}},
    "ends": {},
    "ledger": {"imbalances": [{"text": "1 end was lost"}]},
    "drain": {
        "complete": False,
        "observed": True,
        "seconds": 31.0,
        "pending": [
            {
                "program": "proxy-client",
                "what": "tunnel_streams_active",
                "labels": {"role": "client"},
                "value": 1,
                "streams": [{"stream": 7, "direction": "target_to_client", "state": "open", "age_s": 33.3}],
            }
        ],
    },
    "unsupported": {"eof_gated": "half-close"},
}


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    summarise(DOCUMENT, "reports/x/report.html")
    lines = capsys.readouterr().out.splitlines()
    for line in (
        "outcomes: ok 2, reset 1",
        "timeouts: none",
        "stalls: body 2 (1 recovered, longest 6.2 s)",
        "the generator was blamed for 2 quiet phases",
        "fault hole of link: 5.0 to 8.0 s",
        "fault nap of link: 9.0 not healed; no answer",
        "fault late of link: never happened",
        "quiet (20.0 s): ok 2; stalls: none",
        "ends rescued: not known",
        "ledger: 1 end was lost",
        "drain: drain timed out after 31.0 s, pending: proxy-client tunnel_streams_active role=client 1 "
        "(stream 7 target_to_client open for 33.3 s)",
        "not supported by the proxy, and not run: eof_gated (half-close)",
        "verdict: fail",
        "  drain.pending == 0: was 1",
        "report: reports/x/report.html",
    ):
        assert line in lines
