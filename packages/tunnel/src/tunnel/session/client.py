"""The client's session: a small pool of connections to one server, and requests that find their way through it.

Rules:
- A stream's id and its OPEN happen in one synchronous step (F16); OPEN waits for nobody's bytes (F17).
- A request waits a bounded time for a connection, then for a REPLY, and always gets an answer (F15).
- One connection is being made at a time, after a jittered back-off where the last try failed (F25). One that falls
  silent before its WELCOME (its server ended in the middle of the greeting) does not keep its replacement out.
- A try goes through all addresses of the server's name: one that refuses makes room for the next at once, one that is
  silent after `next_address_s`, and the first WELCOME wins. Where a server drains, refused or fell silent comes last.
- A connection that is suspect, leaving or full gets no new streams (F18). A suspect one whose replacement finds the
  server restarted is lost at once (F02).
- Where one is suspect or lost, the others to the same instance are doubted: each is probed, and gets no new streams and
  keeps no replacement out before it has answered. A request goes from no dead connection to the next one.
- A stream that a draining server did not process is replayed, once, with the bytes sent so far (at most `early_bytes`).
  So is one without a REPLY whose connection was lost, if its application has said nothing on it.
"""

import math
from collections import deque
from collections.abc import Sequence
from random import Random

from tunnel.engine import port
from tunnel.errors import Cause, cause_of_code
from tunnel.session import events
from tunnel.session.base import Session
from tunnel.session.connection import Connection, State
from tunnel.session.events import Ending
from tunnel.session.evidence import What
from tunnel.session.settings import SessionSettings
from tunnel.session.stream import ReceiveHalf, ReceiveState, SendHalf, SendState, Stream
from tunnel.target import Target
from tunnel.wire.codec import Decoder, WireError, encode
from tunnel.wire.messages import VERSION, Direction, Done, GoAway, Hello, Kind, Open, Outcome, Reply, Welcome

_GREETING_STREAMS = 15
"""Streams before WELCOME, besides the control stream: what the server holds for a stranger (PROTOCOL.md)."""

_NOT_PROCESSED = (
    Cause.TOKEN_REFUSED,
    Cause.VERSION_UNSUPPORTED,
    Cause.HELLO_TIMEOUT,
    Cause.SERVER_BUSY,
    Cause.TOO_MANY_CONNECTIONS,
)
"""What a server closes a connection with whose HELLO it did not accept."""


class ClientSession(Session):
    """The tunnel of one proxy client. Asks for its first connection as soon as it exists."""

    sends = Direction.CLIENT_TO_TARGET

    def __init__(
        self, engine: port.Engine, settings: SessionSettings, *, token: bytes, rng: Random, now: float
    ) -> None:
        super().__init__(engine, settings, rng, now)
        self._token = token
        self._waiting: deque[int] = deque()
        self._resolving = False
        self._failures = 0
        self._backing_off = False
        self._draining = False
        self._untried: deque[port.Address] = deque()
        """Addresses that this try has not come to yet."""
        self._shunned: dict[port.Address, float] = {}
        """Since when an address that the name had last is no good. One that is well again is taken out."""
        self._ensure_connection()

    # The edge.

    def open(self, target: Target, early: bytes, now: float, application: str = "") -> int:
        """A stream to `target`; `early` are at most `early_bytes` behind the SOCKS request. `Replied` follows.

        `application` is what evidence calls whoever asks.
        """
        self._now = now
        stream = self._new_stream()
        stream.target, stream.early, stream.application = target, bytearray(early), application
        self.ledger.bytes[self.sends] += len(early)
        if self._draining or len(self._waiting) >= self.settings.max_waiting_opens:
            self._answer_failure(stream, Cause.SHUTTING_DOWN if self._draining else Cause.LIMIT_REACHED)
            return stream.number
        stream.open_deadline = now + self.settings.open_timeout_s
        self._waiting.append(stream.number)
        self._place_waiting()
        if stream.qid is None:
            self._timers.set(("open", stream.number), stream.open_deadline)
        return stream.number

    def connect(self, addresses: Sequence[port.Address], now: float) -> None:
        """The answer to `ConnectWanted`: what the server's name resolves to, at least one address."""
        self._now = now
        self._resolving = False
        if not self._draining:
            self._shunned = {address: self._shunned[address] for address in addresses if address in self._shunned}
            best_first = sorted(addresses, key=lambda address: self._shunned.get(address, -math.inf))
            self._untried = deque(best_first[: self.settings.max_addresses])
            self._try_next()

    def connect_failed(self, now: float) -> None:
        """The other answer: the server's name does not resolve."""
        self._now = now
        self._resolving = False
        self._back_off()

    def drain(self, now: float) -> None:
        """No new streams; connections close as they run empty. `connection_count` tells when that is done."""
        self._now = now
        self._draining = True
        self._untried.clear()
        for number in list(self._waiting):
            self._give_up(self._streams[number], Cause.SHUTTING_DOWN)
        for connection in list(self._connections.values()):
            if connection.state is State.CONNECTING or (connection.state is State.GREETING and not connection.streams):
                self._kill(connection, Cause.SHUTTING_DOWN, "stopped before the handshake was done")
            else:
                self._begin_leaving(connection)

    @property
    def is_up(self) -> bool:
        """Whether a new request would find a connection."""
        return any(
            connection.state is State.UP and not connection.liveness.suspect
            for connection in list(self._connections.values())
        )

    # Connections.

    def _ensure_connection(self) -> None:
        if self._draining or self._resolving or self._backing_off or self._untried:
            return
        healthy = [
            connection
            for connection in self._connections.values()
            if connection.state in (State.GREETING, State.UP) and connection.liveness.trusted
        ]
        making = bool(self._fresh())
        # Those that are suspect, doubted or leaving must not keep their replacement out; they are bounded all the same.
        usable = len(healthy) + making
        most = self.settings.max_connections
        crowded = usable >= most or len(self._connections) >= 2 * most
        wanted = not healthy or (self._waiting and not any(connection.takes_streams for connection in healthy))
        if wanted and not making and not crowded:
            self._resolving = True
            self._events.append(events.ConnectWanted())

    def _try_next(self) -> None:
        address = self._untried.popleft()
        connection = self._adopt(self._engine.connect(address, self._now), State.CONNECTING)
        connection.address = address
        if self._untried:
            self._timers.set(("address", 0), self._now + self.settings.next_address_s)

    def _try_next_if_silent(self) -> None:
        """An address that has answered, if only with a handshake, has the time of the greeting."""
        if self._untried and all(connection.state is State.CONNECTING for connection in self._fresh()):
            self._try_next()

    def _fresh(self) -> list[Connection]:
        """Connections that are being made and have not fallen silent."""
        making = (State.CONNECTING, State.GREETING)
        return [each for each in self._connections.values() if each.state in making and not each.liveness.suspect]

    def _end_try(self) -> None:
        """One address has let us in: what is on its way to the others is not needed."""
        self._untried.clear()
        for other in self._fresh():
            if other.state is State.CONNECTING:
                self._kill(other, Cause.NONE, "another address answered first")

    def _shun(self, connection: Connection) -> None:
        assert connection.address is not None
        self._shunned[connection.address] = self._now

    def _back_off(self) -> None:
        """Full jitter: uniform up to a ceiling that doubles with each failure, up to the cap."""
        settings = self.settings
        ceiling_s = min(settings.reconnect_cap_s, settings.reconnect_floor_s * 2 ** min(self._failures, 16))
        self._failures += 1
        self._backing_off = True
        delay_s = self._rng.uniform(settings.reconnect_floor_s, max(ceiling_s, settings.reconnect_floor_s))
        self._timers.set(("reconnect", 0), self._now + delay_s)

    def _on_connected(self, connection: Connection) -> None:
        connection.state = State.GREETING
        connection.max_streams = min(self.settings.max_streams_per_connection, _GREETING_STREAMS)
        self._timers.set(("greeting", connection.number), self._now + self.settings.hello_timeout_s)
        if self._engine.open(connection.number) != port.CONTROL_STREAM:
            self._violation(connection, "the server allows no control stream")
            return
        self._tell(connection, Hello(VERSION, 0, self._token))
        self._flush_controls()  # In front of the streams that have waited for it.
        self._place_waiting()

    def _on_greeting(self, connection: Connection, message: Hello | Welcome) -> None:
        if not isinstance(message, Welcome) or connection.was_up:
            raise WireError(f"{type(message).__name__} is not expected")
        self._timers.cancel(("greeting", connection.number))
        connection.ring.note(self._now, None, What.UP)
        connection.was_up = True
        connection.session_id, connection.instance_id = message.session_id, message.instance_id
        connection.max_streams = min(self.settings.max_streams_per_connection, message.max_streams)
        if connection.state is State.GREETING:
            connection.state = State.UP
        assert connection.address is not None
        self._shunned.pop(connection.address, None)
        self._events.append(
            events.ConnectionUp(
                connection.number,
                connection.address,
                None,
                message.session_id.hex(),
                message.instance_id.hex(),
                self._now - connection.started_at,
            )
        )
        self._end_try()
        self._check_liveness(connection)
        for other in list(self._connections.values()):
            self._watch_spare(other)
            self._compare_instances(suspect=other, newer=connection)
        self._place_waiting()

    def _on_suspect(self, connection: Connection) -> None:
        self._shun(connection)
        self._try_next_if_silent()
        self._doubt_instance(connection)
        for other in list(self._connections.values()):
            self._compare_instances(suspect=connection, newer=other)
        self._ensure_connection()

    def _compare_instances(self, *, suspect: Connection, newer: Connection) -> None:
        """At another address another instance is what is expected: then only silence tells."""
        if not (suspect.liveness.suspect and newer.was_up and newer.started_at > suspect.started_at):
            return
        if suspect.address != newer.address:
            return
        if suspect.state is State.GREETING:  # Whoever owed it a WELCOME has greeted its replacement meanwhile.
            self._kill(suspect, Cause.HELLO_TIMEOUT, Cause.HELLO_TIMEOUT.summary)
        elif suspect.state is State.UP and newer.instance_id != suspect.instance_id:
            self._kill(suspect, Cause.PEER_RESTARTED, Cause.PEER_RESTARTED.summary)
        # Where a server drains, another instance is what is expected there too.

    def _doubt_instance(self, of: Connection) -> None:
        """What became of one may have become of all to its server; where nobody waits for anything, nobody notices."""
        for other in list(self._connections.values()):
            if other is not of and other.state is State.UP and of.was_up and other.instance_id == of.instance_id:
                self._doubt(other)

    def _doubt(self, connection: Connection) -> None:
        if connection.liveness.doubt():
            self._check_liveness(connection)

    def _on_down(self, connection: Connection, cause: Cause) -> None:
        if cause is not Cause.NONE:
            self._shun(connection)
            self._doubt_instance(connection)
        if connection.was_up and self._now - connection.started_at >= self.settings.reconnect_cap_s:
            self._failures = 0
        elif not connection.was_up and (self._untried or self._fresh()):  # The try is not over.
            self._try_next_if_silent()
        elif connection.was_up or cause is not Cause.NONE or not self.is_up:
            self._back_off()  # Also a server that lets us in and falls over at once is left alone for a while.
        self._place_waiting()

    def _on_goaway(self, connection: Connection, message: GoAway) -> None:
        connection.ring.note(self._now, None, What.GOAWAY)
        self._events.append(events.GoAwayReceived(connection.number))
        self._leave_server(connection)
        for qid, stream in sorted(connection.streams.items()):
            if qid > message.last_stream and self._can_replay(stream):
                self._replay(stream)
        self._place_waiting()

    def _leave_server(self, draining: Connection) -> None:
        """It drains, and says so on each of its connections; on some that word is still on the way."""
        self._shun(draining)
        for connection in list(self._connections.values()):
            if connection is draining or (connection.was_up and connection.instance_id == draining.instance_id):
                self._begin_leaving(connection)

    def _on_streams_available(self, connection: Connection) -> None:
        self._place_waiting()

    def _on_retired(self, connection: Connection) -> None:
        if not connection.streams:
            self._watch_spare(connection)
        if self._waiting:
            self._place_waiting()

    def _watch_spare(self, connection: Connection) -> None:
        if len(self._connections) > 1:
            self._timers.set(("spare", connection.number), self._now + self.settings.spare_connection_s)

    def _close_spare(self, connection: Connection) -> None:
        others = (other for other in self._connections.values() if other is not connection)
        if not connection.streams and any(other.state is State.UP and other.liveness.trusted for other in others):
            self._begin_leaving(connection)

    # Requests.

    def _place_waiting(self) -> None:
        placed = False
        while self._waiting:
            connection = self._connection_with_room()
            if connection is None:
                break
            qid = self._engine.open(connection.number)
            if qid is None:
                connection.full = True
                continue
            self._send_open(self._streams[self._waiting.popleft()], connection, qid)
            placed = True
        if self._waiting or not placed:
            self._ensure_connection()

    def _connection_with_room(self) -> Connection | None:
        for connection in self._connections.values():
            if connection.takes_streams:
                return connection
        return None

    def _send_open(self, stream: Stream, connection: Connection, qid: int) -> None:
        assert stream.target is not None
        assert stream.early is not None
        self._timers.cancel(("open", stream.number))
        self._timers.set(("reply", stream.number), self._now + self.settings.reply_timeout_s)
        stream.send.outbox += encode(Open(Kind.CONNECT, stream.target)) + stream.early
        self._attach(stream, connection, qid)
        self._flush(stream)
        if stream.receive.state is ReceiveState.RECEIPTED:  # Its application had enough while it waited.
            self._engine.stop(connection.number, qid, Cause.CANCELLED.code)
            self._tell(connection, Done(qid, stream.receive.direction, 0, Outcome.CLOSED))

    def _send(self, stream: Stream, data: bytes | memoryview) -> int:
        if stream.early is None:
            return super()._send(stream, data)
        taken = bytes(data[: self.settings.early_bytes - len(stream.early)])
        stream.early += taken
        if stream.qid is not None:
            stream.send.outbox += taken
            self._flush(stream)
        return len(taken)

    def _on_new_stream(self, connection: Connection, qid: int) -> Stream | None:
        if qid & 3:
            self._violation(connection, f"the server opened stream {qid}")
        return None  # One of ours that is retired.

    def _on_head(self, stream: Stream, message: Open | Reply) -> None:
        if not isinstance(message, Reply):
            self._violation_of(stream, "a stream of the server's begins with OPEN")
            return
        self._timers.cancel(("reply", stream.number))
        if message.status:
            stream.refused = True
            self._answer(stream, cause_of_code(message.status, Cause.DIAL_FAILED))
            return
        stream.answered = True
        was_short = stream.early is not None and len(stream.early) >= self.settings.early_bytes
        stream.early = None
        if not stream.detached:
            self._events.append(events.Replied(stream.number, Cause.NONE, message.bound))
            if was_short and stream.send.state is SendState.OPEN:
                self._events.append(events.Writable(stream.number))

    def _on_headless_end(self, stream: Stream, ending: Ending, cause: Cause) -> None:
        if ending is Ending.RESET and cause is Cause.RETRY_ELSEWHERE and self._can_replay(stream):
            self._retry(stream)
            return
        self._timers.cancel(("reply", stream.number))
        stream.head = None
        stream.refused = True
        self._answer(stream, cause)
        self._end_receiving(stream, ending, cause)

    def _answer(self, stream: Stream, cause: Cause) -> None:
        """The request failed: the edge hears it once, and has no part in what is left of the stream."""
        if not stream.detached:
            stream.detached = True
            self._events.append(events.Replied(stream.number, cause))
        stream.early = None
        self._reset(stream, Cause.REFUSED)

    def _answer_failure(self, stream: Stream, cause: Cause) -> None:
        """The same for a stream that never got onto a connection."""
        stream.refused = True
        self._answer(stream, cause)
        self._forget(stream)

    def _give_up(self, stream: Stream, cause: Cause) -> None:
        if stream.number in self._waiting:
            self._waiting.remove(stream.number)
        self._answer_failure(stream, cause)

    def reset(self, stream: int, cause: Cause, now: float) -> None:
        """See `Session.reset`. A request that still waits for a connection is taken back."""
        found = self._streams.get(stream)
        if found is not None and found.qid is None and stream in self._waiting:
            self._now = now
            found.detached = True
            self._give_up(found, cause)
        else:
            super().reset(stream, cause, now)

    # Replay.

    def _on_stopped(self, stream: Stream, cause: Cause) -> None:
        """See `Session._on_stopped`. Of a stream that was not processed STOP_SENDING may be the first to arrive."""
        if cause is Cause.RETRY_ELSEWHERE and self._can_replay(stream):
            self._retry(stream)
        else:
            super()._on_stopped(stream, cause)

    def _retry(self, stream: Stream) -> None:
        """The server drains and says so by this stream; its GOAWAY is on the way."""
        connection = self._connection_of(stream)
        self._replay(stream)
        if connection is not None:
            self._leave_server(connection)
        self._place_waiting()

    def _can_replay(self, stream: Stream) -> bool:
        wanted = stream.send.state is not SendState.RESET and stream.receive.state is ReceiveState.OPEN
        fresh = stream.early is not None and not stream.replayed
        return wanted and fresh and not stream.detached and not self._draining

    def _replay(self, stream: Stream) -> None:
        """The stream starts again elsewhere; a nameless one stays behind for its receipts."""
        connection = self._connection_of(stream)
        assert connection is not None
        assert stream.qid is not None
        ghost = self._new_stream()
        ghost.send, ghost.receive, ghost.detached, ghost.refused = stream.send, stream.receive, True, True
        ghost.connection, ghost.qid, ghost.head = stream.connection, stream.qid, None
        connection.streams[stream.qid] = ghost
        stream.replayed = True
        self._wait_again(stream)
        ghost.counted_half_closed, stream.counted_half_closed = stream.counted_half_closed, None
        self._count_half_closed(stream)
        self._reset(ghost, Cause.RETRY_ELSEWHERE)
        self._end_receiving(ghost, Ending.RESET, Cause.RETRY_ELSEWHERE)

    def _wait_again(self, stream: Stream) -> None:
        """Back to the front of those that wait for a connection, with the time that is left, as if never sent."""
        for kind in ("reply", "end", "rescue"):
            self._timers.cancel((kind, stream.number))
        old = stream.send
        stream.send = SendHalf(old.direction, old.state, ended_at=old.ended_at, end_open_at=old.end_open_at)
        old.end_open_at = None  # The application's end goes along; what stays behind owes nobody anything.
        stream.receive = ReceiveHalf(stream.receive.direction)
        stream.connection, stream.qid, stream.head = None, None, Decoder()
        self._timers.set(("open", stream.number), stream.open_deadline)
        self._waiting.appendleft(stream.number)

    def _lose(self, connection: Connection, cause: Cause, detail: str, by_peer: bool = False) -> None:
        """See `Session._lose`. A server that refused the greeting has looked at no stream.

        Any other may have, and what an application said is not said to a target again. But a stream on which it has
        said nothing yet is opened again, once: at worst the target has seen a connection that was lost.
        """
        unseen = by_peer and cause in _NOT_PROCESSED and not connection.was_up
        for qid, stream in sorted(connection.streams.items(), reverse=True):
            waits = stream.early is not None and not stream.detached and stream.receive.state is ReceiveState.OPEN
            if (unseen and waits) or (not stream.early and self._can_replay(stream)):
                stream.replayed = stream.replayed or not unseen
                del connection.streams[qid]
                self._wait_again(stream)
        super()._lose(connection, cause, detail, by_peer)

    # Timers.

    def _patience_s(self, stream: Stream) -> float:
        """Before REPLY the timers of open and reply bound the wait, also where the application has half-closed."""
        return self.settings.stream_idle_s if stream.early is not None else super()._patience_s(stream)

    def _on_timer_of_role(self, kind: str, number: int) -> None:
        match kind:
            case "reconnect":
                self._backing_off = False
                self._ensure_connection()
            case "address":
                self._try_next_if_silent()
            case "spare":
                if (connection := self._connections.get(number)) is not None:
                    self._close_spare(connection)
            case "open":
                if (stream := self._streams.get(number)) is not None:
                    self._give_up(stream, Cause.LIMIT_REACHED if self.is_up else Cause.TUNNEL_DOWN)
            case "reply":
                if (stream := self._streams.get(number)) is not None:
                    self._answer(stream, Cause.OPEN_TIMEOUT)
                    self._stop(stream, Cause.OPEN_TIMEOUT)
                    self._retire_if_done(stream)
            case _:
                raise AssertionError(f"no timer is called {kind}")
