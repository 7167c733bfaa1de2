"""What is told when something goes wrong on a stream: what it waits for, and what happened last on its connection.

Rules:
- A ring is small and belongs to one connection. A moment costs a tuple; it is put into words only when it is told.
- Told are ids, counts and states. Never a target, a user or a byte of the payload.
- `session` and `quic_stream` are the same on both sides, `application` is what the tester knows: together they lead
  from a transaction to the lines of both proxies.
- A stall is told at its onset. After any progress the stream can stall again.
"""

from collections import deque
from collections.abc import Iterable
from enum import StrEnum, unique

from tunnel.session.events import StreamState, WaitsFor
from tunnel.session.stream import ReceiveState, SendState, Stream

RING_MOMENTS = 64
MOST_STREAMS = 32
"""In one evidence; how many there were in all is told too."""


@unique
class What(StrEnum):
    """What can happen. About a stream unless said otherwise."""

    UP = "greeting accepted"
    """the connection"""
    SUSPECT = "connection suspect"
    """the connection"""
    GOAWAY = "goaway received"
    """the connection"""
    OPENED = "opened"
    ANSWERED = "head received"
    FINISHED = "end sent at"
    RESET = "reset sent at"
    RECEIVED = "end received at"
    RESET_RECEIVED = "reset received at"
    STOPPED = "stopped by the peer at"
    HANDED_OVER = "handed over, receipt sent at"
    CONFIRMED = "receipt received at"
    ANNOUNCED = "END sent at"
    ANNOUNCED_TO_US = "END received, of"
    RESCUED = "rescued at"


class Ring:
    """The last moments of a connection."""

    __slots__ = ("_moments",)

    def __init__(self) -> None:
        self._moments: deque[tuple[float, int | None, What, int | None]] = deque(maxlen=RING_MOMENTS)

    def note(self, at: float, qid: int | None, what: What, number: int | None = None) -> None:
        """`number` is an offset, or whatever `what` counts."""
        self._moments.append((at, qid, what, number))

    def told(self, now: float) -> tuple[str, ...]:
        """One line a moment, the oldest first: `-1.250 stream 8 end sent at 1000`."""
        return tuple(_line(now, *moment) for moment in list(self._moments))


def waits_for(stream: Stream) -> WaitsFor | None:
    """None for a stream that owes nobody anything: it may be idle for as long as it likes."""
    send, receive = stream.send, stream.receive
    if stream.retired or stream.detached:
        return None
    if stream.head is not None or not stream.answered:
        return WaitsFor.REPLY if stream.qid is not None else WaitsFor.CONNECTION
    if receive.undelivered_bytes or receive.state is ReceiveState.ENDED:
        return WaitsFor.APPLICATION
    if receive.state is ReceiveState.OPEN and receive.end_offset is not None:
        return WaitsFor.END
    if send.state is SendState.OPEN and send.blocked:
        return WaitsFor.CREDIT
    if send.state is SendState.FINISHED and send.confirmed is None:
        return WaitsFor.RECEIPT
    return None


def state_of(stream: Stream, now: float) -> StreamState:
    """A pure read."""
    return StreamState(
        stream=stream.number,
        quic_stream=stream.qid,
        application=stream.application,
        waits_for=waits_for(stream),
        still_s=max(now - stream.last_progress_at, 0.0),
        sent=stream.send.state.value,
        sent_offset=stream.send.final_offset,
        received=stream.receive.state.value if stream.receive.ending is None else stream.receive.ending.value,
        received_offset=stream.receive.offset,
        undelivered_bytes=stream.receive.undelivered_bytes,
    )


def new_stalls(streams: Iterable[Stream], after_s: float, now: float) -> list[Stream]:
    """Those that have stood still for `after_s` since the last look, marked as told; what moved again is unmarked."""
    found = []
    for stream in streams:
        still = now - stream.last_progress_at >= after_s and waits_for(stream) is not None
        if still and not stream.stall_told:
            found.append(stream)
        stream.stall_told = still
    return found


def _line(now: float, at: float, qid: int | None, what: What, number: int | None) -> str:
    stream = "" if qid is None else f"stream {qid} "
    return f"{at - now:.3f} {stream}{what}{'' if number is None else f' {number}'}"
