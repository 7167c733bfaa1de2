"""aioquic's connection with honest flow control and safe endings. The only file that touches aioquic's private members.

Rules:
- Credit is granted from `consumed`, not on arrival: the two methods that write MAX_STREAM_DATA and MAX_DATA only send
  the limits that are set here, where `credit` puts them.
- Bytes of streams that were stopped or reset are credited to the connection exactly once: up to the highest offset
  the peer has used, which counts what arrived out of order and what a RESET_STREAM claims.
- `write` takes what the stream's credit and the send cap allow. The control stream is exempt from the cap and is
  served first in every flush.
- An ending can always cross a call: each call looks at the state first, because aioquic raises or misbehaves for
  streams that are finished, reset, stopped or discarded.
- A stream's record goes when aioquic has discarded the stream and everything that was delivered is consumed. Until
  then it counts against MAX_STREAMS, so unread bytes are bounded by streams x window (F15, F20).

tests/unit/tunnel/engine/aioquic/test_canaries.py fails within seconds when a release changes what is relied on here.
"""

from collections.abc import Iterable
from typing import Any, cast

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    END_STATES,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    Limit,
    QuicConnection,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder, QuicSentPacket
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from cryptography.x509 import Certificate

from tunnel.engine.aioquic.credit import ConnectionCredit, StreamCredit, WindowBudget
from tunnel.engine.aioquic.recovery import Cubic, Pacer
from tunnel.engine.aioquic.streams import Receiving, Sending, SendTurns, StreamRecord
from tunnel.engine.port import CONTROL_STREAM, Address, Packets, Stats
from tunnel.engine.settings import KIB, EngineLimits

WORTHWHILE_BYTES = 4 * KIB
"""A stream is woken for so much credit, or for any when it has nothing left to send."""

KEY_UPDATE_PACKETS = 2**22
"""Keys are changed after so many packets: half of what RFC 9001 section 6.6 allows AES-GCM, an hour at 20 Mbit/s.

aioquic never does it by itself. It costs about a round trip's packets from the peer, which are then sent again.
"""

DATAGRAM_BYTES_MAX = 16 * KIB
"""aioquic writes the lengths of STREAM frames and long headers in two bytes, whatever they are (RFC 9000 sec. 16)."""


def datagram_bytes(wanted: int, limits: EngineLimits) -> int:
    """`wanted`, within the limits and what aioquic can do."""
    return max(limits.datagram_floor_bytes, min(wanted, limits.datagram_cap_bytes, DATAGRAM_BYTES_MAX))


class Connection(QuicConnection):
    """`now` of the last datagram, flush or timer is good enough for what `consume` measures: `self.now`."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        limits: EngineLimits,
        budget: WindowBudget,
        packets: Packets,
        now: float,
        **retry: Any,
    ) -> None:
        """`budget` and `packets` are the endpoint's. `retry` holds aioquic's original_destination_connection_id and
        retry_source_connection_id, for a server."""
        super().__init__(configuration=configuration, **retry)
        self.now = now
        self._packets = packets
        self.last_received_at: float | None = None
        self.flow_control_waits = 0

        self._limits = limits
        self._budget = budget
        self._credit = ConnectionCredit(
            limits.max_streams, limits.stream_window_floor_bytes, limits.control_window_bytes
        )
        self._records: dict[int, StreamRecord] = {}
        self._lingering: set[int] = set()
        """Streams that aioquic has finished with while delivered bytes wait for their reader."""
        self._accepted_bytes = 0
        self._dropped_bytes = 0
        self._turns = SendTurns(limits.send_cap_bytes)
        self._wants_stream = False
        self._ping_number = 0
        self._update_keys_at = KEY_UPDATE_PACKETS
        self.news = False
        """Whether a limit was raised since the last flush."""

        # Only the client opens streams, and only bidirectional ones.
        self._greeted = self._is_client
        self._streams_granted = 0 if self._is_client else limits.greeting_streams
        _announce(self._local_max_streams_bidi, self._streams_granted)
        _announce(self._local_max_streams_uni, 0)
        if self._is_client:
            _announce(self._local_max_data, self._credit.window_bytes)
        self._loss._pacer = Pacer(max_datagram_size=self._max_datagram_size)
        self._cubic.small_bytes = limits.datagram_floor_bytes
        self._count_losses()

    # Streams, as the port has them.

    def accept(self) -> None:
        """Lifts a server's limits from those of the greeting to the full ones."""
        self._greeted = True
        self._grant_connection_credit()
        self._grant_streams()

    def open_stream(self) -> int | None:
        """Takes the next stream id, or None while the peer allows no more."""
        if not self._stream_available():
            self._wants_stream = True
            return None
        stream_id = self.get_next_available_stream_id()
        self.send_stream_data(stream_id, b"")  # makes the stream, so that the id is taken (F16)
        self._record(stream_id)
        return stream_id

    def take_streams_available(self) -> bool:
        """Whether a stream can be opened now, where that was refused before. True once."""
        if not self._wants_stream or not self._stream_available():
            return False
        self._wants_stream = False
        return True

    def write(self, stream_id: int, data: bytes | memoryview) -> int:
        """Takes as much of `data` as there is credit and room for, and returns how much that is."""
        record, stream = self._records.get(stream_id), self._streams.get(stream_id)
        if record is None or stream is None or record.sending is not Sending.OPEN:
            return 0
        size = len(data)
        credit = _credit_left(stream)
        room = size if stream_id == CONTROL_STREAM else self._turns.share(stream_id, self._unsent_bytes())
        taken = max(0, min(size, credit, room))
        if taken:
            # The send buffer copies it, so a view is as good as bytes.
            self.send_stream_data(stream_id, cast("bytes", data if taken == size else data[:taken]))
            self._accepted_bytes += taken
            self._turns.leave(stream_id)
        if taken < size:
            self.flow_control_waits += 1
            self._turns.wait(stream_id, for_credit=taken == credit)
        return taken

    def take_writable(self) -> list[int]:
        """The waiting streams that have credit and room again; they wait no longer."""
        return self._turns.take_ready(self._unsent_bytes, self._has_credit)

    def finish(self, stream_id: int) -> None:
        record = self._records.get(stream_id)
        if record is not None and record.sending is Sending.OPEN:
            self.send_stream_data(stream_id, b"", end_stream=True)
            self._end_sending(stream_id, record, Sending.FINISHED)

    def reset(self, stream_id: int, code: int) -> None:
        record, stream = self._records.get(stream_id), self._streams.get(stream_id)
        if record is None or stream is None or record.sending is Sending.RESET or stream.sender.is_finished:
            return
        self.reset_stream(stream_id, code)
        self._drop_unsent(stream)
        self._end_sending(stream_id, record, Sending.RESET)

    def stop(self, stream_id: int, code: int) -> None:
        record, stream = self._records.get(stream_id), self._streams.get(stream_id)
        if record is None or record.receiving is Receiving.DISCARDING:
            return
        if stream is not None and not stream.receiver.is_finished:
            self.stop_stream(stream_id, code)
        self._discard_arrivals(stream_id, record)

    def consume(self, stream_id: int, count: int) -> None:
        """Credits the peer with `count` bytes, at most with what was delivered."""
        record = self._records.get(stream_id)
        if record is None or (count := min(count, record.unread_bytes)) <= 0:
            return
        credit, stream = record.credit, self._streams.get(stream_id)
        self._credit.consumed_bytes += count
        self._credit.growth_bytes += credit.consume(
            count, self.now, self.rtt_s, self._limits.stream_window_cap_bytes, self._budget
        )
        self._grant_connection_credit()
        if stream is None:
            self._forget(stream_id, record)
        elif record.receiving is Receiving.OPEN and credit.worth_telling(stream.max_stream_data_local):
            stream.max_stream_data_local = credit.limit_bytes
            self.news = True

    def release(self) -> None:
        """Gives the growth of all windows back to the budget. For a connection that has ended."""
        for record in self._records.values():
            self._budget.give_back(record.credit.growth_bytes)
        self._records.clear()

    # What aioquic's events say about streams; each tells whether that is to be reported.

    def on_data(self, stream_id: int, count: int, end: bool) -> bool:
        """`count` bytes came in order. Those of a stream that was stopped here are credited at once."""
        record = self._record(stream_id)
        record.delivered_bytes += count
        if record.receiving is Receiving.DISCARDING:
            self._discard_arrivals(stream_id, record)
            return False
        if end:
            record.receiving = Receiving.FINISHED
        return True

    def on_reset(self, stream_id: int) -> bool:
        """RESET_STREAM came: what is not consumed yet is credited now, up to the final size it claims."""
        record = self._record(stream_id)
        report = record.receiving is not Receiving.DISCARDING
        self._discard_arrivals(stream_id, record)
        return report

    def on_stop_sending(self, stream_id: int) -> bool:
        """STOP_SENDING came, and aioquic has reset the stream unless it had ended before."""
        record, stream = self._record(stream_id), self._streams.get(stream_id)
        if stream is None or record.sending is Sending.RESET or stream.sender.is_finished:
            return False
        self._drop_unsent(stream)
        self._end_sending(stream_id, record, Sending.RESET)
        return True

    # State.

    @property
    def established(self) -> bool:
        return self._handshake_complete

    @property
    def ending(self) -> tuple[ConnectionTerminated, bool] | None:
        """How the connection ends, as soon as that is known, and whether the peer decided it."""
        if self._close_event is None:
            return None
        return self._close_event, self._state == QuicConnectionState.DRAINING

    @property
    def silent(self) -> bool:
        """Whether it neither sends nor listens any more: it only drains, or is gone."""
        return self._state in END_STATES

    @property
    def stream_count(self) -> int:
        """Streams that anything at all is kept of."""
        return len(self._records.keys() | self._streams.keys())

    @property
    def peer_certificate(self) -> Certificate | None:
        return self.tls._peer_certificate

    @property
    def datagram_bytes(self) -> int:
        return self._max_datagram_size

    @property
    def rtt_s(self) -> float:
        return self._loss._rtt_smoothed

    def ping(self) -> None:
        self._ping_number += 1
        self.send_ping(self._ping_number)

    def stats(self) -> Stats:
        return Stats(
            rtt_s=self.rtt_s,
            congestion_window_bytes=self._loss.congestion_window,
            datagram_bytes=self.datagram_bytes,
            last_received_at=self.last_received_at or 0.0,
            buffered_send_bytes=sum(len(stream.sender._buffer) for stream in list(self._streams.values())),
            flow_control_waits=self.flow_control_waits,
        )

    # Overrides.

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """A probe after silence is small: it gets through where large datagrams do not, and its answer shows that."""
        sent_before, size = self._packet_number, self._max_datagram_size
        if self._probe_pending and self._handshake_confirmed:
            self._max_datagram_size = self._limits.datagram_floor_bytes
        try:
            datagrams = super().datagrams_to_send(now)
        finally:
            self._max_datagram_size = size
        self._packets.sent += self._packet_number - sent_before
        return datagrams

    def _payload_received(self, context: QuicReceiveContext, *args: Any, **kwargs: Any) -> tuple[bool, bool]:
        """Reached by packets that authenticated and are no duplicates, and by nothing else."""
        self._packets.received += 1
        self.last_received_at = context.time
        return super()._payload_received(context, *args, **kwargs)

    def _write_application(self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float) -> None:
        """aioquic looks at every stream for every packet, twice: whether to raise its limit, and what it has to say.

        Here it sees only those that have something to tell or to say, the control stream first: its frames do not
        wait behind bulk data, and idle streams cost next to nothing.
        """
        if self._packet_number >= self._update_keys_at:
            self._update_keys_at += KEY_UPDATE_PACKETS
            self.request_key_update()
        if _asks_or_answers(network_path) and builder._datagram_init:
            # It is filled up, and goes out once. Of more than every path carries it would not arrive where the path has
            # become narrower, and a peer that changed its address were never believed.
            builder._buffer_capacity = min(builder._buffer_capacity, self._limits.datagram_floor_bytes)
        queue: list[QuicStream] = []
        quiet: list[QuicStream] = []
        to_tell: list[QuicStream] = []
        for stream in self._streams_queue:
            if stream.is_finished:
                # Earlier than aioquic would, so that the room it leaves is told with this flush and not the next.
                self._discard(stream)
                continue
            (queue if _has_something_to_say(stream) else quiet).append(stream)
            if stream.max_stream_data_local_sent != stream.max_stream_data_local:
                to_tell.append(stream)
        queue.sort(key=_is_not_control)
        self._grant_streams()
        streams, self._streams_queue = self._streams, queue
        self._streams = cast("dict[int, QuicStream]", _StreamsToTell(streams, to_tell))
        try:
            super()._write_application(builder, network_path, now)
        finally:
            self._streams = streams
            self._streams_queue += quiet

    def _send_probing_frames(self, network_path: QuicNetworkPath, now: float) -> list[tuple[bytes, Any]]:
        """Of no more than every path carries, as above."""
        usual, self._max_datagram_size = self._max_datagram_size, self._limits.datagram_floor_bytes
        try:
            return super()._send_probing_frames(network_path, now)
        finally:
            self._max_datagram_size = usual

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        """aioquic raises the limit when data arrives; here `consume` does, and this only tells the peer.

        `max_stream_data_local_sent` goes back to 0 when the frame was lost.
        """
        limit = stream.max_stream_data_local
        if stream.max_stream_data_local_sent == limit or stream.receiver.is_finished:
            return
        frame = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
            handler=self._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        frame.push_uint_var(cast("int", stream.stream_id))
        frame.push_uint_var(limit)
        stream.max_stream_data_local_sent = limit

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        """aioquic doubles MAX_DATA when data arrives, and raises MAX_STREAMS when it discards a stream.

        Here both only tell the peer what was granted. `sent` goes back to 0 when the frame was lost.
        """
        for limit, value in (
            (self._local_max_data, self._local_max_data.value),
            (self._local_max_streams_bidi, self._streams_granted),
        ):
            if limit.sent != value:
                frame = builder.start_frame(
                    limit.frame_type,
                    capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
                    handler=self._on_connection_limit_delivery,
                    handler_args=(limit,),
                )
                frame.push_uint_var(value)
                limit.sent = value

    # Private.

    def _grant_connection_credit(self) -> None:
        """Raises MAX_DATA where that is worth telling."""
        limit = self._local_max_data
        if self._greeted and (value := self._credit.limit_bytes(limit.value)) != limit.value:
            limit.value = value
            self.news = True

    def _grant_streams(self) -> None:
        """Raises MAX_STREAMS by the streams that are gone, where that is worth telling.

        A stream is gone when it is discarded and no delivered bytes of it wait for their reader. `value` is what
        arriving streams are checked against.
        """
        if self._is_client or not self._greeted:
            return
        limit = self._local_max_streams_bidi
        gone = limit.used - len(self._streams) - len(self._lingering)
        allowed = self._limits.max_streams + gone
        # In batches: when the peer has fewer left to open than this would add (as aioquic does).
        if limit.sent - limit.used < allowed - limit.sent and allowed != self._streams_granted:
            self._streams_granted = limit.value = allowed
            self.news = True

    def _stream_available(self) -> bool:
        return self._handshake_complete and self.get_next_available_stream_id() // 4 < self._remote_max_streams_bidi

    def _record(self, stream_id: int) -> StreamRecord:
        record = self._records.get(stream_id)
        if record is None:
            credit = StreamCredit(self._limits.stream_window_floor_bytes, self.now)
            record = self._records[stream_id] = StreamRecord(credit)
        return record

    def _discard_arrivals(self, stream_id: int, record: StreamRecord) -> None:
        """Credits the connection with all that the peer has used of the stream. Later bytes come here again."""
        stream = self._streams.get(stream_id)
        used = record.delivered_bytes if stream is None else stream.receiver.highest_offset
        self._credit.consumed_bytes += used - record.credit.consumed_bytes
        record.credit.consumed_bytes = used
        record.receiving = Receiving.DISCARDING
        self._grant_connection_credit()
        if stream is None:
            self._forget(stream_id, record)

    def _end_sending(self, stream_id: int, record: StreamRecord, sending: Sending) -> None:
        record.sending = sending
        self._turns.leave(stream_id)

    def _discard(self, stream: QuicStream) -> None:
        """Both directions have ended, and everything that was sent or reset is acknowledged."""
        stream_id = cast("int", stream.stream_id)
        del self._streams[stream_id]
        if (record := self._records.get(stream_id)) is not None:
            self._forget(stream_id, record)

    def _forget(self, stream_id: int, record: StreamRecord) -> None:
        """Drops the record of a discarded stream, once nothing of it waits for a reader."""
        if record.unread_bytes > 0:
            self._lingering.add(stream_id)
            return
        self._lingering.discard(stream_id)
        del self._records[stream_id]
        self._credit.growth_bytes -= record.credit.growth_bytes
        self._budget.give_back(record.credit.growth_bytes)
        self._grant_streams()

    def _has_credit(self, stream_id: int) -> bool:
        """Whether there is enough of it to wake the stream; for one with nothing left to send, any is."""
        stream = self._streams[stream_id]
        idle = stream.sender._buffer_stop == stream.sender.highest_offset
        return _credit_left(stream) >= (1 if idle else WORTHWHILE_BYTES)

    def _unsent_bytes(self) -> int:
        """Accepted and not sent for the first time yet, the control stream left out."""
        unsent = self._accepted_bytes - self._remote_max_data_used - self._dropped_bytes
        control = self._streams.get(CONTROL_STREAM)
        if control is not None:
            unsent -= control.sender._buffer_stop - control.sender.highest_offset
        return unsent

    def _drop_unsent(self, stream: QuicStream) -> None:
        """A reset stream sends no more: its bytes leave the cap, and the memory."""
        sender = stream.sender
        self._dropped_bytes += sender._buffer_stop - sender.highest_offset
        sender._buffer_stop = sender.highest_offset
        sender._buffer = bytearray()

    def _count_losses(self) -> None:
        """Losses are declared in one place of the recovery; a probe that repeats data declares none."""
        declare = self._loss._on_packets_lost

        def counting(
            *, now: float, packets: Iterable[QuicSentPacket], congestion_event: bool = True, **rest: Any
        ) -> None:
            packets = list(packets)
            declare(now=now, packets=packets, congestion_event=congestion_event, **rest)
            if congestion_event:
                self._packets.lost += len(packets)
                if self._handshake_confirmed and self._cubic.path_is_narrow(now, packets):
                    self._shrink_datagrams()

        self._loss._on_packets_lost = counting  # type: ignore[method-assign]

    @property
    def _cubic(self) -> Cubic:
        return cast("Cubic", self._loss._cc)

    def _shrink_datagrams(self) -> None:
        """To what every path carries, for good: nobody searches for more (docs/adr/0001)."""
        size = self._limits.datagram_floor_bytes
        self._max_datagram_size = size
        self._cubic.resize(size)
        self._loss._pacer._max_datagram_size = size


def _asks_or_answers(path: QuicNetworkPath) -> bool:
    """Whether PATH_CHALLENGE or PATH_RESPONSE goes out next."""
    return bool(path.remote_challenges) or not (path.is_validated or path.local_challenge_sent)


class _StreamsToTell:
    """The table of streams as a flush uses it: it goes through those with a limit to tell, and discards finished ones
    (of which there are none by then)."""

    __slots__ = ("_streams", "_to_tell")

    def __init__(self, streams: dict[int, QuicStream], to_tell: list[QuicStream]) -> None:
        self._streams = streams
        self._to_tell = to_tell

    def values(self) -> list[QuicStream]:
        return self._to_tell

    def pop(self, stream_id: int) -> QuicStream:
        return self._streams.pop(stream_id)


def _announce(limit: Limit, value: int) -> None:
    """Sets a limit that goes out with the transport parameters."""
    limit.value = limit.sent = value


def _has_something_to_say(stream: QuicStream) -> bool:
    sender = stream.sender
    return not sender.buffer_is_empty or sender.reset_pending or stream.receiver.stop_pending


def _is_not_control(stream: QuicStream) -> bool:
    return stream.stream_id != CONTROL_STREAM


def _credit_left(stream: QuicStream) -> int:
    return stream.max_stream_data_remote - stream.sender._buffer_stop
