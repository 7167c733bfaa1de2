"""One connection of the model engine: what QUIC does in RFC 9000, as simply as it can be done honestly.

Rules:
- Credit is granted from `consumed`: a stream's limit is consumed + window, the connection's is credited + the sum of
  all windows, a stream is given back to the peer only when nothing of it waits for the application.
- What is owed to the peer is a key or a ready stream; a lost one is owed again, with today's value.
- The congestion window is fixed: a simulation wants repeatable pressure, not good manners.
- CONNECTION_CLOSE is sent once and never again, as aioquic does it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from random import Random

from tests.sim.model_packets import (
    CONTROL_FRAME_BYTES,
    DATA_PACKET,
    HELLO_PACKET,
    ID_BYTES,
    OVERHEAD_BYTES,
    STREAM_OVERHEAD_BYTES,
    AckFrame,
    CloseFrame,
    Frame,
    MaxData,
    MaxStreamData,
    MaxStreams,
    Packet,
    Params,
    PingFrame,
    ResetFrame,
    StopFrame,
    StreamFrame,
    decode_frames,
    encode_frame,
    encode_packet,
)
from tests.sim.model_recovery import INITIAL_RTT_S, NEVER, Acknowledger, Key, Recovery, Sent
from tests.sim.model_streams import FlowControlError, ReceiveHalf, SendHalf

from tunnel.engine.port import (
    CONTROL_STREAM,
    Address,
    Closed,
    Connected,
    Data,
    Event,
    Packets,
    PingAnswered,
    Reset,
    Stats,
    Stopped,
    StreamsAvailable,
    Writable,
)
from tunnel.engine.settings import EngineLimits
from tunnel.errors import Cause, cause_of_code

CONGESTION_WINDOW_BYTES = 96 * 1024
_UNKNOWN_ID = bytes(ID_BYTES)


@dataclass(frozen=True, slots=True)
class Faults:
    """What real libraries get wrong, as probabilities and switches."""

    lose_bare_fin: float = 0.0
    """F23: a FIN that travels alone counts as sent, is in no packet, and is never declared lost (aioquic <= 1.7.0)."""
    lose_close: float = 0.0
    """CONNECTION_CLOSE does not leave, and is never repeated."""
    shuffle_streams: bool = False
    """Events of different streams overtake each other, as where a library polls its streams in an order of its own."""


class State(Enum):
    """How far a connection has come. CLOSING has one packet to send yet."""

    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


@dataclass(slots=True)
class Stream:
    """A bidirectional stream of the client's."""

    sending: SendHalf
    receiving: ReceiveHalf


class Connection:
    """Stream numbers are those of the client's bidirectional streams: 0, 4, 8 and so on."""

    def __init__(
        self,
        is_client: bool,
        limits: EngineLimits,
        faults: Faults,
        rng: Random,
        packets: Packets,
        address: Address,
        now: float,
    ) -> None:
        """`packets` are the endpoint's."""
        self.state = State.OPENING
        self.address = address
        self.own_id = rng.randbytes(ID_BYTES)
        self.peer_id = _UNKNOWN_ID
        self.events: deque[Event] = deque()
        self._is_client = is_client
        self._limits = limits
        self._faults = faults
        self._rng = rng
        self._packets = packets
        self._recovery = Recovery(packets)
        self._acknowledger = Acknowledger()
        self._streams: dict[int, Stream] = {}
        # What is owed to the peer, in order. Dictionaries, because a set has none.
        self._owed: dict[Key, None] = {}
        self._ready: dict[int, None] = {}
        self._close: CloseFrame | None = None
        # Credit that we give.
        self._window = self._full_window() if is_client else limits.greeting_credit_bytes
        self._max_data = self._window
        self._received_bytes = 0
        self._credited_bytes = 0
        self._stream_allowance = limits.max_streams if is_client else limits.greeting_streams
        self._max_streams = self._stream_allowance
        self._retired = 0
        self._seen_streams = 0
        # Credit that we have.
        self._peer = Params(0, 0, 0, 0)
        self._accepted_bytes = 0
        self._unsent_bytes = 0
        self._starved: dict[int, None] = {}
        self._opened = 0
        self._open_refused = False
        # Times.
        self._hello_at = now if is_client else NEVER
        self._hellos = 0
        self._handshake_deadline = now + limits.handshake_timeout_s
        self._alive_at = self._last_received_at = now
        self._sent_since_received = False
        # The rest.
        self._next_number = 0
        self._ping = 0
        self._ping_pending = False
        self._waits = 0

    # Packets in.

    def receive_hello(self, packet: Packet, now: float) -> None:
        """The peer's first word. The server answers every one of them, so that a lost answer is made good."""
        for frame in decode_frames(packet.body):
            if isinstance(frame, Params) and self.state is State.OPENING:
                self._alive_at = self._last_received_at = now
                self.peer_id = packet.source
                self._peer = frame
                if self._is_client:
                    self._connected()
                    self._owed["ping", 0] = None  # Tells the server that its answer arrived.
                else:
                    self._hello_at = now

    def receive(self, packet: Packet, address: Address, now: float) -> None:
        """A packet with frames. A client that has not seen the server's hello takes nothing but a close."""
        if self.state is State.OPENING and not self._is_client:
            self._connected()
        if self.state is State.OPENING:
            for frame in decode_frames(packet.body):
                if isinstance(frame, CloseFrame):
                    self._on_frame(frame, now)
        elif self.state is State.OPEN and self._acknowledger.is_new(packet.number):
            self._receive_new(packet, address, now)

    def _receive_new(self, packet: Packet, address: Address, now: float) -> None:
        if packet.number > self._acknowledger.largest:
            self.address = address  # RFC 9000 section 9.3: the newest packet says where the peer is.
        self._acknowledger.note(packet.number)
        self._packets.received += 1
        self._last_received_at = self._alive_at = now
        self._sent_since_received = False
        eliciting = False
        try:
            for frame in decode_frames(packet.body):
                eliciting = eliciting or not isinstance(frame, AckFrame | CloseFrame)
                self._on_frame(frame, now)
        except FlowControlError as error:
            self.close(Cause.TRANSPORT_ERROR.code, str(error))
        if eliciting:
            self._acknowledger.ask(now)

    def _on_frame(self, frame: Frame, now: float) -> None:
        match frame:
            case StreamFrame(number, offset, data, end):
                self._on_bytes(number, offset, data, end)
            case AckFrame(ranges):
                arrived, lost = self._recovery.on_ack(ranges, now)
                for sent in arrived:
                    self._on_arrived(sent)
                for sent in lost:
                    self._on_lost(sent)
            case ResetFrame(number, code, final_size):
                self._on_reset(number, code, final_size)
            case StopFrame(number, code):
                stream = self._peer_stream(number)
                if stream is not None and stream.sending.reset_code is None and not stream.sending.done:
                    self.reset(number, code)
                    self.events.append(Stopped(number, code))
            case MaxStreamData(number, limit):
                stream = self._peer_stream(number)
                if stream is not None:
                    stream.sending.limit = max(stream.sending.limit, limit)
                    self._wake_writers()
            case MaxData(limit):
                self._peer = self._peer._replace(max_data=max(self._peer.max_data, limit))
                self._wake_writers()
            case MaxStreams(limit):
                self._peer = self._peer._replace(max_streams=max(self._peer.max_streams, limit))
                if self._open_refused and self._opened < self._peer.max_streams:
                    self._open_refused = False
                    self.events.append(StreamsAvailable())
            case CloseFrame(code, reason):
                self._end(code, reason, by_peer=True)
            case PingFrame() | Params():
                pass

    def _on_bytes(self, number: int, offset: int, data: bytes, end: bool) -> None:
        stream = self._peer_stream(number)
        if stream is None:
            return
        half = stream.receiving
        self._received_bytes += half.take(offset, data, end)
        if self._received_bytes > self._max_data:
            raise FlowControlError(f"{self._received_bytes} bytes of {self._max_data} on the connection")
        if half.discarding:
            self._discard(half)
        elif (ready := half.ready()) is not None:
            self.events.append(Data(number, *ready))
        self._retire_if_done(number)

    def _on_reset(self, number: int, code: int, final_size: int) -> None:
        stream = self._peer_stream(number)
        if stream is None or stream.receiving.end_reported or stream.receiving.reset:
            return
        half = stream.receiving
        self._received_bytes += half.take_reset(final_size)
        if half.stop_code is None:
            self.events.append(Reset(number, code))
        self._discard(half)
        self._retire_if_done(number)

    def _discard(self, half: ReceiveHalf) -> None:
        """Bytes that the application will never take are credited at once (F12)."""
        self._credited_bytes += half.discard()
        self._grant_data()

    def _on_arrived(self, sent: Sent) -> None:
        for number, start, stop, fin in sent.pieces:
            if (stream := self._streams.get(number)) is not None:
                stream.sending.on_acked(start, stop, fin)
                self._retire_if_done(number)
        for kind, number in sent.keys:
            if kind == "reset" and (stream := self._streams.get(number)) is not None:
                stream.sending.reset_acked = True
                self._retire_if_done(number)
            elif kind == "ping" and number == self._ping and self._ping_pending:
                self._ping_pending = False
                self.events.append(PingAnswered())

    def _on_lost(self, sent: Sent) -> None:
        for number, start, stop, fin in sent.pieces:
            if (stream := self._streams.get(number)) is not None:
                stream.sending.on_lost(start, stop, fin)
                if stream.sending.has_work:
                    self._ready[number] = None
        for key in sent.keys:
            self._owed[key] = None

    # Packets out.

    def build_packet(self, now: float) -> bytes | None:
        """The next datagram, or None."""
        match self.state:
            case State.OPENING if self._hello_at <= now:
                self._hellos += 1
                self._hello_at = now + INITIAL_RTT_S * 2**self._hellos if self._is_client else NEVER
                return self._packet(HELLO_PACKET, [encode_frame(self._params())])
            case State.OPEN if self._acknowledger.due_at <= now or self._may_send():
                return self._build_data(now)
            case State.CLOSING if self._close is not None:
                self.state = State.CLOSED
                return self._packet(DATA_PACKET, [encode_frame(self._close)])
            case _:
                return None

    def _may_send(self) -> bool:
        return bool(self._owed or self._ready) and self._recovery.in_flight_bytes < CONGESTION_WINDOW_BYTES

    def _build_data(self, now: float) -> bytes | None:
        frames: list[bytes] = []
        if (ack := self._acknowledger.take()) is not None:
            frames.append(encode_frame(ack))
        sent = Sent(now)
        if self._may_send():
            room = self._limits.datagram_floor_bytes - OVERHEAD_BYTES - sum(map(len, frames))
            room = self._add_owed(frames, sent, room)
            self._add_streams(frames, sent, room)
        if not frames:
            return None
        number = self._next_number
        packet = self._packet(DATA_PACKET, frames)
        if sent.keys or sent.pieces:
            sent.size = len(packet)
            self._recovery.on_sent(number, sent)
            if not self._sent_since_received:
                self._sent_since_received = True
                self._alive_at = now
        return packet

    def _packet(self, kind: int, frames: list[bytes]) -> bytes:
        number, self._next_number = self._next_number, self._next_number + 1
        self._packets.sent += 1
        return encode_packet(kind, self.peer_id, self.own_id, number, frames)

    def _add_owed(self, frames: list[bytes], sent: Sent, room: int) -> int:
        while self._owed and room >= CONTROL_FRAME_BYTES:
            key = next(iter(self._owed))
            del self._owed[key]
            frame = self._owed_frame(key)
            if frame is not None:
                frames.append(encode_frame(frame))
                room -= len(frames[-1])
                sent.keys.append(key)
        return room

    def _owed_frame(self, key: Key) -> Frame | None:
        """Today's value of what is owed; None where it does not matter any more."""
        kind, number = key
        stream = self._streams.get(number)
        match kind:
            case "max_data":
                return MaxData(self._max_data)
            case "max_streams":
                return MaxStreams(self._max_streams)
            case "ping" if number == self._ping:
                return PingFrame()
            case "max_stream_data" if stream is not None and stream.receiving.final_size is None:
                return MaxStreamData(number, stream.receiving.limit)
            case "stop" if stream is not None and stream.receiving.stop_code is not None:
                return None if stream.receiving.done else StopFrame(number, stream.receiving.stop_code)
            case "reset" if stream is not None and stream.sending.reset_code is not None:
                return ResetFrame(number, stream.sending.reset_code, stream.sending.sent_to)
            case _:
                return None

    def _add_streams(self, frames: list[bytes], sent: Sent, room: int) -> None:
        """The control stream first, the others in turn."""
        while self._ready and room > STREAM_OVERHEAD_BYTES:
            number = CONTROL_STREAM if CONTROL_STREAM in self._ready else next(iter(self._ready))
            del self._ready[number]
            stream = self._streams.get(number)
            if stream is None or not stream.sending.has_work:
                continue
            unsent = stream.sending.unsent_bytes
            offset, data, end = stream.sending.next_frame(room - STREAM_OVERHEAD_BYTES)
            self._note_sent(number, unsent - stream.sending.unsent_bytes)
            if stream.sending.has_work:
                self._ready[number] = None
            if not data and self._rng.random() < self._faults.lose_bare_fin:
                continue
            frames.append(encode_frame(StreamFrame(number, offset, data, end)))
            room -= len(frames[-1])
            sent.pieces.append((number, offset, offset + len(data), end))
        self._wake_writers()

    def _note_sent(self, number: int, count: int) -> None:
        if number != CONTROL_STREAM:
            self._unsent_bytes -= count

    # Time.

    def get_timer(self) -> float:
        match self.state:
            case State.OPENING:
                return min(self._hello_at, self._handshake_deadline)
            case State.OPEN:
                idle_at = self._alive_at + self._limits.idle_timeout_s
                return min(self._acknowledger.due_at, self._recovery.probe_at(), idle_at)
            case _:
                return NEVER

    def handle_timer(self, now: float) -> None:
        if self.state is State.OPENING and now >= self._handshake_deadline:
            self._end(Cause.HANDSHAKE_FAILED.code, "the handshake took too long", by_peer=False)
        elif self.state is State.OPEN and now >= self._alive_at + self._limits.idle_timeout_s:
            self._end(Cause.PEER_SILENT.code, "idle timeout", by_peer=False)
        elif self.state is State.OPEN and now >= self._recovery.probe_at():
            for sent in self._recovery.on_probe():
                self._on_lost(sent)

    # What the session calls, through the endpoint.

    def accept(self) -> None:
        self._window = self._full_window()
        self._stream_allowance = self._limits.max_streams
        self._grant_data()
        self._grant_streams()

    def open(self) -> int | None:
        if self.state is not State.OPEN or not self._is_client:
            return None
        if self._opened >= self._peer.max_streams:
            self._open_refused = True
            return None
        number = 4 * self._opened
        self._opened += 1
        self._add_stream(number)
        return number

    def send(self, number: int, data: bytes | memoryview) -> int:
        stream = self._streams.get(number)
        if stream is None or not stream.sending.open:
            return 0
        taken = min(len(data), self._room(number, stream.sending))
        if taken:
            stream.sending.write(data[:taken])
            self._accepted_bytes += taken
            self._note_sent(number, -taken)
            self._ready[number] = None
        if taken < len(data):
            self._waits += 1
            self._starved[number] = None
        return taken

    def finish(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is not None and stream.sending.open:
            stream.sending.finish()
            self._starved.pop(number, None)
            self._ready[number] = None

    def reset(self, number: int, code: int) -> None:
        stream = self._streams.get(number)
        if stream is not None and stream.sending.reset_code is None and not stream.sending.done:
            # What never leaves takes no credit.
            self._accepted_bytes -= stream.sending.unsent_bytes
            self._note_sent(number, stream.sending.unsent_bytes)
            stream.sending.reset(code)
            self._starved.pop(number, None)
            self._owed["reset", number] = None
            self._wake_writers()

    def stop(self, number: int, code: int) -> None:
        stream = self._streams.get(number)
        if stream is None or stream.receiving.discarding:
            return
        stream.receiving.stop_code = code
        if not stream.receiving.end_reported:
            self._owed["stop", number] = None
        for event in [one for one in self.events if isinstance(one, Data | Reset) and one.stream == number]:
            self.events.remove(event)
        self._discard(stream.receiving)
        self._retire_if_done(number)

    def consumed(self, number: int, count: int) -> None:
        stream = self._streams.get(number)
        if stream is None or stream.receiving.discarding:
            return
        half = stream.receiving
        self._credited_bytes += half.consume(count)
        if half.raise_limit():
            self._owed["max_stream_data", number] = None
        self._grant_data()
        self._retire_if_done(number)

    def ping(self) -> None:
        if self.state is State.OPEN:
            self._ping += 1
            self._ping_pending = True
            self._owed["ping", self._ping] = None

    def close(self, code: int, reason: str) -> None:
        if self.state in (State.OPENING, State.OPEN):
            self._close = CloseFrame(code, reason)
            self._end(code, reason, by_peer=False)
            if self.peer_id != _UNKNOWN_ID and self._rng.random() >= self._faults.lose_close:
                self.state = State.CLOSING

    def stats(self) -> Stats:
        return Stats(
            rtt_s=self._recovery.rtt_s,
            congestion_window_bytes=CONGESTION_WINDOW_BYTES,
            datagram_bytes=self._limits.datagram_floor_bytes,
            last_received_at=self._last_received_at,
            buffered_send_bytes=sum(one.sending.buffered_bytes for one in self._streams.values()),
            flow_control_waits=self._waits,
        )

    # Credit.

    def credit_kept(self, is_alive: Callable[[int], bool]) -> int:
        """Bytes that came, were not credited, and are not kept for a stream that is alive."""
        held = ((number, one.receiving.highest - one.receiving.consumed) for number, one in self._streams.items())
        rightly = sum(count for number, count in held if count and (number == CONTROL_STREAM or is_alive(number)))
        return self._received_bytes - self._credited_bytes - rightly

    def _full_window(self) -> int:
        return self._limits.max_streams * self._limits.stream_window_floor_bytes + self._limits.control_window_bytes

    def _params(self) -> Params:
        limits = self._limits
        return Params(limits.stream_window_floor_bytes, limits.control_window_bytes, self._max_data, self._max_streams)

    def _grant_data(self) -> None:
        limit = self._credited_bytes + self._window
        if limit - self._max_data >= min(self._limits.stream_window_floor_bytes, self._window) // 4:
            self._max_data = limit
            self._owed["max_data", 0] = None

    def _grant_streams(self) -> None:
        limit = self._retired + self._stream_allowance
        if limit > self._max_streams:
            self._max_streams = limit
            self._owed["max_streams", 0] = None

    def _room(self, number: int, half: SendHalf) -> int:
        room = min(half.limit - half.end, self._peer.max_data - self._accepted_bytes)
        if number != CONTROL_STREAM:
            room = min(room, self._limits.send_cap_bytes - self._unsent_bytes)
        return max(0, room)

    def _wake_writers(self) -> None:
        for number in list(self._starved):
            stream = self._streams.get(number)
            if stream is None or self._room(number, stream.sending):
                del self._starved[number]
                if stream is not None:
                    self.events.append(Writable(number))

    # Streams come and go.

    def _add_stream(self, number: int) -> Stream:
        control = number == CONTROL_STREAM
        own = self._limits.control_window_bytes if control else self._limits.stream_window_floor_bytes
        peers = self._peer.control_window if control else self._peer.stream_window
        stream = self._streams[number] = Stream(SendHalf(peers), ReceiveHalf(own))
        return stream

    def _peer_stream(self, number: int) -> Stream | None:
        """The stream of a frame; None for one that is over. A new one brings those below it along."""
        if not self._is_client:
            if number >= 4 * self._max_streams:
                raise FlowControlError(f"stream {number}, with {self._max_streams} streams allowed")
            while 4 * self._seen_streams <= number:
                self._add_stream(4 * self._seen_streams)
                self._seen_streams += 1
        return self._streams.get(number)

    def _retire_if_done(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is not None and stream.sending.done and stream.receiving.done:
            del self._streams[number]
            self._retired += 1
            if not self._is_client:
                self._grant_streams()

    # The connection itself.

    def _connected(self) -> None:
        self.state = State.OPEN
        self._hello_at = NEVER
        self.events.append(Connected(self.address))

    def _end(self, code: int, reason: str, by_peer: bool) -> None:
        self.state = State.CLOSED
        self._streams.clear()
        cause = cause_of_code(code, Cause.TRANSPORT_ERROR) if code else Cause.NONE
        self.events.append(Closed(cause, reason, by_peer))
