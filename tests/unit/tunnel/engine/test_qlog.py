"""--qlog: a file a connection on either side, as JSON text sequences, with both engines."""

import json
from pathlib import Path
from typing import Any

from tests.sim.pair import Pair
from tests.unit.tunnel.engine.harness import CLEAN, MakeRealPair

from tunnel.engine.aioquic.qlog import FILES_MAX, Logger, Trace
from tunnel.errors import Cause


def records(path: Path) -> list[dict[str, Any]]:
    parts = path.read_bytes().split(b"\x1e")
    assert parts[0] == b""
    return [json.loads(part) for part in parts[1:]]


def test_each_side_writes_what_qvis_opens(make_real_pair: MakeRealPair, tmp_path: Path) -> None:
    client = make_real_pair.client(qlog_directory=tmp_path)
    server = make_real_pair.server(qlog_directory=tmp_path)
    pair = Pair.of(client, server, CLEAN, 1).connect()
    stream = pair.client.open()
    pair.client.write(stream, bytes(100_000), end=True)
    pair.until_ended(pair.server, stream, 10)
    pair.client.close(Cause.SHUTTING_DOWN.code, "")
    pair.run(60)  # With its connection a file is closed.
    files = sorted(tmp_path.iterdir())
    assert [path.name.partition("-")[0] for path in files] == ["client", "server"]
    for path in files:
        head, *events = records(path)
        assert head["qlog_format"] == "JSON-SEQ"
        assert head["qlog_version"].startswith("0.3")
        assert "vantage_point" in head["trace"]
        names = {event["name"].rpartition(":")[2] for event in events}
        assert {"packet_sent", "packet_received"} <= names
        times = [event["time"] for event in events]
        assert times == sorted(times)


def test_nothing_is_written_unasked(make_real_pair: MakeRealPair, tmp_path: Path) -> None:
    pair = make_real_pair().connect()
    pair.run(1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_ends_between_two_records(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "a.sqlog", is_client=True, odcid=b"\1", file_bytes_max=1000)
    for number in range(100):
        trace.log_event(category="transport", event="packet_sent", data={"number": number})
    assert 500 < (tmp_path / "a.sqlog").stat().st_size <= 1000
    assert [event["data"]["number"] for event in records(tmp_path / "a.sqlog")[1:]][:2] == [0, 1]
    assert not trace._events, "nothing is kept in memory"


def test_there_are_no_more_files_than_that(tmp_path: Path) -> None:
    logger = Logger(tmp_path)
    traces = [logger.start_trace(True, number.to_bytes(8)) for number in range(FILES_MAX + 3)]
    assert len(list(tmp_path.iterdir())) == FILES_MAX
    for trace in traces:
        trace.log_event(category="transport", event="packet_sent", data={})
        logger.end_trace(trace)


def test_a_directory_that_is_gone_costs_the_recording_only(make_real_pair: MakeRealPair, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    client, server = make_real_pair.client(qlog_directory=gone), make_real_pair.server(qlog_directory=gone)
    assert Pair.of(client, server, CLEAN, 1).connect().client.connected
