"""What two sessions do about endings, silence, restarts and leaving, on virtual time. Rows of the catalogue by id."""

from collections.abc import Callable
from hashlib import sha256

import pytest
from tests.sim.model_connection import Faults
from tests.unit.tunnel.session.conftest import CLIENT, SERVER, TARGET, TOKEN, Pair

from tunnel.engine.settings import EngineLimits
from tunnel.errors import Cause
from tunnel.session import events
from tunnel.session.client import ClientSession
from tunnel.session.connection import State
from tunnel.session.events import Ending
from tunnel.session.server import ServerSession
from tunnel.session.settings import SessionSettings
from tunnel.wire.messages import Direction, Taken

RESTART_BOUND_S = 5.0
DEAD_BOUND_S = 12.0


def client_session(pair: Pair) -> ClientSession:
    assert isinstance(pair.client.session, ClientSession)
    return pair.client.session


def server_session(pair: Pair) -> ServerSession:
    assert isinstance(pair.server.session, ServerSession)
    return pair.server.session


def quiet(pair: Pair) -> bool:
    return pair.client.session.stream_count == 0 and pair.server.session.stream_count == 0


def test_receipts_of_one_turn_leave_together(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call of an engine costs; twenty streams that end at once need one for their receipts."""
    streams = [pair.open() for _ in range(20)]
    written = []
    engine = client_session(pair)._engine
    really_send = engine.send

    def send(connection: int, stream: int, data: bytes | memoryview) -> int:
        written.append(stream)
        return really_send(connection, stream, data)

    monkeypatch.setattr(engine, "send", send)
    for _, far in streams:
        server_session(pair).finish(far, pair.world.now)
    assert pair.run(5, lambda: len(pair.client.endings) == 20)
    pair.run(0.1)
    assert 0 < written.count(0) < 20
    for near, _ in streams:
        client_session(pair).finish(near, pair.world.now)
    assert pair.run(5, lambda: quiet(pair))


@pytest.mark.failure("F01")
def test_f01_connection_outlives_its_streams(pair: Pair) -> None:
    """The server drains the moment it has queued 2 MB and the end: nothing of it is lost."""
    stream, far = pair.open()
    body, session = b"x" * 2_000_000, server_session(pair)
    left = body

    def push(event: object = None) -> None:
        nonlocal left
        left = left[session.send(far, left, pair.world.now) :] if left else left
        if not left:
            session.finish(far, pair.world.now)

    pair.server.on_event = push
    push()
    session.drain(pair.world.now)
    client_session(pair).finish(stream, pair.world.now)
    assert pair.run(30, lambda: quiet(pair) and session.connection_count == 0)
    assert pair.client.received[stream] == body
    assert pair.client.endings[stream] == (Ending.EOF, Cause.NONE)
    downs = [event for event in pair.client.log if isinstance(event, events.ConnectionDown) and event.was_up]
    assert [(down.cause, down.streams_lost) for down in downs] == [(Cause.NONE, 0)]


@pytest.mark.failure("F02")
def test_f02_killed_and_restarted_server_is_noticed_at_once(pair: Pair) -> None:
    stream, _ = pair.open()
    pair.restart_server()
    began = pair.world.now
    assert pair.run(60, lambda: stream in pair.client.endings)
    assert pair.client.endings[stream] == (Ending.LOST, Cause.PEER_RESTARTED)
    assert pair.world.now - began < RESTART_BOUND_S
    pair.open()


@pytest.mark.failure("F02")
def test_f02_killed_server_that_stays_away(pair: Pair) -> None:
    stream, _ = pair.open()
    pair.server.alive = False
    began = pair.world.now
    assert pair.run(60, lambda: stream in pair.client.endings)
    assert pair.client.endings[stream] == (Ending.LOST, Cause.PEER_SILENT)
    assert pair.world.now - began < DEAD_BOUND_S


@pytest.mark.failure("F02")
def test_f02_killed_client_is_noticed_by_the_server(pair: Pair) -> None:
    _, far = pair.open()
    pair.client.alive = False
    began = pair.world.now
    assert pair.run(60, lambda: far in pair.server.endings)
    assert pair.server.endings[far] == (Ending.LOST, Cause.PEER_SILENT)
    assert pair.world.now - began < DEAD_BOUND_S


def test_silence_of_eight_seconds_loses_nothing(pair: Pair) -> None:
    stream, far = pair.open()
    pair.network.unreachable = {CLIENT, SERVER}
    pair.run(8)
    assert pair.client.of(events.ConnectionSuspect)
    pair.network.unreachable = set()
    pair.run(3)
    server_session(pair).send(far, b"still here", pair.world.now)
    assert pair.run(5, lambda: pair.client.received.get(stream) == b"still here")
    assert stream not in pair.client.endings


def test_standing_still_ourselves_proves_nothing(pair: Pair) -> None:
    """A client that was stopped for a minute finds its timers due, and the server's packets not read yet."""
    stream, _ = pair.open()
    pair.run(1)
    session, later = client_session(pair), pair.world.now + 60
    session.handle_timer(later)
    assert session.poll_event() is None or stream not in pair.client.endings
    assert not pair.client.of(events.ConnectionSuspect)


@pytest.mark.failure("F05")
@pytest.mark.failure("F07")
def test_f05_f07_reset_arrives_as_a_reset_with_its_cause(pair: Pair) -> None:
    stream, far = pair.open()
    session = server_session(pair)
    session.send(far, b"half", pair.world.now)
    session.reset(far, Cause.TARGET_RESET, pair.world.now)
    session.stop(far, Cause.TARGET_RESET, pair.world.now)
    assert pair.run(5, lambda: stream in pair.client.endings)
    assert pair.client.endings[stream] == (Ending.RESET, Cause.TARGET_RESET)
    assert events.Stopped(stream, Cause.TARGET_RESET) in pair.client.log
    assert pair.run(5, lambda: quiet(pair))


@pytest.mark.failure("F13")
def test_f13_pause_longer_than_the_idle_timeout(make_pair: Callable[..., Pair]) -> None:
    """Nobody reads for a minute, with an idle timeout of 6 s: keep-alives hold the connection, then all arrives."""
    pair = make_pair(SessionSettings(keep_alive_s=2.0), limits=EngineLimits(idle_timeout_s=6.0))
    stream, far = pair.open()
    pair.client.takes_bytes = False
    body, session = b"y" * 3_000_000, server_session(pair)
    left = body

    def push(event: object = None) -> None:
        nonlocal left
        left = left[session.send(far, left, pair.world.now) :]
        if not left:
            session.finish(far, pair.world.now)

    pair.server.on_event = push
    push()
    pair.run(60)
    assert left, "the window did not stop the sender"
    assert not pair.client.of(events.ConnectionDown)
    pair.client.takes_bytes = True
    client_session(pair).delivered(stream, len(pair.client.received[stream]), pair.world.now)
    assert pair.run(30, lambda: stream in pair.client.endings)
    assert pair.client.received[stream] == body
    assert pair.client.endings[stream] == (Ending.EOF, Cause.NONE)


@pytest.mark.failure("F13")
def test_f13_idle_connection_is_kept_alive(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(SessionSettings(keep_alive_s=2.0), limits=EngineLimits(idle_timeout_s=6.0))
    pair.open()
    pair.run(120)
    assert not pair.client.of(events.ConnectionDown)
    assert not pair.server.of(events.ConnectionDown)


@pytest.mark.failure("F18")
def test_f18_suspect_connection_gets_no_new_streams(pair: Pair) -> None:
    pair.open()
    first = next(iter(pair.client.session._connections))
    pair.server.alive = False
    assert pair.run(20, lambda: bool(pair.client.of(events.ConnectionSuspect)))
    pair.restart_server()
    stream, _ = pair.open()
    assert pair.client.session._streams[stream].connection != first


@pytest.mark.failure("F18")
def test_f18_dead_connection_leaves_the_pool(pair: Pair) -> None:
    """The connection died while nothing was on it. The next request finds out within its bound, the one after works."""
    pair.restart_server()
    session = client_session(pair)
    stream = session.open(TARGET, b"", pair.world.now)
    assert pair.run(60, lambda: any(isinstance(e, events.Replied) and e.stream == stream for e in pair.client.log))
    pair.open()
    assert len(pair.client.session._connections) == 1


@pytest.mark.failure("F23")
def test_f23_lost_fin_is_rescued_and_counted(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(faults=Faults(lose_bare_fin=1.0))
    stream, far = pair.open()
    server_session(pair).send(far, b"whole", pair.world.now)
    pair.run(1)
    server_session(pair).finish(far, pair.world.now)
    assert pair.run(5, lambda: stream in pair.client.endings)
    assert pair.client.received[stream] == b"whole"
    assert pair.client.endings[stream] == (Ending.EOF, Cause.NONE)
    assert pair.client.session.ledger.ends[Direction.TARGET_TO_CLIENT, "rescued"] == 1
    rescued = pair.client.of(events.Rescued)
    assert [(e.direction, e.stream) for e in rescued if isinstance(e, events.Rescued)] == [
        (Direction.TARGET_TO_CLIENT, stream)
    ]
    client_session(pair).finish(stream, pair.world.now)
    assert pair.run(10, lambda: quiet(pair))


@pytest.mark.failure("F23")
def test_f23_without_rescue_the_end_is_missing(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(SessionSettings(end_rescue=False), Faults(lose_bare_fin=1.0))
    stream, far = pair.open()
    server_session(pair).send(far, b"whole", pair.world.now)
    pair.run(1)
    server_session(pair).finish(far, pair.world.now)
    pair.run(60)
    assert stream not in pair.client.endings


@pytest.mark.failure("F12")
@pytest.mark.failure("F15")
@pytest.mark.parametrize("left_by", ["client", "server"])
def test_f12_f15_who_leaves_behind_the_end_gives_credit_and_stream_back(
    make_pair: Callable[..., Pair], left_by: str
) -> None:
    """All bytes and the FIN are there, nobody has taken them, and the socket breaks: again and again."""
    pair = make_pair(limits=EngineLimits(max_streams=16))
    taker = pair.client if left_by == "client" else pair.server
    taker.takes_bytes = False
    taker.session.ended = lambda *_: None  # type: ignore[method-assign]
    for _ in range(50):
        stream, far = pair.open()
        sender, outgoing, incoming = (
            (pair.server.session, far, stream) if left_by == "client" else (pair.client.session, stream, far)
        )
        assert sender.send(outgoing, b"x" * 200_000, pair.world.now) == 200_000, "credit was not given back"
        sender.finish(outgoing, pair.world.now)
        assert pair.run(5, lambda incoming=incoming: incoming in taker.endings)  # type: ignore[misc]
        taker.session.reset(incoming, Cause.APPLICATION_RESET, pair.world.now)
        taker.session.stop(incoming, Cause.APPLICATION_RESET, pair.world.now)
        assert pair.run(5, lambda: quiet(pair))


def test_slow_reader_is_no_rescue(pair: Pair) -> None:
    """END is sent, because DONE does not come; the FIN is there, so nothing is rescued."""
    stream, far = pair.open()
    pair.client.takes_bytes = False
    session = server_session(pair)
    session.send(far, b"z" * 100_000, pair.world.now)
    session.finish(far, pair.world.now)
    pair.run(30)
    assert stream in pair.client.endings
    assert pair.client.session.ledger.ends[Direction.TARGET_TO_CLIENT, "rescued"] == 0


def test_refused_request_is_answered_and_retired(pair: Pair) -> None:
    session = server_session(pair)
    pair.server.on_event = lambda event: (
        session.refused(event.stream, Cause.POLICY_DENIED, pair.world.now) if isinstance(event, events.Dial) else None
    )
    # The edge of this test answers each dial at once; here that answer has to be the refusal.
    session.dialled = lambda *_: None  # type: ignore[method-assign]
    stream = client_session(pair).open(TARGET, b"early", pair.world.now)
    assert pair.run(5, lambda: events.Replied(stream, Cause.POLICY_DENIED) in pair.client.log)
    assert pair.run(5, lambda: quiet(pair))
    assert pair.client.session.ledger.streams["refused"] == 1
    assert sum(pair.client.session.ledger.ends.values()) == 0


def test_wrong_token_is_told_and_tried_again(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair()
    pair.server.session._authenticate = lambda token: None  # type: ignore[attr-defined]
    assert pair.run(10, lambda: len(pair.client.of(events.ConnectionDown)) >= 3)
    causes = {
        event.cause for event in pair.client.of(events.ConnectionDown) if isinstance(event, events.ConnectionDown)
    }
    assert causes == {Cause.TOKEN_REFUSED}
    stream = client_session(pair).open(TARGET, b"", pair.world.now)
    assert pair.run(15, lambda: events.Replied(stream, Cause.TUNNEL_DOWN) in pair.client.log)


@pytest.mark.failure("F25")
def test_f25_one_attempt_at_a_time_with_jitter(pair: Pair) -> None:
    pair.server.alive = False
    for _ in range(50):
        client_session(pair).open(TARGET, b"", pair.world.now)
    pair.run(60)
    wanted = len(pair.client.of(events.ConnectWanted))
    assert 5 <= wanted <= 40, "attempts of about 5 s each, one after the other"
    pair.restart_server()
    assert pair.run(10, lambda: client_session(pair).is_up)


def test_streams_that_a_draining_server_did_not_process_are_replayed(pair: Pair) -> None:
    """OPEN crosses GOAWAY on its way: the stream, its early bytes and its end go to another connection, once."""
    pair.open()
    first = next(iter(pair.client.session._connections))
    session = server_session(pair)
    connection = session._connections[next(iter(session._connections))]
    session._send_away(connection)
    stream = client_session(pair).open(TARGET, b"early bytes", pair.world.now)
    client_session(pair).finish(stream, pair.world.now)
    assert pair.run(10, lambda: events.Replied(stream, Cause.NONE) in pair.client.log)
    assert pair.client.session._streams[stream].connection != first
    far = pair.server.of(events.Dial)[1].stream  # type: ignore[union-attr]
    assert pair.run(5, lambda: far in pair.server.endings)
    assert pair.server.received[far] == b"early bytes"
    assert len(pair.server.of(events.Dial)) == 2


def test_requests_wait_while_the_server_refuses_greetings(pair: Pair) -> None:
    """A draining server closes new connections: requests sent along with HELLO were not looked at."""
    server_session(pair).drain(pair.world.now)
    pair.run(2)
    stream = client_session(pair).open(TARGET, b"early", pair.world.now)
    pair.run(3)
    assert not any(isinstance(event, events.Replied) for event in pair.client.log)
    pair.restart_server()
    assert pair.run(7, lambda: events.Replied(stream, Cause.NONE) in pair.client.log)
    assert pair.run(5, lambda: b"early" in pair.server.received.values())


def test_nothing_of_a_stranger_is_acted_on(make_pair: Callable[..., Pair]) -> None:
    """OPEN follows HELLO at once; it is dialled only when the token was accepted, with its early bytes intact."""
    pair = make_pair()
    stream = client_session(pair).open(TARGET, b"e" * 10_000, pair.world.now)
    assert pair.run(5, lambda: events.Replied(stream, Cause.NONE) in pair.client.log)
    order = [type(event).__name__ for event in pair.server.log]
    assert order[:3] == ["ConnectionUp", "Dial", "Data"]
    assert b"".join(pair.server.received.values()) == b"e" * 10_000


def test_half_closed_linger_ends_a_stream_that_stands_still(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(SessionSettings(half_closed_linger_s=20.0))
    stream, far = pair.open()
    server_session(pair).finish(far, pair.world.now)
    pair.run(15)
    client_session(pair).send(stream, b"progress", pair.world.now)
    pair.run(15)
    assert pair.client.session.stream_count == 1, "a byte of progress sets the linger back"
    assert pair.run(30, lambda: quiet(pair))


@pytest.mark.parametrize("down", [True, False])
def test_slow_reader_is_progress_although_its_peer_sends_nothing(make_pair: Callable[..., Pair], down: bool) -> None:
    """Everything has left the sender, its end too; the other application takes it over a time of many lingers."""
    pair = make_pair(SessionSettings(half_closed_linger_s=20.0, tell_taken_every_s=4.0))
    here, there = pair.open()
    sender, reader = (pair.server, pair.client) if down else (pair.client, pair.server)
    sends, reads = (there, here) if down else (here, there)
    reader.takes_bytes = reader.hands_over = False
    assert sender.session.send(sends, b"x" * 10_000, pair.world.now) == 10_000
    sender.session.finish(sends, pair.world.now)
    assert pair.run(5, lambda: reads in reader.endings)
    for _ in range(10):
        pair.run(15)
        reader.session.delivered(reads, 1_000, pair.world.now)
    since = sender.session.oldest_unconfirmed_end_at()
    assert since is not None
    assert pair.world.now - since < 20, "it does not stand still"
    reader.session.ended(reads, pair.world.now)
    reader.session.finish(reads, pair.world.now)
    sender.session.ended(sends, pair.world.now)
    assert pair.run(5, lambda: sends in sender.endings)
    assert not sender.of(events.Abandoned) + reader.of(events.Abandoned)
    assert pair.run(5, lambda: quiet(pair))


def test_peer_is_not_told_of_each_byte_that_is_taken(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(SessionSettings(tell_taken_every_s=60.0))
    stream, far = pair.open()
    told = []
    pair.server.session._on_taken = lambda *what: told.append(what)  # type: ignore[method-assign]
    for _ in range(300):
        server_session(pair).send(far, b"x" * 100, pair.world.now)
        pair.run(1)
    assert len(pair.client.received[stream]) == 30_000
    assert 4 <= len(told) <= 5


def test_taken_beyond_what_was_sent_is_a_violation(pair: Pair) -> None:
    stream, _ = pair.open()
    server = server_session(pair)
    connection = next(iter(server._connections.values()))
    qid = next(iter(connection.streams))
    server._tell(connection, Taken(qid, 1 << 20))
    assert pair.run(5, lambda: stream in pair.client.endings)
    assert pair.client.endings[stream] == (Ending.LOST, Cause.PROTOCOL_VIOLATION)


def test_taken_without_anything_new_is_no_progress(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(SessionSettings(half_closed_linger_s=20.0))
    stream, _ = pair.open()
    client_session(pair).finish(stream, pair.world.now)
    server = server_session(pair)
    connection = next(iter(server._connections.values()))
    qid = next(iter(connection.streams))
    for _ in range(8):
        server._tell(connection, Taken(qid, 1))
        pair.run(5)
    assert pair.client.of(events.Abandoned) + pair.server.of(events.Abandoned)
    assert quiet(pair)


def test_client_gives_its_answer_when_it_drains(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair()
    pair.network.unreachable = {CLIENT, SERVER}
    session = client_session(pair)
    stream = session.open(TARGET, b"", pair.world.now)
    session.drain(pair.world.now)
    pair.run(0.1)
    assert events.Replied(stream, Cause.SHUTTING_DOWN) in pair.client.log
    assert session.stream_count == 0


def test_early_bytes_are_bounded(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair()
    session = client_session(pair)
    stream = session.open(TARGET, b"a" * 10_000, pair.world.now)
    assert session.send(stream, b"b" * 10_000, pair.world.now) == 16 * 1024 - 10_000
    assert session.send(stream, b"c", pair.world.now) == 0
    assert pair.run(5, lambda: events.Writable(stream) in pair.client.log)
    assert session.send(stream, b"d" * 5_000, pair.world.now) == 5_000


def test_violation_ends_the_connection_with_its_code(pair: Pair) -> None:
    stream, _ = pair.open()
    connection = next(iter(pair.client.session._connections))
    pair.client.session._engine.send(connection, 0, b"\x06\x00")  # A PING without its payload.
    assert pair.run(5, lambda: stream in pair.client.endings)
    assert pair.client.endings[stream] == (Ending.LOST, Cause.PROTOCOL_VIOLATION)


def test_half_closed_request_waits_for_its_connection_and_not_for_the_linger(make_pair: Callable[..., Pair]) -> None:
    """The application has sent its request and its end; the server is away for longer than the linger."""
    pair = make_pair(SessionSettings(half_closed_linger_s=1.0))
    pair.network.unreachable = {CLIENT, SERVER}
    session = client_session(pair)
    stream = session.open(TARGET, b"request", pair.world.now)
    session.finish(stream, pair.world.now)
    pair.run(4)
    pair.network.unreachable = set()
    assert pair.run(5, lambda: events.Replied(stream, Cause.NONE) in pair.client.log)
    assert not pair.client.of(events.Abandoned)


@pytest.mark.failure("F15")
def test_a_full_pool_is_not_called_a_tunnel_that_is_down(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(SessionSettings(max_connections=1, max_streams_per_connection=2))
    for _ in range(2):
        pair.open()
    stream = client_session(pair).open(TARGET, b"", pair.world.now)
    assert pair.run(15, lambda: events.Replied(stream, Cause.LIMIT_REACHED) in pair.client.log)


def with_idle_connections(make_pair: Callable[..., Pair], count: int) -> Pair:
    """So many to one server, and nothing on them."""
    pair = make_pair(SessionSettings(max_streams_per_connection=1))
    client = client_session(pair)
    opened = [pair.open() for _ in range(count)]
    for stream, far in opened:
        client.finish(stream, pair.world.now)
        pair.server.session.finish(far, pair.world.now)
    assert pair.run(2, lambda: quiet(pair))
    assert client.connection_count == count
    return pair


@pytest.mark.failure("F02")
@pytest.mark.failure("F18")
@pytest.mark.parametrize("idle", [2, 3])
def test_f02_f18_idle_connections_to_a_killed_server_keep_no_replacement_out(
    make_pair: Callable[..., Pair], idle: int
) -> None:
    """Nobody waits on them, so that nobody has noticed; a request does not go from one to the next."""
    pair = with_idle_connections(make_pair, idle)
    pair.restart_server()
    stream = client_session(pair).open(TARGET, b"", pair.world.now)
    assert pair.run(RESTART_BOUND_S, lambda: events.Replied(stream, Cause.NONE) in pair.client.log)
    assert pair.run(RESTART_BOUND_S, lambda: client_session(pair).connection_count == 1), "the dead ones are gone"


@pytest.mark.failure("F18")
def test_f18_a_request_that_lost_its_connection_goes_to_a_fresh_one(make_pair: Callable[..., Pair]) -> None:
    """The others to that server look well, and are as dead."""
    pair = with_idle_connections(make_pair, 2)
    client = client_session(pair)
    stream = client.open(TARGET, b"", pair.world.now)
    first = client._connection_of(client._streams[stream])
    assert first is not None
    pair.restart_server()
    client._lose(first, Cause.TRANSPORT_ERROR, "a stateless reset")
    assert client._connection_of(client._streams[stream]) is None
    assert pair.run(1, lambda: events.Replied(stream, Cause.NONE) in pair.client.log)


@pytest.mark.failure("F18")
def test_f18_a_doubted_connection_that_answers_is_used_again(make_pair: Callable[..., Pair]) -> None:
    pair = with_idle_connections(make_pair, 2)
    client = client_session(pair)
    one, other = client._connections.values()
    client._doubt(one)
    client._doubt(other)
    assert not one.takes_streams
    assert pair.run(0.2, lambda: one.liveness.trusted and other.liveness.trusted)
    stream = client.open(TARGET, b"", pair.world.now)
    assert client._connection_of(client._streams[stream]) is one


@pytest.mark.failure("F15")
def test_a_connection_that_is_not_up_yet_has_no_more_streams_than_the_pool_wants(
    make_pair: Callable[..., Pair],
) -> None:
    """What the server would hold for a stranger may be more than that."""
    most = 4
    pair = make_pair(SessionSettings(max_streams_per_connection=most))
    session = client_session(pair)
    opened = [session.open(TARGET, b"", pair.world.now) for _ in range(3 * most)]
    seen = 0

    def all_answered() -> bool:
        nonlocal seen
        seen = max([seen, *(len(connection.streams) for connection in session._connections.values())])
        return all(events.Replied(stream, Cause.NONE) in pair.client.log for stream in opened)

    assert pair.run(2, all_answered)
    assert seen == most


def test_a_full_pool_of_suspects_does_not_keep_their_replacement_out(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(SessionSettings(max_connections=1))
    pair.open()
    pair.restart_server()
    began = pair.world.now
    assert pair.run(5, lambda: bool(pair.client.of(events.ConnectionSuspect)))
    stream = client_session(pair).open(TARGET, b"", pair.world.now)
    assert pair.run(5, lambda: events.Replied(stream, Cause.NONE) in pair.client.log)
    assert pair.world.now - began < RESTART_BOUND_S


@pytest.mark.failure("F02")
def test_f02_server_that_restarts_in_the_middle_of_the_greeting(make_pair: Callable[..., Pair]) -> None:
    """Neither side has anything of the other then: only silence tells, and the greeting's own bound is much longer."""
    pair = make_pair()
    session = client_session(pair)
    assert pair.run(5, lambda: any(c.state is State.GREETING for c in session._connections.values()))
    silent, stream = (session.open(TARGET, early, pair.world.now) for early in (b"", b"said"))
    pair.run(0.001)
    pair.restart_server()
    began = pair.world.now
    assert pair.run(5, lambda: session.is_up and events.Replied(stream, Cause.HELLO_TIMEOUT) in pair.client.log)
    assert pair.run(0.5, lambda: events.Replied(silent, Cause.NONE) in pair.client.log)
    assert pair.world.now - began < pair.settings.ping_after_s + pair.settings.suspect_after_s + 0.5


@pytest.mark.failure("F02")
def test_f02_a_request_without_an_answer_is_made_again_if_its_application_has_said_nothing(pair: Pair) -> None:
    """To say it twice is not ours to decide; to connect twice is harmless."""
    pair.open()  # So that silence is noticed, as where there is any load.
    pair.server.alive = False
    session = client_session(pair)
    silent, said = (session.open(TARGET, early, pair.world.now) for early in (b"", b"said"))
    half_closed = session.open(TARGET, b"", pair.world.now)
    session.finish(half_closed, pair.world.now)
    pair.run(0.5)
    pair.restart_server()
    assert pair.run(RESTART_BOUND_S, lambda: events.Replied(said, Cause.PEER_RESTARTED) in pair.client.log)
    for stream in (silent, half_closed):
        assert pair.run(0.5, lambda stream=stream: events.Replied(stream, Cause.NONE) in pair.client.log)  # type: ignore[misc]
    assert pair.run(0.5, lambda: Ending.EOF in {ending for ending, _ in pair.server.endings.values()})
    assert b"said" not in pair.server.received.values()


@pytest.mark.failure("F02")
def test_f02_a_request_is_made_again_once(pair: Pair) -> None:
    """Perhaps it is what the server dies of."""
    session = client_session(pair)
    stream = session.open(TARGET, b"", pair.world.now)
    for number in range(2):
        assert pair.run(5, lambda: bool(session._streams[stream].qid))
        (connection,) = [each for each in session._connections.values() if each.streams]
        session._kill(connection, Cause.TRANSPORT_ERROR, "planted")
        pair.run(0.001)
        assert (events.Replied(stream, Cause.TRANSPORT_ERROR) in pair.client.log) == bool(number)


@pytest.mark.failure("F25")
def test_f25_server_that_lets_in_and_falls_over_is_left_alone_for_a_while(pair: Pair) -> None:
    for _ in range(20):
        connection = next(iter(pair.server.session._connections.values()), None)
        if connection is not None:
            pair.server.session._kill(connection, Cause.INTERNAL, "fell over")
        pair.run(0.1)
    assert len(pair.client.of(events.ConnectWanted)) <= 12


class TestTokensThatChange:
    def test_whose_token_was_taken_away_is_put_out_with_all_its_streams(self, pair: Pair) -> None:
        stream, at_server = pair.open()
        server = server_session(pair)
        assert server.use_tokens({sha256(b"another").digest(): "tester"}.get, pair.world.now) == 1
        assert pair.run(1, lambda: stream in pair.client.endings)
        assert pair.client.endings[stream] == (Ending.LOST, Cause.TOKEN_REFUSED)
        assert pair.server.endings[at_server] == (Ending.LOST, Cause.TOKEN_REFUSED)
        assert pair.run(1, lambda: server.ledger.connections[Cause.TOKEN_REFUSED] >= 2), "it tried again"
        assert server.connection_count == server.stream_count == 0

    @pytest.mark.parametrize("name", ["tester", "another name"])
    def test_who_still_has_one_stays(self, pair: Pair, name: str) -> None:
        """Under the name it has; that of another is another's."""
        _, at_server = pair.open()
        server = server_session(pair)
        tokens = {sha256(TOKEN).digest(): name, sha256(b"another").digest(): "more"}
        stays = name == "tester"
        assert server.use_tokens(tokens.get, pair.world.now) == (not stays)
        pair.run(1)
        assert (at_server not in pair.server.endings) == stays

    def test_no_token_is_kept(self, pair: Pair) -> None:
        connection = next(iter(pair.server.session._connections.values()))
        assert TOKEN not in str([getattr(connection, name) for name in connection.__slots__]).encode()
        assert connection.token_digest == sha256(TOKEN).digest()
        assert "digest" not in repr(connection)
