"""The page, without a browser: what it says, what it leaves out, and that nothing in a document can break it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.unit.loadgen.report import sample

from loadgen.report import html
from loadgen.report.files import Excerpt, ReportError

RICH, CALM = sample.rich(), sample.calm()
HOSTILE = "</style></svg><script>alert(1)</script>\x00\x1b\ud800'\"&"


class _Page(HTMLParser):
    """The text of a page, its elements, and whatever would make a browser fetch or run something."""

    def __init__(self, written: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.charts = 0
        self.feed(written)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "path", "rect", "line", "circle"):
            self.open.append(tag)
        for name, value in attributes:
            if (name in ("src", "href", "action") and value != "data:,") or name.startswith("on"):
                self.fetched.append(f"{tag} {name}={value}")
        if tag in ("script", "iframe", "object", "img"):
            self.fetched.append(tag)
        self.charts += tag == "svg" and "chart" in (dict(attributes).get("class") or "").split()

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag in self.open[-1:]:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "rect", "line", "circle"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words).replace("\u00a0", " "))


def _page(document: dict[str, Any], timeline: dict[str, Any] | None = None, anomalies: Excerpt | None = None) -> _Page:
    written = html.render(document, timeline, anomalies)
    assert len(written.encode("utf-8", "replace")) < html.LIMIT_BYTES
    page = _Page(written)
    assert page.open == [], "every element is closed"
    assert page.fetched == [], "nothing is fetched and nothing is run"
    return page


def test_it_says_what_an_operator_asks_for() -> None:
    text = _page(RICH.document, RICH.timeline, Excerpt(RICH.anomalies[:200], 33)).text
    for said in (
        "Soak 2026-03-14T09-26-53Z", "did not end well", "3 of them in quiet time",
        "quiet.outcome.eof_missing == 0: was 3",
        "1f3a9c04d2e7", "client aioquic / server aioquic", "small", "60/s asked for", "constant",
        "blackhole: from 8.0 s to 11.0 s, recovery to 15.0 s", "kill -9, proxy-server",
        "Latency by scenario", "Where the time went", "when they began",
        "✕ 1 end of stream was lost between proxy-server and proxy-client", "3,599 ✕",
        "tunnel_half_closed_streams {role=server, direction=target_to_client}",
        "connection 2, stream 1033, quic stream 4132, target to client, unconfirmed, 41.2 s old",
        "the proxy closes both directions",
        "loadgen soak", "--faults rough.toml", "faults.toml, beside this report",
        "--threshold 'quiet.latency.p99 < 250ms'", "--seed 1",
        "180 more", "Another 33 are in anomalies.jsonl",
    ):  # fmt: skip
        assert said in text, said


def test_a_calm_run_says_that_it_was_calm() -> None:
    page = _page(CALM.document, CALM.timeline)
    for said in (
        "every one of them ok", "No fault was planned", "Nothing was stalled at any time", "No phase stalled",
        "It balances", "Nothing was left over", "whatever was not as it should be would be listed here",
    ):  # fmt: skip
        assert said in page.text, said
    assert "✕" not in page.text


def test_what_a_fault_excused_is_not_marked_as_wrong() -> None:
    document = RICH.document | {
        "verdict": "pass",
        "thresholds": [],
        "ledger": {"balanced": True, "unjudged": ["proxy-server"], "imbalances": []},
    }
    document["drain"] = {"complete": True, "observed": True, "seconds": 1.0, "pending": []}
    page = _page(document, RICH.timeline)
    assert "✕" not in page.text
    assert "Not judged: proxy-server, restarted or out of reach meanwhile" in page.text


def test_what_an_older_verdict_does_not_have_is_said() -> None:
    page = _page(sample.bare())
    for said in ("There is no timeline.json", "Durations of phases are not known", "not judged"):
        assert said in page.text, said


@pytest.mark.parametrize("missing", sorted(set(RICH.document) - {"verdict"}))
def test_any_field_may_be_missing(missing: str) -> None:
    document = {name: value for name, value in RICH.document.items() if name != missing}
    _page(document, RICH.timeline, Excerpt(RICH.anomalies))


@pytest.mark.parametrize("missing", sorted(RICH.timeline))
def test_any_row_of_the_time_line_may_be_missing(missing: str) -> None:
    timeline = {name: value for name, value in RICH.timeline.items() if name != missing}
    _page(RICH.document, timeline)


def test_nothing_measured() -> None:
    page = _page({"schema": 1, "verdict": "inconclusive", "reasons": ["nothing was measured"]}, {"bucket_s": 1.0})
    assert "No transaction completed: nothing was measured." in page.text
    assert "No transaction came to an outcome." in page.text
    assert page.charts == 0


def test_nothing_in_a_document_becomes_markup() -> None:
    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: poison(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [poison(item) for item in value]
        return HOSTILE if isinstance(value, str) else value

    document = poison(RICH.document) | {
        "scenarios": {HOSTILE: next(iter(RICH.document["scenarios"].values()))},
        "ends": {HOSTILE: RICH.document["ends"]["proxy-client"]},
        "resources": {HOSTILE: RICH.document["resources"]["link"]},
    }
    page = _page(document, RICH.timeline, Excerpt(poison(RICH.anomalies[:50])))
    assert "<script>alert(1)</script>" in page.text, "as text"


def test_it_stays_small_whatever_the_run_was() -> None:
    buckets, many = 5000, 3000
    document = json.loads(json.dumps(RICH.document))
    document["reasons"] = ["a reason " * 100] * many
    document["faults"] = [
        RICH.document["faults"][0] | {"name": f"fault {number} {'x' * 400}", "from_s": number / 60, "error": "e" * 900}
        for number in range(many)
    ]
    document["thresholds"] = [
        {"expression": f"latency.p99 < {number}ms", "value": None, "ok": False} for number in range(many)
    ]
    document["drain"]["pending"] = document["drain"]["pending"] * many
    document["unsupported"] = {f"scenario {number}": "why " * 400 for number in range(many)}
    document["ledger"]["imbalances"] = document["ledger"]["imbalances"] * many
    document["scenarios"] = {f"s{number}": RICH.document["scenarios"]["get"] for number in range(many)}
    document["resources"] = {f"p{number}": RICH.document["resources"]["link"] for number in range(many)}
    document["ends"] = {f"hop {number}": RICH.document["ends"]["proxy-client"] for number in range(many)}
    timeline: dict[str, Any] = {
        "bucket_s": 1.0,
        "outcomes": {name: [1] * buckets for name in RICH.timeline["outcomes"]},
        "latency_ms": {name: [123.456] * buckets for name in ("p50", "p99", "max")},
        "stalls": {f"phase {number}": [1] * buckets for number in range(20)},
        **{name: [number % 977 for number in range(buckets)] for name in ("stalled_now", "in_flight", "lag_ms")},
        "programs": {
            f"p{number}": {"at_s": list(range(buckets)), "rss_bytes": list(range(buckets)), "fds": list(range(buckets))}
            for number in range(100)
        },
    }  # fmt: skip
    page = _page(document, timeline, Excerpt([RICH.anomalies[0] | {"detail": "d" * 5000}] * many, 10**9))
    assert "2900 more faults are in verdict.json" in page.text
    assert "and 2950 more" in page.text


def test_write_leaves_one_file(tmp_path: Path) -> None:
    path = html.write(RICH.write(tmp_path))
    assert path == tmp_path / "report.html"
    assert sorted(item.name for item in tmp_path.iterdir()) == [
        "anomalies.jsonl", "report.html", "timeline.json", "verdict.json",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_without_a_verdict_there_is_no_report(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "verdict.json").write_text(content)
    with pytest.raises(ReportError, match=r"verdict\.json"):
        html.write(tmp_path)
    assert not (tmp_path / "report.html").exists()
