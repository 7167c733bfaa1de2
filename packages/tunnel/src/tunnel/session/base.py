"""What both roles do: streams and their endings, receipts, the control stream, liveness, leaving.

Rules:
- Sans-IO: datagrams, calls and `now` in; datagrams and events out. Nothing here waits or raises for what a peer does.
- A direction ends once, as EOF, RESET, LOST or CLOSED; none turns into another. A connection's end makes LOST only of
  what has not ended.
- DONE is sent once for each direction that is received here, whatever its ending.
- A stream leaves every table when both its directions are DONE, or with its connection (F20).
"""

from abc import ABC, abstractmethod
from collections import deque
from random import Random
from typing import assert_never

from tunnel.engine import port
from tunnel.errors import Cause, cause_of_code
from tunnel.session import events
from tunnel.session.connection import Connection, State
from tunnel.session.events import Ending, Event
from tunnel.session.evidence import MOST_STREAMS, What, new_stalls, state_of
from tunnel.session.ledger import Ledger
from tunnel.session.liveness import Liveness, Verdict
from tunnel.session.pending import Pending, overdue_of, pending_of
from tunnel.session.settings import SessionSettings
from tunnel.session.stream import OUTCOMES, ReceiveHalf, ReceiveState, SendHalf, SendState, Stream
from tunnel.session.timers import Timers
from tunnel.wire.codec import PING_BYTES, WireError, encode
from tunnel.wire.messages import (
    Control,
    Direction,
    Done,
    End,
    GoAway,
    Hello,
    Message,
    Open,
    Outcome,
    Ping,
    Pong,
    Reply,
    Taken,
    Welcome,
)

_STALL_LOOK_S = 1.0

_NEVER_CONNECTED = (Cause.HANDSHAKE_FAILED, Cause.CERTIFICATE_REFUSED)
"""What ends a connection that a server has not heard of yet. (A close of ours is heard of again, after the fact.)"""


class Session(ABC):
    """One endpoint with all its connections. `now` never goes back."""

    sends: Direction
    """The direction of the bytes that this role sends."""

    def __init__(self, engine: port.Engine, settings: SessionSettings, rng: Random, now: float) -> None:
        self.settings = settings
        self.ledger = Ledger()
        self._engine = engine
        self._rng = rng
        self._now = now
        self._events: deque[Event] = deque()
        self._connections: dict[int, Connection] = {}
        self._streams: dict[int, Stream] = {}
        self._next_stream = 1
        self._timers: Timers[tuple[str, int]] = Timers()
        self._telling: list[Connection] = []
        """Connections with control messages to hand to the engine, which `poll_transmit` does."""

    # Datagrams, time and events.

    def receive(self, data: bytes | memoryview, segment_size: int, address: port.Address, now: float) -> None:
        """A whole GRO buffer from the socket."""
        self._notice_pause(now)
        self._engine.receive(data, segment_size, address, now)
        self._drain_engine()

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        if self._telling:
            return self._now
        mine, engine = self._timers.next(), self._engine.get_timer()
        return mine if engine is None else engine if mine is None else min(mine, engine)

    def handle_timer(self, now: float) -> None:
        """Does what is due; harmless when nothing is."""
        self._notice_pause(now)
        self._engine.handle_timer(now)
        self._drain_engine()
        for kind, number in self._timers.due(now):
            self._on_timer(kind, number)

    def poll_transmit(self, now: float) -> port.Transmit | None:
        """The next datagrams to send."""
        if now > self._now:
            self._now = now
        if self._telling:
            self._flush_controls()
        return self._engine.poll_transmit(now)

    def poll_event(self) -> Event | None:
        """What happened next."""
        if not self._events:
            self._drain_engine()
        return self._events.popleft() if self._events else None

    # What the edge does with a stream. A stream that is gone is no error: endings cross calls.

    def send(self, stream: int, data: bytes | memoryview, now: float) -> int:
        """Takes bytes from the front of `data`, as many as flow control allows; `Writable` follows a short one."""
        found = self._streams.get(stream)
        if found is None or found.send.state is not SendState.OPEN:
            return 0
        self._now = now
        taken = self._send(found, data)
        if taken:
            found.last_progress_at = now
            self.ledger.bytes[self.sends] += taken
        found.send.blocked = taken < len(data)
        if found.send.blocked:
            self.ledger.flow_control_waits += 1
        return taken

    def end_read(self, stream: int) -> None:
        """The socket's EOF was read. `finish` follows when all that came before it was taken by `send`."""
        found = self._streams.get(stream)
        if found is not None and found.send.state is SendState.OPEN:
            self.ledger.end_received(found.send, self._now)

    def finish(self, stream: int, now: float) -> None:
        """The socket's EOF: FIN behind what was sent. Never waits."""
        found = self._streams.get(stream)
        if found is None or found.send.state is not SendState.OPEN:
            return
        self._now = now
        self.ledger.end_received(found.send, self._now)
        self.ledger.end_forwarded(found.send)
        self._leave(found, SendState.FINISHED)
        self._flush(found)

    def reset(self, stream: int, cause: Cause, now: float) -> None:
        """The socket failed: no EOF will come, and the other side shall know why."""
        found = self._streams.get(stream)
        if found is not None:
            self._now = now
            self._reset(found, cause)
            self._retire_if_done(found)

    def stop(self, stream: int, cause: Cause, now: float) -> None:
        """The socket takes no more bytes. Ends the receiving direction as CLOSED, without an event."""
        found = self._streams.get(stream)
        if found is not None:
            self._now = now
            self._stop(found, cause)
            self._retire_if_done(found)

    def delivered(self, stream: int, count: int, now: float) -> None:
        """The socket's kernel took `count` more bytes of what `Data` carried: only this gives the peer credit (F09)."""
        found = self._streams.get(stream)
        self.ledger.undelivered_bytes -= count
        if found is None:
            return
        self._now = found.last_progress_at = now
        found.receive.undelivered_bytes -= count
        self._consume(found, count)
        if now - found.receive.told_at >= self.settings.tell_taken_every_s:
            self._tell_taken(found)

    def discarded(self, count: int) -> None:
        """The edge threw away `count` bytes of what `Data` carried, with a stream that is gone or stopped."""
        self.ledger.undelivered_bytes -= count

    def ended(self, stream: int, now: float) -> None:
        """The end of `Ended` is handed over: the socket was shut down, or reset."""
        found = self._streams.get(stream)
        if found is not None and found.receive.state is ReceiveState.ENDED:
            self._now = found.last_progress_at = now
            self._receipt(found)
            self._retire_if_done(found)

    # What the edge asks about everything.

    @property
    def stream_count(self) -> int:
        """Streams that the edge or the peer has not finished with."""
        return len(self._streams)

    @property
    def connection_count(self) -> int:
        """Connections whose greeting is done."""
        return sum(connection.was_up for connection in list(self._connections.values()))

    def connection_stats(self) -> list[port.Stats]:
        """Of each live connection."""
        stats = (self._engine.stats(number) for number in list(self._connections))
        return [entry for entry in stats if entry is not None]

    def packets(self) -> port.Packets:
        """QUIC packets since the start."""
        return self._engine.packets()

    def table_entries(self) -> dict[str, int]:
        """How much each table holds. With no stream open that is what open connections need, however many streams there
        were (F20)."""
        connections = list(self._connections.values())
        return {
            "connections": len(connections),
            "streams": len(self._streams),
            "stream_ids": sum(len(connection.streams) for connection in connections),
            "stream_ids_unseen": sum(connection.unseen_entries for connection in connections),
            "timers": len(self._timers),
        }

    def oldest_unconfirmed_end_at(self) -> float | None:
        """Since when the oldest end waits for its DONE, on the clock of `now`: it was sent, or the peer's application
        took something before it."""
        halves = [stream.send for stream in list(self._streams.values())]
        waiting = (half for half in halves if half.state is SendState.FINISHED and half.confirmed is None)
        return min((max(half.ended_at, half.taken_at) for half in waiting if half.ended_at is not None), default=None)

    def overdue_ends(self, now: float) -> dict[tuple[Direction, str], int]:
        """Ends that have stood for `stall_after_s`, by what happened to them last: `received` or `forwarded`."""
        return overdue_of(list(self._streams.values()), self.settings.stall_after_s, now)

    def pending(self, now: float) -> Pending:
        """What has not ended, oldest first. A pure read; safe from any thread, like the counts above."""
        return pending_of(list(self._streams.values()), now)

    def evidence_of(self, application: str, session_id: str, qid: int | None, now: float) -> events.Evidence | None:
        """What there is to tell of one stream that somebody asks about: by its application's address, or as the other
        side knows it. The newest one, where an application's port was used again. A pure read; safe from any thread."""
        for stream in reversed(list(self._streams.values())):
            connection = self._connection_of(stream)
            if connection is not None and not self._is_heeded(connection):
                continue
            is_theirs = connection is not None and stream.qid == qid and connection.session_id.hex() == session_id != ""
            if is_theirs or (application and stream.application == application):
                return _evidence(events.Why.ASKED, Cause.NONE, [state_of(stream, now)], connection, now)
        return None

    def close(self, cause: Cause, now: float) -> None:
        """Ends everything at once: what has not ended is LOST at the peer."""
        self._now = now
        for connection in list(self._connections.values()):
            self._engine.close(connection.number, cause.code, cause.summary)
        self._drain_engine()

    # Hooks of the roles.

    @abstractmethod
    def _on_connected(self, connection: Connection) -> None: ...

    @abstractmethod
    def _on_greeting(self, connection: Connection, message: Hello | Welcome) -> None: ...

    @abstractmethod
    def _on_goaway(self, connection: Connection, message: GoAway) -> None: ...

    @abstractmethod
    def _on_new_stream(self, connection: Connection, qid: int) -> Stream | None: ...

    @abstractmethod
    def _on_head(self, stream: Stream, message: Open | Reply) -> None: ...

    @abstractmethod
    def _on_headless_end(self, stream: Stream, ending: Ending, cause: Cause) -> None: ...

    @abstractmethod
    def _on_timer_of_role(self, kind: str, number: int) -> None: ...

    def _is_heeded(self, connection: Connection) -> bool:
        """Whether evidence is told of its streams. A server does not know who a stranger is."""
        return True

    def _on_streams_available(self, connection: Connection) -> None:  # noqa: B027 -- only a client waits for streams.
        """The engine has streams again."""

    def _on_suspect(self, connection: Connection) -> None:  # noqa: B027 -- only a client makes replacements.
        """A probe is unanswered."""

    def _on_down(self, connection: Connection, cause: Cause) -> None:  # noqa: B027 -- only a client connects again.
        """The connection has left the tables."""

    def _on_retired(self, connection: Connection) -> None:  # noqa: B027 -- only a client places streams.
        """A stream has left the connection."""

    # Engine events.

    def _drain_engine(self) -> None:
        while (entry := self._engine.poll_event()) is not None:
            number, event = entry
            connection = self._connections.get(number)
            if connection is not None:
                self._on_engine_event(connection, event)
            elif isinstance(event, port.Connected):
                connection = self._adopt(number, State.GREETING)
                connection.started_at = connection.started_at if event.started_at is None else event.started_at
                self._on_engine_event(connection, event)
            elif isinstance(event, port.Closed) and event.cause in _NEVER_CONNECTED:
                self.ledger.connections[event.cause] += 1
                self._events.append(events.ConnectionDown(number, event.cause, _words(event), 0, False))

    def _adopt(self, number: int, state: State) -> Connection:
        connection = Connection(number, state, Liveness(self.settings, self._now), self._now)
        self._connections[number] = connection
        self._timers.set(("greeting", number), self._now + self.settings.hello_timeout_s)
        return connection

    def _on_engine_event(self, connection: Connection, event: port.Event) -> None:
        match event:
            case port.Data(qid, data, end):
                if qid == port.CONTROL_STREAM:
                    self._on_control_data(connection, data, end)
                elif (stream := self._stream_of(connection, qid)) is not None:
                    self._on_data(stream, data, end)
            case port.Writable(qid):
                if qid == port.CONTROL_STREAM:
                    self._flush_control(connection)
                elif (stream := connection.streams.get(qid)) is not None:
                    self._flush(stream)
                    if stream.send.state is SendState.OPEN and not stream.send.outbox and not stream.detached:
                        self._events.append(events.Writable(stream.number))
            case port.Reset(qid, code):
                if qid == port.CONTROL_STREAM:
                    self._violation(connection, "the control stream was reset")
                elif (stream := self._stream_of(connection, qid)) is not None:
                    self._on_reset(stream, cause_of_code(code, Cause.CANCELLED))
            case port.Stopped(qid, code):
                if qid == port.CONTROL_STREAM:
                    self._violation(connection, "the control stream was stopped")
                elif (stream := self._stream_of(connection, qid)) is not None:
                    self._on_stopped(stream, cause_of_code(code, Cause.CANCELLED))
            case port.Connected(address):
                connection.address = connection.address or address  # A client knows it in the resolver's words.
                self._on_connected(connection)
            case port.StreamsAvailable():
                connection.full = False
                self._on_streams_available(connection)
            case port.PingAnswered():
                self.ledger.pings_answered += 1
                was_trusted = connection.liveness.trusted
                connection.liveness.answered()
                if not was_trusted:
                    self._on_streams_available(connection)
            case port.Closed(cause, by_peer=by_peer):
                self._lose(connection, cause, _words(event), by_peer)
            case _:
                assert_never(event)

    def _stream_of(self, connection: Connection, qid: int) -> Stream | None:
        found = connection.streams.get(qid)
        if found is not None:
            return found
        stream = self._on_new_stream(connection, qid)
        if stream is not None:
            self._attach(stream, connection, qid)
        return stream

    def _new_stream(self) -> Stream:
        receives = (
            Direction.TARGET_TO_CLIENT if self.sends is Direction.CLIENT_TO_TARGET else Direction.CLIENT_TO_TARGET
        )
        receive = ReceiveHalf(receives, told_at=self._now)
        stream = Stream(self._next_stream, SendHalf(self.sends), receive, self._now, self._now)
        self._next_stream += 1
        self._streams[stream.number] = stream
        self._watch_progress(stream)
        if len(self._streams) == 1:
            self._timers.set_at_latest(("stalls", 0), self._now + _STALL_LOOK_S)
        return stream

    def _attach(self, stream: Stream, connection: Connection, qid: int) -> None:
        stream.connection, stream.qid = connection.number, qid
        connection.streams[qid] = stream
        connection.highest_qid = max(connection.highest_qid, qid)
        connection.ring.note(self._now, qid, What.OPENED)
        if len(connection.streams) == 1:
            connection.liveness.pending(True, self._now)
            self._check_liveness(connection)
        end_offset = connection.early_ends.pop(qid, None)
        if end_offset is not None:
            stream.receive.end_offset = end_offset

    # Receiving.

    def _on_data(self, stream: Stream, data: bytes, end: bool) -> None:
        half = stream.receive
        if half.state is not ReceiveState.OPEN:
            return
        half.offset += len(data)
        stream.last_progress_at = self._now
        if stream.head is not None:
            data = self._read_head(stream, data)
            if half.state is not ReceiveState.OPEN or stream.head is not None:
                if end and stream.head is not None and half.state is ReceiveState.OPEN:
                    self._on_headless_end(stream, Ending.RESET, Cause.PROTOCOL_VIOLATION)
                return
        if data:
            self._give(stream, data)
        if end:
            self._end_receiving(stream, Ending.EOF, Cause.NONE)
        elif half.end_offset is not None:
            self._consider_rescue(stream)

    def _read_head(self, stream: Stream, data: bytes) -> bytes:
        """Feeds the head; gives the bytes behind it, and b"" while it is not complete."""
        assert stream.head is not None
        head = stream.head
        head.feed(data)
        try:
            message = head.take_one()
            if message is None:
                return b""
            if not isinstance(message, Open | Reply):
                raise WireError(f"a stream begins with {type(message).__name__}")
        except WireError as error:
            self._violation_of(stream, str(error))
            return b""
        rest = head.rest()
        self._consume(stream, stream.receive.offset - len(rest))
        stream.head = None
        self._note(stream, What.ANSWERED)
        self._on_head(stream, message)
        return rest

    def _give(self, stream: Stream, data: bytes) -> None:
        self.ledger.bytes[stream.receive.direction] += len(data)
        if stream.detached:
            self._consume(stream, len(data))
            return
        stream.receive.undelivered_bytes += len(data)
        self.ledger.undelivered_bytes += len(data)
        self._events.append(events.Data(stream.number, data))

    def _consume(self, stream: Stream, count: int) -> None:
        if stream.connection is not None and stream.qid is not None:
            self._engine.consumed(stream.connection, stream.qid, count)

    def _on_reset(self, stream: Stream, cause: Cause) -> None:
        if stream.head is not None:
            self._on_headless_end(stream, Ending.RESET, cause)
        else:
            self._end_receiving(stream, Ending.RESET, cause)

    def _end_receiving(self, stream: Stream, ending: Ending, cause: Cause) -> None:
        """The receiving direction ends, as what it is; the edge hands the end over."""
        half = stream.receive
        if half.state is not ReceiveState.OPEN:
            return
        if half.end_offset is not None:
            self._timers.cancel(("rescue", stream.number))
        half.state, half.ending, half.ended_at = ReceiveState.ENDED, ending, self._now
        self._half_ended(stream)
        self._note(stream, What.RECEIVED if ending is Ending.EOF else What.RESET_RECEIVED, half.offset)
        if ending is Ending.EOF and not stream.refused:
            self.ledger.end_received(half, self._now)
        if stream.detached:
            self._receipt(stream)
            self._retire_if_done(stream)
        else:
            self._events.append(events.Ended(stream.number, ending, cause))

    def _receipt(self, stream: Stream) -> None:
        """ENDED to RECEIPTED: the delivery receipt, exactly once."""
        half = stream.receive
        assert half.ending is not None
        half.state = ReceiveState.RECEIPTED
        clean = half.ending is Ending.EOF and not stream.refused
        if clean:
            self.ledger.end_forwarded(half)
        connection = self._connection_of(stream)
        if connection is not None and stream.qid is not None:
            if clean:
                self.ledger.end_confirmed(half)
            final_offset = half.offset - half.undelivered_bytes
            self._note(stream, What.HANDED_OVER, final_offset)
            self._tell(connection, Done(stream.qid, half.direction, final_offset, OUTCOMES[half.ending]))

    def _tell_taken(self, stream: Stream) -> None:
        """A reader can be slower than its peer can see: by a window of bytes, and behind the end by all of them."""
        connection, half = self._connection_of(stream), stream.receive
        if connection is not None and stream.qid is not None and half.state is not ReceiveState.RECEIPTED:
            half.told_at = self._now
            self._tell(connection, Taken(stream.qid, half.offset - half.undelivered_bytes))

    def _stop(self, stream: Stream, cause: Cause) -> None:
        half = stream.receive
        if half.state is ReceiveState.RECEIPTED:
            return
        if half.state is ReceiveState.OPEN:
            self._timers.cancel(("rescue", stream.number))
            half.state, half.ending, half.ended_at = ReceiveState.ENDED, Ending.CLOSED, self._now
            self._half_ended(stream)
        elif half.ending is Ending.EOF:
            half.ending = Ending.CLOSED  # It came, but its application did not live to take it.
        # Also behind a FIN: what nobody will take has to be given back, or it holds a stream for ever (F12, F15).
        if stream.connection is not None and stream.qid is not None:
            self._engine.stop(stream.connection, stream.qid, cause.code)
        self._receipt(stream)

    # Sending.

    def _send(self, stream: Stream, data: bytes | memoryview) -> int:
        """The roles narrow this while the head is not through."""
        if stream.send.outbox or stream.connection is None or stream.qid is None:
            return 0
        taken = self._engine.send(stream.connection, stream.qid, data)
        stream.send.offset += taken
        return taken

    def _flush(self, stream: Stream) -> None:
        """Moves the outbox into the engine, and the FIN behind it."""
        half = stream.send
        if stream.connection is None or stream.qid is None:
            return
        if half.outbox:
            taken = self._engine.send(stream.connection, stream.qid, bytes(half.outbox))
            half.offset += taken
            del half.outbox[:taken]
        if half.state is SendState.FINISHED and not half.outbox:
            self._engine.finish(stream.connection, stream.qid)
            if half.confirmed is None:
                self._timers.set(("end", stream.number), self._now + self.settings.end_after_s)

    def _reset(self, stream: Stream, cause: Cause) -> None:
        """A half that is finished stays so: its bytes and their end are promised, and may be delivered already."""
        if stream.send.state is SendState.OPEN:
            self._leave(stream, SendState.RESET)
            self._reset_engine(stream, cause)

    def _reset_engine(self, stream: Stream, cause: Cause) -> None:
        stream.send.outbox.clear()
        if stream.connection is not None and stream.qid is not None:
            self._engine.reset(stream.connection, stream.qid, cause.code)

    def _on_stopped(self, stream: Stream, cause: Cause) -> None:
        half = stream.send
        self._note(stream, What.STOPPED, half.offset)
        half.outbox.clear()
        self._timers.cancel(("end", stream.number))
        if half.state is SendState.OPEN:
            self._leave(stream, SendState.RESET)
            if not stream.detached:
                self._events.append(events.Stopped(stream.number, cause))

    def _leave(self, stream: Stream, state: SendState) -> None:
        stream.send.state, stream.send.ended_at = state, self._now
        stream.last_progress_at = self._now
        self._note(stream, What.FINISHED if state is SendState.FINISHED else What.RESET, stream.send.final_offset)
        self._half_ended(stream)

    # The control stream.

    def _tell(self, connection: Connection, message: Control) -> None:
        """Goes out with the next flush, together with what else is told until then."""
        before = len(connection.outbox)
        connection.outbox += encode(message)
        if not before or before <= self.settings.max_control_backlog_bytes < len(connection.outbox):
            self._telling.append(connection)

    def _flush_controls(self) -> None:
        telling, self._telling = self._telling, []
        for connection in telling:
            self._flush_control(connection)
            backlog = len(connection.outbox)
            if backlog > self.settings.max_control_backlog_bytes and connection.number in self._connections:
                self._violation(connection, f"it reads nothing of the control stream: {backlog} bytes wait for it")

    def _flush_control(self, connection: Connection) -> None:
        if connection.outbox and connection.state is not State.CONNECTING:
            taken = self._engine.send(connection.number, port.CONTROL_STREAM, bytes(connection.outbox))
            del connection.outbox[:taken]

    def _on_control_data(self, connection: Connection, data: bytes, end: bool) -> None:
        connection.control.feed(data)
        self._engine.consumed(connection.number, port.CONTROL_STREAM, len(data))
        try:
            for message in connection.control:
                self._on_control(connection, message)
                if connection.number not in self._connections:
                    return  # It was put out: what it says behind that counts for nothing.
        except WireError as error:
            self._violation(connection, str(error))
            return
        if end:
            self._violation(connection, "the control stream was finished")

    def _on_control(self, connection: Connection, message: Message) -> None:
        match message:
            case Hello() | Welcome():
                self._on_greeting(connection, message)
            case Done():
                self._on_done(connection, message)
            case End(qid, final_offset):
                self._on_end(connection, qid, final_offset)
            case Taken(qid, offset):
                self._on_taken(connection, qid, offset)
            case GoAway():
                self._on_goaway(connection, message)
            case Ping(payload):
                self._tell(connection, Pong(payload))
            case Pong(payload):
                if connection.state is State.CLOSING and payload == connection.ping_payload:
                    self._engine.close(connection.number, Cause.NONE.code, "nothing is left to do")
            case Open() | Reply():
                raise WireError(f"{type(message).__name__} on the control stream")
            case _:
                assert_never(message)

    def _on_done(self, connection: Connection, done: Done) -> None:
        stream = connection.streams.get(done.stream)
        if stream is None:
            if connection.expects(done.stream) and len(connection.early_dones) < self.settings.max_early_ends:
                connection.early_dones[done.stream] = done
            return
        half = stream.send
        if done.direction is not half.direction or half.confirmed is not None:
            raise WireError(f"a DONE of stream {done.stream} that nobody waits for")
        if done.outcome is Outcome.EOF:
            if half.state is not SendState.FINISHED or done.final_offset != half.final_offset:
                raise WireError(f"a DONE of stream {done.stream} for an end that was not sent")
            if not stream.refused:
                self.ledger.end_confirmed(half)
        half.confirmed = done.outcome
        self._note(stream, What.CONFIRMED, done.final_offset)
        self._timers.cancel(("end", stream.number))
        if half.state is SendState.OPEN:  # The peer has had enough, and its STOP_SENDING is still on the way.
            self._on_stopped(stream, Cause.CANCELLED)
            self._reset_engine(stream, Cause.CANCELLED)
        self._retire_if_done(stream)

    def _on_taken(self, connection: Connection, qid: int, offset: int) -> None:
        stream = connection.streams.get(qid)
        if stream is None:
            return
        half = stream.send
        if offset > half.offset:
            raise WireError(f"a TAKEN of stream {qid} for bytes that were not sent")
        if offset > half.taken:
            half.taken, half.taken_at = offset, self._now
            stream.last_progress_at = self._now
            self._note(stream, What.TAKEN, offset)

    def _on_end(self, connection: Connection, qid: int, final_offset: int) -> None:
        stream = connection.streams.get(qid)
        if stream is None:
            if connection.expects(qid) and len(connection.early_ends) < self.settings.max_early_ends:
                connection.early_ends[qid] = final_offset
        elif stream.receive.state is ReceiveState.OPEN:
            self._note(stream, What.ANNOUNCED_TO_US, final_offset)
            stream.receive.end_offset = final_offset
            self._consider_rescue(stream)

    def _consider_rescue(self, stream: Stream) -> None:
        half = stream.receive
        if self.settings.end_rescue and half.state is ReceiveState.OPEN and half.offset == half.end_offset:
            self._timers.set(("rescue", stream.number), self._now + self.settings.rescue_after_s)

    def _rescue(self, stream: Stream) -> None:
        connection, half = self._connection_of(stream), stream.receive
        if connection is None or stream.qid is None or half.state is not ReceiveState.OPEN or stream.head is not None:
            return
        if half.offset != half.end_offset:  # More has come since: that END was wrong.
            return
        self.ledger.end_rescued(half)
        self._events.append(events.Rescued(connection.number, stream.number, half.direction, half.offset))
        self._note(stream, What.RESCUED, half.offset)
        self._tell_evidence(events.Why.RESCUED, Cause.RESCUED, [state_of(stream, self._now)], connection)
        self._end_receiving(stream, Ending.EOF, Cause.NONE)
        self._engine.stop(connection.number, stream.qid, Cause.RESCUED.code)

    def _violation(self, connection: Connection, detail: str) -> None:
        self._engine.close(connection.number, Cause.PROTOCOL_VIOLATION.code, detail)
        self._lose(connection, Cause.PROTOCOL_VIOLATION, detail)

    def _violation_of(self, stream: Stream, detail: str) -> None:
        connection = self._connection_of(stream)
        if connection is not None:
            self._violation(connection, f"stream {stream.qid}: {detail}")

    # Leaving.

    def _retire_if_done(self, stream: Stream) -> None:
        if not stream.retired or stream.number not in self._streams:
            return
        connection = self._connection_of(stream)
        self._forget(stream)
        if connection is not None and stream.qid is not None:
            connection.streams.pop(stream.qid, None)
            if not connection.streams:
                connection.liveness.pending(False, self._now)
                if connection.state is State.LEAVING and connection.empty:
                    self._begin_closing(connection)
            self._on_retired(connection)

    def _forget(self, stream: Stream) -> None:
        self._streams.pop(stream.number, None)
        if not self._streams:
            self._timers.cancel(("stalls", 0))
        self._uncount_half_closed(stream)
        self.ledger.streams[stream.ending] += 1
        self.ledger.half_over(stream.send)
        self.ledger.half_over(stream.receive)
        for kind in ("progress", "end", "rescue", "open", "reply"):
            self._timers.cancel((kind, stream.number))

    def _begin_leaving(self, connection: Connection) -> None:
        """No new streams; closes when the last one is retired."""
        if connection.state in (State.GREETING, State.UP):
            connection.state = State.LEAVING
            if connection.empty:
                self._begin_closing(connection)

    def _begin_closing(self, connection: Connection) -> None:
        connection.state = State.CLOSING
        connection.ping_payload = self._rng.randbytes(PING_BYTES)
        self._tell(connection, Ping(connection.ping_payload))
        self._timers.set(("closing", connection.number), self._now + self.settings.close_timeout_s)

    def _lose(self, connection: Connection, cause: Cause, detail: str, by_peer: bool = False) -> None:
        """The connection is gone: whatever has not ended on it is LOST."""
        if self._connections.pop(connection.number, None) is None:
            return
        for kind in ("greeting", "closing", "liveness", "spare"):
            self._timers.cancel((kind, connection.number))
        orderly = cause is Cause.NONE and not connection.streams
        why = Cause.TUNNEL_LOST if cause is Cause.NONE and not orderly else cause
        streams = list(connection.streams.values())
        states = [state_of(stream, self._now) for stream in streams]
        connection.streams.clear()
        lost = [state for stream, state in zip(streams, states, strict=True) if self._lose_stream(stream, why)]
        if lost and self._is_heeded(connection):
            self._tell_evidence(events.Why.LOST, why, lost, connection)
        self.ledger.connections[why] += 1
        down = events.ConnectionDown(connection.number, why, detail, len(lost), connection.was_up, connection.address)
        self._events.append(down)
        self._on_down(connection, why)

    def _lose_stream(self, stream: Stream, cause: Cause) -> bool:
        """Tells the edge what it does not know yet. True where something was lost."""
        half, lost = stream.receive, False
        if half.state is ReceiveState.OPEN:
            lost = True
            if stream.head is not None:
                self._on_headless_end(stream, Ending.LOST, cause)
            else:
                self._end_receiving(stream, Ending.LOST, cause)
        elif stream.send.state is SendState.OPEN:
            lost = True
            if not stream.detached:
                self._events.append(events.Stopped(stream.number, Cause.TUNNEL_LOST))
        stream.connection = stream.qid = None
        if stream.send.confirmed is None:
            stream.send.confirmed = Outcome.LOST
        if stream.send.state is SendState.OPEN:
            self._leave(stream, SendState.RESET)
        self._timers.cancel(("end", stream.number))
        self._retire_if_done(stream)  # Where the edge is still handing the end over, `ended` retires it.
        return lost

    # Timers.

    def _on_timer(self, kind: str, number: int) -> None:
        match kind:
            case "liveness":
                if (connection := self._connections.get(number)) is not None:
                    self._check_liveness(connection)
            case "greeting":
                if (connection := self._connections.get(number)) is not None:
                    self._engine.close(number, Cause.HELLO_TIMEOUT.code, Cause.HELLO_TIMEOUT.summary)
                    self._lose(connection, Cause.HELLO_TIMEOUT, Cause.HELLO_TIMEOUT.summary)
            case "closing":
                if number in self._connections:
                    self._engine.close(number, Cause.NONE.code, "nothing is left to do")
            case "progress":
                if (stream := self._streams.get(number)) is not None:
                    self._check_progress(stream)
            case "end":
                if (stream := self._streams.get(number)) is not None:
                    self._announce_end(stream)
            case "stalls":
                self._look_for_stalls()
            case "rescue":
                if (stream := self._streams.get(number)) is not None:
                    self._rescue(stream)
            case _:
                self._on_timer_of_role(kind, number)

    def _announce_end(self, stream: Stream) -> None:
        connection = self._connection_of(stream)
        waits = stream.send.state is SendState.FINISHED and stream.send.confirmed is None
        if self.settings.end_rescue and waits and connection is not None and stream.qid is not None:
            self._note(stream, What.ANNOUNCED, stream.send.final_offset)
            self._tell(connection, End(stream.qid, stream.send.final_offset))

    def _watch_progress(self, stream: Stream) -> None:
        """Too early a look does no harm: it sets the next one."""
        self._timers.set_at_latest(("progress", stream.number), stream.last_progress_at + self._patience_s(stream))

    def _patience_s(self, stream: Stream) -> float:
        both_open = stream.send.state is SendState.OPEN and stream.receive.state is ReceiveState.OPEN
        return self.settings.stream_idle_s if both_open else self.settings.half_closed_linger_s

    def _check_progress(self, stream: Stream) -> None:
        """Half-closed linger and idle: both reset by any byte of progress, so the deadline moves lazily."""
        patience_s = self._patience_s(stream)
        if self._now < stream.last_progress_at + patience_s:
            self._watch_progress(stream)
            return
        both_open = stream.send.state is SendState.OPEN and stream.receive.state is ReceiveState.OPEN
        cause = Cause.IDLE_TIMEOUT if both_open else Cause.HALF_CLOSED_TIMEOUT
        self._abandon(stream, cause)

    def _abandon(self, stream: Stream, cause: Cause) -> None:
        """Ends what is left of a stream from our side, and retires it whether or not the peer confirms."""
        self._reset(stream, cause)
        self._reset_engine(stream, cause)
        if not stream.detached:
            self._events.append(events.Abandoned(stream.number, cause))
            stream.detached = True
        self._stop(stream, cause)
        if stream.send.confirmed is None:
            stream.send.confirmed = Outcome.CLOSED
        self._retire_if_done(stream)

    def _check_liveness(self, connection: Connection) -> None:
        stats = self._engine.stats(connection.number)
        heard_at = connection.started_at if stats is None else stats.last_received_at
        liveness = connection.liveness
        match liveness.check(heard_at, self._now):
            case Verdict.PROBE:
                self._engine.ping(connection.number)
            case Verdict.SUSPECT:
                self._engine.ping(connection.number)
                silence_s = liveness.silence_s(heard_at, self._now)
                connection.ring.note(self._now, None, What.SUSPECT)
                self._events.append(events.ConnectionSuspect(connection.number, silence_s))
                self._on_suspect(connection)
            case Verdict.DEAD:
                silence_s = liveness.silence_s(heard_at, self._now)
                self._kill(connection, Cause.PEER_SILENT, f"no packet for {silence_s:.1f} s")
                return
            case Verdict.FINE:
                pass
        if connection.number in self._connections:
            self._timers.set(("liveness", connection.number), liveness.next_check(heard_at, self._now))

    def _kill(self, connection: Connection, cause: Cause, detail: str) -> None:
        """The peer does not answer any more: close for the case that it still listens, and go on without it."""
        self._engine.close(connection.number, cause.code, detail)
        self._lose(connection, cause, detail)

    def _notice_pause(self, now: float) -> None:
        if now - self._now > self.settings.pause_s:
            due = self.get_timer()
            if due is not None and now - max(due, self._now) > self.settings.pause_s:
                for connection in self._connections.values():
                    connection.liveness.measure_anew(now)
        if now > self._now:
            self._now = now

    # Evidence.

    def _note(self, stream: Stream, what: What, number: int | None = None) -> None:
        connection = self._connection_of(stream)
        if connection is not None:
            connection.ring.note(self._now, stream.qid, what, number)

    def _look_for_stalls(self) -> None:
        """All streams of a connection that began to stand still between two looks are told of together."""
        stalled: dict[int | None, list[events.StreamState]] = {}
        for stream, wait in new_stalls(self._streams.values(), self.settings.stall_after_s, self._now):
            connection = self._connection_of(stream)
            if connection is None or self._is_heeded(connection):
                self.ledger.stalls[wait.waits_for] += 1
                stalled.setdefault(stream.connection, []).append(state_of(stream, self._now, wait))
        for number, states in stalled.items():
            connection = None if number is None else self._connections.get(number)
            self._tell_evidence(events.Why.STALLED, Cause.NONE, states, connection)
        self._timers.set(("stalls", 0), self._now + _STALL_LOOK_S)

    def _tell_evidence(
        self, why: events.Why, cause: Cause, states: list[events.StreamState], connection: Connection | None
    ) -> None:
        self._events.append(_evidence(why, cause, states, connection, self._now))

    # Small things.

    def _connection_of(self, stream: Stream) -> Connection | None:
        return None if stream.connection is None else self._connections.get(stream.connection)

    def _half_ended(self, stream: Stream) -> None:
        """The first end makes the wait shorter; with the second one it stays what it is."""
        self._count_half_closed(stream)
        if stream.counted_half_closed is not None:
            self._watch_progress(stream)

    def _count_half_closed(self, stream: Stream) -> None:
        direction, counted = stream.half_closed, stream.counted_half_closed
        if direction is not counted:
            self._uncount_half_closed(stream)
            if direction is not None:
                self.ledger.half_closed[direction] += 1
                stream.counted_half_closed = direction

    def _uncount_half_closed(self, stream: Stream) -> None:
        if stream.counted_half_closed is not None:
            self.ledger.half_closed[stream.counted_half_closed] -= 1
            stream.counted_half_closed = None


def _evidence(
    why: events.Why, cause: Cause, states: list[events.StreamState], connection: Connection | None, now: float
) -> events.Evidence:
    told = tuple(states[:MOST_STREAMS])
    if connection is None:
        return events.Evidence(why, cause, None, "", len(states), told, ())
    session_id, moments = connection.session_id.hex(), connection.ring.told(now)
    return events.Evidence(why, cause, connection.number, session_id, len(states), told, moments)


def _words(event: port.Closed) -> str:
    return f"closed by the peer: {event.detail}" if event.by_peer else event.detail
