"""loadgen.report.evidence: from an anomaly to the lines of both proxies, by ids alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.anything import changed, json_values

from loadgen.report import evidence, files
from loadgen.report.evidence import SHOWN, Evidence
from loadgen.report.html import render

HERE, THERE = "127.0.0.1:50001", "127.0.0.1:50002"


def state(quic_stream: int, application: str = "") -> dict[str, Any]:
    known = {"stream": 1, "quic_stream": quic_stream, "waits_for": "receipt", "still_s": 5.1}
    return known | ({"application": application} if application else {})


def anomaly(application: str = "") -> dict[str, Any]:
    return {"time": "2026-11-23T03:00:30.125+00:00", "kind": "stall", "application": application}


def line(session: str, *states: Mapping[str, Any], events: Sequence[str] = ()) -> dict[str, Any]:
    time = "2026-11-23T03:00:00Z"
    return {"time": time, "event": "evidence", "why": "stalled", "session": session, "streams": [*states]} | {
        "last_events": [*events]
    }


def said(client: Sequence[Mapping[str, Any]], server: Sequence[Mapping[str, Any]]) -> Evidence:
    return Evidence({"proxy-client": client, "proxy-server": server})


def test_session_and_stream_lead_to_the_other_proxy() -> None:
    """The same stream number of another session, and another stream of the same session, are somebody else's."""
    events = ["-6.000 greeting accepted", "-5.200 stream 8 opened", "-5.100 stream 12 opened"]
    proofs = said(
        [line("aa", state(8, HERE), state(12, THERE), events=events)],
        [line("bb", state(8)), line("aa", state(12)), line("aa", state(8))],
    )
    assert proofs.of(anomaly(HERE)) == ("evidence-1", "evidence-2")
    assert [(entry.program, entry.session) for entry in proofs.entries] == [
        ("proxy-client", "aa"),
        ("proxy-server", "aa"),
    ]
    assert [entry.state["quic_stream"] for entry in proofs.entries] == [8, 8]
    assert proofs.entries[0].last_events == events[:2]


def test_two_anomalies_of_one_stream_share_the_lines() -> None:
    proofs = said([line("aa", state(8, HERE))], [line("aa", state(8))])
    assert proofs.of(anomaly(HERE)) == proofs.of(anomaly(HERE))
    assert len(proofs.entries) == 2


def test_a_port_that_was_used_again() -> None:
    proofs = said([line("aa", state(8, HERE)) | {"time": "2026-11-23T02:58:00Z"}, line("bb", state(8, HERE))], [])
    (only,) = proofs.of(anomaly(HERE))
    assert [(entry.anchor, entry.session) for entry in proofs.entries] == [(only, "bb")]
    assert proofs.of({"application": HERE}) == (), "nobody knows when"


def test_a_request_without_a_connection_leads_nowhere_else() -> None:
    waiting = {"stream": 1, "application": HERE, "waits_for": "connection"}
    proofs = said([line("", waiting)], [line("", {"stream": 2})])
    assert proofs.of(anomaly(HERE)) == ("evidence-1",)


def test_an_anomaly_that_nobody_logged() -> None:
    proofs = said([line("aa", state(8, HERE))], [])
    assert proofs.of(anomaly(THERE)) == proofs.of(anomaly("")) == proofs.of({}) == ()


def test_the_page_stays_small() -> None:
    proofs = said([line("aa", state(4 * number, f"127.0.0.1:{number}")) for number in range(1, SHOWN + 6)], [])
    for number in (*range(1, SHOWN + 6), SHOWN + 1):
        proofs.of(anomaly(f"127.0.0.1:{number}"))
    assert (len(proofs.entries), proofs.left_out) == (SHOWN, 5)


def test_logs_are_read_with_what_was_cut_off(tmp_path: Path) -> None:
    whole = json.dumps(line("aa", state(8, HERE)))
    (tmp_path / "proxy-client.log.1").write_text(whole + "\n")
    (tmp_path / "proxy-client.log").write_text(f'not JSON\n{{"event": "ready"}}\n{whole}\n{whole[:40]}')
    found = evidence.read(tmp_path)
    assert len(found["proxy-client"]) == 2
    assert found["proxy-server"] == []


def test_on_the_page_an_anomaly_links_to_its_lines() -> None:
    from loadgen.report.files import Excerpt

    lines = {"proxy-client": [line("aa", state(8, HERE), events=["-1.000 stream 8 <opened>"])], "proxy-server": []}
    page = render({"verdict": "fail"}, None, Excerpt((anomaly(HERE),)), lines)
    assert '<a href="#evidence-1">1</a>' in page
    assert 'id="evidence-1"' in page
    assert "stream 8 &lt;opened&gt;" in page


@pytest.mark.parametrize("number", [None, "x", [], float("inf")])
def test_a_stream_without_a_number_and_moments_that_are_none(number: object) -> None:
    odd = {**line("aa", {**state(8, HERE), "quic_stream": number}), "last_events": 5}
    proofs = said([odd], [odd])
    assert proofs.of(anomaly(HERE))
    assert not proofs.entries[0].last_events


lines = changed(line("aa", state(8, HERE), events=["-5.2 stream 8 opened"])) | st.dictionaries(st.text(), json_values)
dropped = st.just({"kind": "dropped", "lines": "x"}) | changed({"kind": "dropped", "lines": 3})
anomalies = changed(anomaly(HERE)) | dropped


@given(st.lists(lines, max_size=4), st.lists(lines, max_size=4), anomalies)
def test_whatever_the_lines_hold_they_lead_somewhere_or_nowhere(
    client: list[dict[str, Any]], server: list[dict[str, Any]], about: dict[str, Any]
) -> None:
    proofs = said(client, server)
    assert len(proofs.of(about)) == len(proofs.entries)


@given(st.lists(st.one_of(anomalies, lines, json_values).map(json.dumps) | st.text(max_size=40), max_size=6))
def test_whatever_a_report_directory_holds_it_is_read(texts: list[str]) -> None:
    with TemporaryDirectory() as directory:
        whole = "\n".join(texts)
        for name in ("anomalies.jsonl", "proxy-client.log", "proxy-server.log"):
            (Path(directory) / name).write_text(whole, encoding="utf-8", errors="replace")
        excerpt = files.read_anomalies(Path(directory), limit=2)
        assert len(excerpt.lines) <= 2
        Evidence(evidence.read(Path(directory)))
