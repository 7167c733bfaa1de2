"""tunnel.session.evidence: what is told when a stream stands still, is lost or is rescued, and when nothing is."""

from collections.abc import Callable
from dataclasses import asdict

import pytest
from tests.sim.model_connection import Faults
from tests.unit.tunnel.session.conftest import CLIENT, SERVER, TARGET, TOKEN, Edge, Pair

from tunnel.engine.settings import EngineLimits
from tunnel.errors import Cause
from tunnel.session import events
from tunnel.session.client import ClientSession
from tunnel.session.events import Evidence, WaitsFor, Why
from tunnel.session.evidence import MOST_STREAMS, RING_MOMENTS, Ring, What
from tunnel.session.settings import SessionSettings

MakePair = Callable[..., Pair]
APPLICATION = "198.51.100.7:50123"


def told(edge: Edge, why: Why | None = None) -> list[Evidence]:
    found = [event for event in edge.of(Evidence) if isinstance(event, Evidence)]
    return [event for event in found if why in (None, event.why)]


def stalls(edge: Edge) -> list[WaitsFor | None]:
    return [state.waits_for for event in told(edge, Why.STALLED) for state in event.streams]


def counted(edge: Edge) -> dict[str, int]:
    return {waits_for: number for waits_for, number in edge.session.ledger.stalls.items() if number}


def open_as(pair: Pair, application: str) -> int:
    session = pair.client.session
    assert isinstance(session, ClientSession)
    stream = session.open(TARGET, b"", pair.world.now, application)
    assert pair.run(5, lambda: events.Replied(stream, Cause.NONE) in pair.client.log)
    return stream


def test_an_idle_stream_is_no_evidence(pair: Pair) -> None:
    stream, _ = pair.open()
    pair.run(60)
    pair.client.session.finish(stream, pair.world.now)
    pair.run(60)
    assert told(pair.client) == told(pair.server) == []
    assert counted(pair.client) == counted(pair.server) == {}


def test_an_application_that_does_not_read(pair: Pair) -> None:
    """Its own proxy knows that."""
    pair.client.takes_bytes = False
    _, far = pair.open()
    pair.server.session.send(far, bytes(20_000), pair.world.now)
    pair.run(SessionSettings().stall_after_s - 0.5)
    assert told(pair.client) == told(pair.server) == []
    pair.run(3)
    assert stalls(pair.client) == [WaitsFor.APPLICATION]
    pair.run(60)
    assert stalls(pair.client) == [WaitsFor.APPLICATION], "told once"
    assert counted(pair.client) == {"application": 1}


def test_what_made_progress_can_stall_again(pair: Pair) -> None:
    pair.client.takes_bytes = False
    stream, far = pair.open()
    for _ in range(2):
        pair.server.session.send(far, bytes(1000), pair.world.now)
        pair.run(10)
        pair.client.session.delivered(stream, 1000, pair.world.now)
        pair.run(3)
    assert stalls(pair.client) == [WaitsFor.APPLICATION] * 2


def test_what_moves_the_other_way_hides_nothing(pair: Pair) -> None:
    """An upload goes on while its response is not read."""
    pair.client.takes_bytes = False
    stream, far = pair.open()
    pair.server.session.send(far, bytes(1000), pair.world.now)
    for _ in range(20):
        pair.client.session.send(stream, bytes(1000), pair.world.now)
        pair.run(0.5)
    assert stalls(pair.client) == [WaitsFor.APPLICATION]
    (state,) = told(pair.client, Why.STALLED)[0].streams
    assert 4 < state.still_s < 8


def test_both_halves_of_a_stream_can_stall(pair: Pair) -> None:
    pair.client.takes_bytes = pair.server.hands_over = False
    stream, far = pair.open()
    pair.server.session.send(far, bytes(1000), pair.world.now)
    pair.client.session.finish(stream, pair.world.now)
    pair.run(20)
    assert stalls(pair.client) == [WaitsFor.APPLICATION, WaitsFor.RECEIPT]


def test_a_sender_without_credit(make_pair: MakePair) -> None:
    pair = make_pair(limits=EngineLimits(stream_window_floor_bytes=64 * 1024, stream_window_cap_bytes=64 * 1024))
    assert pair.run(5, lambda: pair.client.session.connection_count == 1)
    pair.client.takes_bytes = False
    _, far = pair.open()
    data = bytes(10_000_000)
    while data:
        taken = pair.server.session.send(far, data, pair.world.now)
        data = data[taken:] if taken else b""
        pair.run(0.1)
    pair.run(10)
    assert stalls(pair.server) == [WaitsFor.CREDIT]
    assert stalls(pair.client) == [WaitsFor.APPLICATION]


def test_a_request_without_a_connection(make_pair: MakePair) -> None:
    pair = make_pair(settings=SessionSettings(open_timeout_s=20))
    pair.network.unreachable.add(SERVER)
    session = pair.client.session
    assert isinstance(session, ClientSession)
    session.open(TARGET, b"", pair.world.now, APPLICATION)
    pair.run(8)
    (evidence,) = told(pair.client, Why.STALLED)
    assert (evidence.connection, evidence.session_id, evidence.moments) == (None, "", ())
    (state,) = evidence.streams
    assert (state.waits_for, state.application, state.quic_stream) == (WaitsFor.CONNECTION, APPLICATION, None)


def test_a_lost_connection_tells_of_its_streams_on_both_sides(pair: Pair) -> None:
    stream = open_as(pair, APPLICATION)
    pair.network.unreachable.update({CLIENT, SERVER})
    pair.server.session.send(1, b"unheard", pair.world.now)
    pair.client.session.send(stream, b"unheard", pair.world.now)
    pair.run(60)
    (at_client,), (at_server,) = told(pair.client, Why.LOST), told(pair.server, Why.LOST)
    assert at_client.session_id == at_server.session_id != ""
    assert at_client.cause is at_server.cause is Cause.PEER_SILENT
    assert [state.quic_stream for state in at_client.streams] == [state.quic_stream for state in at_server.streams]
    assert at_client.streams[0].application == APPLICATION
    assert any(line.endswith(What.SUSPECT) for line in at_client.moments)
    ends = [event for event in pair.client.log if isinstance(event, Evidence | events.ConnectionDown)]
    assert [type(event) for event in ends if event.connection == at_client.connection] == [
        Evidence,
        events.ConnectionDown,
    ]


def test_a_connection_that_ends_well_tells_nothing(pair: Pair) -> None:
    stream, far = pair.open()
    pair.client.session.finish(stream, pair.world.now)
    pair.server.session.finish(far, pair.world.now)
    pair.run(5)
    pair.server.session.close(Cause.SHUTTING_DOWN, pair.world.now)
    pair.run(5)
    assert told(pair.client) == told(pair.server) == []


def test_a_stranger_leaves_no_lines(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its streams are nobody's, and would use up what others may log."""
    pair = make_pair(settings=SessionSettings(hello_timeout_s=20))
    session = pair.client.session
    assert isinstance(session, ClientSession)
    monkeypatch.setattr(session, "_tell", lambda *message: None)  # It never says HELLO.
    session.open(TARGET, b"", pair.world.now, APPLICATION)
    assert pair.run(5, lambda: pair.server.session.stream_count == 1)
    assert pair.run(60, lambda: pair.server.session.ledger.connections[Cause.HELLO_TIMEOUT] > 0)
    assert told(pair.server) == []
    assert counted(pair.server) == {}


def test_a_rescued_end(make_pair: MakePair) -> None:
    pair = make_pair(faults=Faults(lose_bare_fin=1.0))
    assert pair.run(5, lambda: pair.client.session.connection_count == 1)
    stream, far = pair.open()
    pair.server.session.finish(far, pair.world.now)
    assert pair.run(20, lambda: stream in pair.client.endings)
    (evidence,) = told(pair.client, Why.RESCUED)
    assert [state.quic_stream for state in evidence.streams] == [evidence.streams[0].quic_stream]
    whats = [line.partition("stream ")[2].partition(" ")[2] for line in evidence.moments]
    assert any(what.startswith(What.ANNOUNCED_TO_US) for what in whats)
    assert any(what.startswith(What.RESCUED) for what in whats)


def test_a_stream_that_somebody_asks_about(pair: Pair) -> None:
    """To both sides it is idle; its application knows that something is missing."""
    open_as(pair, "198.51.100.7:1")
    open_as(pair, APPLICATION)
    now = pair.world.now
    found = pair.client.session.evidence_of(APPLICATION, "", None, now)
    assert found is not None
    (state,) = found.streams
    assert (found.why, state.application, state.waits_for) == (Why.ASKED, APPLICATION, None)
    there = pair.server.session.evidence_of("", found.session_id, state.quic_stream, now)
    assert there is not None
    assert [one.quic_stream for one in there.streams] == [state.quic_stream]
    assert there.session_id == found.session_id
    assert any(f"stream {state.quic_stream} opened" in line for line in there.moments)


def test_nobody_is_told_of_by_mistake(pair: Pair) -> None:
    open_as(pair, APPLICATION)
    now = pair.world.now
    known = pair.client.session.evidence_of(APPLICATION, "", None, now)
    assert known is not None
    for side in (pair.client.session, pair.server.session):
        for application, session, qid in (
            ("", "", None),
            ("", "", 4),
            ("", known.session_id, None),
            ("", "00" * 8, known.streams[0].quic_stream),
            ("198.51.100.7:1", "", None),
        ):
            assert side.evidence_of(application, session, qid, now) is None


def test_a_stranger_is_not_told_of_though_its_session_has_no_name_yet(pair: Pair) -> None:
    open_as(pair, APPLICATION)
    server = pair.server.session
    (connection,) = server._connections.values()
    connection.session_id, connection.was_up = b"", False
    (qid,) = connection.streams
    assert server.evidence_of("", "", qid, pair.world.now) is None


def test_a_port_that_is_used_again_leads_to_its_newest_stream(pair: Pair) -> None:
    for _ in range(2):
        open_as(pair, APPLICATION)
    found = pair.client.session.evidence_of(APPLICATION, "", None, pair.world.now)
    assert found is not None
    assert found.streams[0].stream == max(pair.client.session._streams)


def test_no_more_than_so_many_streams_are_listed(pair: Pair) -> None:
    many = MOST_STREAMS + 3
    for number in range(many):
        open_as(pair, f"198.51.100.7:{number + 1}")
    pair.server.session.close(Cause.INTERNAL, pair.world.now)
    pair.run(5)
    (evidence,) = told(pair.client, Why.LOST)
    assert (evidence.count, len(evidence.streams)) == (many, MOST_STREAMS)


def test_nothing_private_is_told(pair: Pair) -> None:
    stream = open_as(pair, APPLICATION)
    pair.client.session.send(stream, b"a secret", pair.world.now)
    pair.run(1)
    pair.server.session.close(Cause.INTERNAL, pair.world.now)
    pair.run(5)
    text = " ".join(str(asdict(event)) for edge in (pair.client, pair.server) for event in told(edge))
    assert text
    assert not any(private in text for private in (str(TARGET.host), "secret", TOKEN.decode(), TOKEN.hex()))


def test_a_ring_keeps_the_last_moments() -> None:
    ring = Ring()
    for at in range(RING_MOMENTS + 10):
        ring.note(float(at), 4 * at, What.FINISHED, at)
    lines = ring.told(RING_MOMENTS + 10.0)
    assert len(lines) == RING_MOMENTS
    assert lines[0] == f"-{RING_MOMENTS}.000 stream 40 end sent at 10"
    assert lines[-1].startswith("-1.000 ")


def test_lines_in_words() -> None:
    ring = Ring()
    ring.note(1.0, None, What.UP)
    ring.note(1.5, 8, What.OPENED)
    assert ring.told(2.0) == ("-1.000 greeting accepted", "-0.500 stream 8 opened")
