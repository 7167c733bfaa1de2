"""--qlog: a file a connection on either side, with both engines, that qvis opens and that fills no disk.

What a file must be is written down here from its sources: RFC 7464 for the framing, draft-ietf-quic-qlog-main-schema-02
for what qlog calls 0.3, and qvis, which reads packets' sizes in `raw` and takes each `group_id` for a connection.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

import jsonschema
import pytest
from tests.sim.pair import CLIENT, SERVER, Pair
from tests.unit.tunnel.engine.harness import CLEAN, MakeRealPair, first_flight, transmits

from tunnel.engine.aioquic.qlog import Trace
from tunnel.engine.port import Engine
from tunnel.engine.settings import Qlog
from tunnel.errors import Cause

NAME = re.compile(r"(?P<started>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ)-(?P<role>client|server)-(?P<id>[0-9a-f]+)\.sqlog")
AN_HOUR_MS = 3_600_000
RTT_MS = 40
"""Of the clean path."""

HEAD = {
    "type": "object",
    "required": ["qlog_version", "qlog_format", "trace"],
    "properties": {
        "qlog_version": {"const": "0.3"},
        "qlog_format": {"const": "JSON-SEQ"},
        "title": {"type": "string"},
        "trace": {
            "type": "object",
            "required": ["vantage_point"],
            "properties": {
                "vantage_point": {
                    "type": "object",
                    "required": ["type"],
                    "properties": {"name": {"type": "string"}, "type": {"enum": ["client", "server"]}},
                },
                "common_fields": {
                    "type": "object",
                    "properties": {
                        "time_format": {"enum": ["absolute", "relative"]},
                        "reference_time": {"type": "number"},
                    },
                },
                "configuration": {"type": "object"},
                "events": False,
            },
        },
    },
}
EVENT = {
    "type": "object",
    "required": ["time", "name", "data"],
    "properties": {
        "time": {"type": "number", "minimum": 0},
        "name": {"type": "string", "pattern": "^[a-z_]+:[a-z_]+$"},
        "data": {"type": "object"},
        "group_id": False,
    },
}
PACKET_SENT = {
    "required": ["header", "raw"],
    "properties": {
        "header": {"required": ["packet_type", "packet_number"], "properties": {"length": False}},
        "raw": {"required": ["length"], "properties": {"length": {"type": "integer", "minimum": 1}}},
    },
}


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON text sequence: each record behind a separator, whole, and on a line."""
    before, *parts = path.read_bytes().split(b"\x1e")
    assert before == b""
    for part in parts:
        assert part.endswith(b"\n")
        yield json.loads(part)


def trace(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The head and the events of a file that is as it should be."""
    head, *events = records(path)
    jsonschema.validate(head, HEAD)
    for event in events:
        jsonschema.validate(event, EVENT)
        if event["name"] == "transport:packet_sent":
            jsonschema.validate(event["data"], PACKET_SENT)
    times = [event["time"] for event in events]
    assert times == sorted(times)
    return head, events


def began_ms(head: dict[str, Any], events: list[dict[str, Any]]) -> float:
    """The time of day, as qvis works it out: absolute unless the format is said."""
    common = head["trace"]["common_fields"]
    since = common["reference_time"] if common.get("time_format") == "relative" else 0
    return float(since + events[0]["time"])


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.sqlog"))


def transfer(make_real_pair: MakeRealPair, qlog: Qlog) -> None:
    """A connection from its begin to when nobody knows of it any more."""
    pair = Pair.of(make_real_pair.client(qlog=qlog), make_real_pair.server(qlog=qlog), CLEAN, 1).connect()
    stream = pair.client.open()
    pair.client.write(stream, bytes(100_000), end=True)
    pair.until_ended(pair.server, stream, 10)
    pair.client.close(Cause.SHUTTING_DOWN.code, "")
    pair.run(60)


def come_and_go(client: Engine) -> None:
    """A connection that nobody answers, until nothing is left of it."""
    client.close(client.connect(SERVER, 0.0), Cause.SHUTTING_DOWN.code, "")
    transmits(client, 0.0)
    while (at := client.get_timer()) is not None:
        client.handle_timer(at)
        transmits(client, at)


def test_each_side_writes_what_qvis_opens(make_real_pair: MakeRealPair, tmp_path: Path) -> None:
    transfer(make_real_pair, Qlog(tmp_path))
    for path, role in zip(files(tmp_path), ("client", "server"), strict=True):
        head, events = trace(path)
        assert head["trace"]["vantage_point"]["type"] == role
        assert abs(began_ms(head, events) - time() * 1000) < AN_HOUR_MS
        names = {event["name"] for event in events}
        assert {"transport:packet_sent", "transport:packet_received", "recovery:metrics_updated"} <= names
        rtts_ms = [event["data"]["latest_rtt"] for event in events if "latest_rtt" in event["data"]]
        assert 0.9 * RTT_MS < rtts_ms[-1] < 10 * RTT_MS


def test_a_name_says_when_the_program_started_and_is_the_same_at_both(
    make_real_pair: MakeRealPair, tmp_path: Path
) -> None:
    transfer(make_real_pair, Qlog(tmp_path))
    client, server = [NAME.fullmatch(path.name) for path in files(tmp_path)]
    assert client is not None
    assert server is not None
    assert (client["role"], server["role"]) == ("client", "server")
    assert client["id"] == server["id"]
    started = datetime.strptime(client["started"], "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=UTC)
    assert abs(started.timestamp() - time()) * 1000 < AN_HOUR_MS


def test_nothing_is_written_unasked(make_real_pair: MakeRealPair, tmp_path: Path) -> None:
    pair = make_real_pair().connect()
    pair.run(1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_ends_between_two_records(
    make_real_pair: MakeRealPair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transfer(make_real_pair, Qlog(tmp_path, file_bytes_max=5000))
    assert len(files(tmp_path)) == 2
    for path in files(tmp_path):
        trace(path)
        assert 2500 < path.stat().st_size <= 5000
        assert caplog.text.count(f"{path.name} ends here: it is as large as it may be") == 1


def test_nothing_is_kept_in_memory(tmp_path: Path) -> None:
    """aioquic's own logger keeps every event until the end."""
    one = Trace(tmp_path / "a.sqlog", is_client=True, odcid=b"\1", file_bytes_max=1000)
    for _ in range(100):
        one.log_event(category="transport", event="packet_sent", data={})
    assert not one._events


def test_what_is_in_the_directory_counts_whoever_wrote_it(
    make_real_pair: MakeRealPair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that starts again and again does not fill the disk; whoever clears up is recorded again."""
    (tmp_path / "of another run.sqlog").write_text("mine")
    (tmp_path / "notes.txt").touch()
    for _ in range(2):
        client = make_real_pair.client(qlog=Qlog(tmp_path, files_max=3))
        for _ in range(3):
            come_and_go(client)
    assert len(files(tmp_path)) == 3
    assert (tmp_path / "of another run.sqlog").read_text() == "mine"
    assert caplog.text.count("it holds 3 files, and gets no more until some are removed") == 2, "once a run"
    (tmp_path / "of another run.sqlog").unlink()
    come_and_go(client)
    assert len(files(tmp_path)) == 3


def test_no_file_is_written_to_twice(
    make_real_pair: MakeRealPair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    qlog = Qlog(tmp_path, "2026-01-02T03-04-05Z")
    flight = first_flight(make_real_pair.client(), 0.0)
    first_id = flight[6 : 6 + flight[5]]  # RFC 9000 section 17.2
    there = tmp_path / f"{qlog.started}-server-{first_id.hex()}.sqlog"
    there.write_text("mine")
    server = make_real_pair.server(qlog=qlog)
    server.receive(flight, len(flight), CLIENT, 0.0)
    assert transmits(server, 0.0), "the handshake goes on"
    assert list(tmp_path.iterdir()) == [there]
    assert there.read_text() == "mine"
    assert f"{there}: File exists" in caplog.text


def test_a_directory_that_is_gone_costs_the_recording_only(make_real_pair: MakeRealPair, tmp_path: Path) -> None:
    gone = Qlog(tmp_path / "gone")
    client, server = make_real_pair.client(qlog=gone), make_real_pair.server(qlog=gone)
    assert Pair.of(client, server, CLEAN, 1).connect().client.connected
