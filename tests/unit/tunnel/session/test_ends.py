"""The FIN ledger of both sides: an end that was received is confirmed, or abandoned with its stream."""

from collections.abc import Callable

import pytest
from tests.sim.model_connection import Faults
from tests.unit.tunnel.session.conftest import CLIENT, SERVER, TARGET, Edge, Pair

from tunnel.errors import Cause
from tunnel.session import events
from tunnel.session.client import ClientSession
from tunnel.session.ledger import END_EVENTS
from tunnel.session.server import ServerSession
from tunnel.session.settings import SessionSettings
from tunnel.wire.messages import Direction

UP, DOWN = Direction.CLIENT_TO_TARGET, Direction.TARGET_TO_CLIENT
NONE = dict.fromkeys(END_EVENTS, 0)
CONFIRMED = NONE | {"received": 1, "forwarded": 1, "confirmed": 1}
ABANDONED = NONE | {"received": 1, "forwarded": 1, "abandoned": 1}
NOT_FORWARDED = NONE | {"received": 1, "abandoned": 1}


def ends(edge: Edge, direction: Direction) -> dict[str, int]:
    return {event: edge.session.ledger.ends[direction, event] for event in END_EVENTS}


def client_session(pair: Pair) -> ClientSession:
    assert isinstance(pair.client.session, ClientSession)
    return pair.client.session


def quiet(pair: Pair) -> bool:
    return pair.client.session.stream_count == 0 and pair.server.session.stream_count == 0


def test_clean_ends_are_confirmed(pair: Pair) -> None:
    stream, far = pair.open()
    pair.client.session.finish(stream, pair.world.now)
    pair.server.session.finish(far, pair.world.now)
    assert pair.run(5, lambda: quiet(pair))
    for edge in (pair.client, pair.server):
        assert (ends(edge, UP), ends(edge, DOWN)) == (CONFIRMED, CONFIRMED)


def test_an_end_is_received_when_it_is_read_and_forwarded_when_all_before_it_is_sent(pair: Pair) -> None:
    stream, _ = pair.open()
    session = pair.client.session
    session.end_read(stream)
    session.end_read(stream)
    assert ends(pair.client, UP) == NONE | {"received": 1}
    session.finish(stream, pair.world.now)
    assert ends(pair.client, UP) == NONE | {"received": 1, "forwarded": 1}


@pytest.mark.parametrize("direction", Direction)
def test_an_end_that_was_read_and_whose_stream_was_reset(pair: Pair, direction: Direction) -> None:
    """The socket broke while bytes in front of the end were waiting to be sent."""
    stream, far = pair.open()
    edge, number = (pair.client, stream) if direction is UP else (pair.server, far)
    edge.session.end_read(number)
    edge.session.reset(number, Cause.APPLICATION_RESET, pair.world.now)
    edge.session.stop(number, Cause.APPLICATION_RESET, pair.world.now)
    edge.session.end_read(number)  # Of a stream that has ended: no end.
    other = pair.server if direction is UP else pair.client
    assert pair.run(5, lambda: bool(other.endings))
    other.session.reset(far if direction is UP else stream, Cause.TARGET_RESET, pair.world.now)
    assert pair.run(5, lambda: quiet(pair))
    assert ends(edge, direction) == NOT_FORWARDED
    assert ends(other, direction) == NONE


def test_half_close_in_front_of_a_refusal(pair: Pair) -> None:
    session = pair.server.session
    assert isinstance(session, ServerSession)

    def refuse_later(event: events.Event) -> None:
        if isinstance(event, events.Dial):
            pair.world.after(1.0, lambda: session.refused(event.stream, Cause.DIAL_FAILED, pair.world.now))

    pair.server.on_event = refuse_later
    # The edge of this test answers each dial and takes each end at once; here the target is not there yet.
    session.dialled = session.ended = lambda *_: None  # type: ignore[method-assign, assignment]
    stream = client_session(pair).open(TARGET, b"request", pair.world.now)
    pair.client.session.finish(stream, pair.world.now)
    assert pair.run(5, lambda: events.Replied(stream, Cause.DIAL_FAILED) in pair.client.log)
    assert pair.run(5, lambda: quiet(pair))
    assert ends(pair.client, UP) == ABANDONED
    assert ends(pair.server, UP) == NOT_FORWARDED
    assert ends(pair.client, DOWN) == ends(pair.server, DOWN) == NONE, "a refusal is no end"


def test_half_close_of_a_request_that_found_no_connection(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair()
    pair.network.unreachable = {CLIENT, SERVER}
    stream = client_session(pair).open(TARGET, b"request", pair.world.now)
    pair.client.session.finish(stream, pair.world.now)
    assert pair.run(15, lambda: events.Replied(stream, Cause.TUNNEL_DOWN) in pair.client.log)
    assert ends(pair.client, UP) == ABANDONED


def test_an_end_that_died_on_its_way_with_the_connection(pair: Pair) -> None:
    stream, _ = pair.open()
    pair.network.unreachable = {CLIENT, SERVER}
    pair.client.session.finish(stream, pair.world.now)
    assert pair.run(30, lambda: quiet(pair))
    assert ends(pair.client, UP) == ABANDONED
    assert ends(pair.server, UP) == NONE


def test_an_end_that_was_handed_over_when_the_connection_was_gone(pair: Pair) -> None:
    """The application has it, but the sender will never hear so."""
    pair.client.session.ended, ended = lambda *_: None, pair.client.session.ended  # type: ignore[method-assign]
    stream, far = pair.open()
    pair.server.session.finish(far, pair.world.now)
    assert pair.run(5, lambda: stream in pair.client.endings)
    for edge in (pair.client, pair.server):
        edge.session.close(Cause.SHUTTING_DOWN, pair.world.now)
    ended(stream, pair.world.now)
    assert pair.run(5, lambda: quiet(pair))
    assert ends(pair.client, DOWN) == ends(pair.server, DOWN) == ABANDONED


def test_an_end_that_the_other_side_did_not_want(pair: Pair) -> None:
    """All of it is there, and the application breaks before it has taken the end."""
    pair.client.session.ended = lambda *_: None  # type: ignore[method-assign]
    stream, far = pair.open()
    pair.server.session.finish(far, pair.world.now)
    assert pair.run(5, lambda: stream in pair.client.endings)
    pair.client.session.reset(stream, Cause.APPLICATION_RESET, pair.world.now)
    pair.client.session.stop(stream, Cause.APPLICATION_RESET, pair.world.now)
    assert pair.run(5, lambda: quiet(pair))
    assert ends(pair.client, DOWN) == NOT_FORWARDED
    assert ends(pair.server, DOWN) == ABANDONED


def test_an_end_that_never_came_through_is_abandoned_after_the_linger(make_pair: Callable[..., Pair]) -> None:
    """The founding bug without its rescue: the ledger says on which way the end was lost."""
    settings = SessionSettings(end_rescue=False, half_closed_linger_s=20.0)
    pair = make_pair(settings, Faults(lose_bare_fin=1.0))
    _, far = pair.open()
    pair.server.session.finish(far, pair.world.now)
    pair.run(10)
    assert ends(pair.server, DOWN) == NONE | {"received": 1, "forwarded": 1}
    assert pair.run(60, lambda: quiet(pair))
    assert ends(pair.server, DOWN) == ABANDONED
    assert ends(pair.client, DOWN) == NONE


@pytest.mark.parametrize("lost", [False, True])
def test_the_end_of_a_replayed_request_counts_once(pair: Pair, lost: bool) -> None:
    """It was sent twice, to two connections; the application ended it once."""
    pair.open()
    session = pair.server.session
    assert isinstance(session, ServerSession)
    session._send_away(next(iter(session._connections.values())))
    stream = client_session(pair).open(TARGET, b"early bytes", pair.world.now)
    pair.client.session.finish(stream, pair.world.now)
    replayed = pair.client.session._streams[stream]
    assert pair.run(5, lambda: replayed.replayed)
    if lost:
        pair.server.alive = False
    assert pair.run(30, lambda: replayed.send.end_open_at is None)
    assert ends(pair.client, UP) == (ABANDONED if lost else CONFIRMED)
