"""What is told when something goes wrong on a stream: what it waits for, and what happened last on its connection.

Rules:
- A ring is small and belongs to one connection. A moment costs a tuple; it is put into words only when it is told.
- Told are ids, counts and states. Never a target, a user or a byte of the payload.
- `session` and `quic_stream` are the same on both sides, `application` is what the tester knows: together they lead
  from a transaction to the lines of both proxies.
- Each half is judged by itself: what moves the other way hides nothing.
- A stall is told at its onset. A half that makes progress can stall again.
"""

from collections import deque
from collections.abc import Iterable
from enum import StrEnum, unique

from tunnel.session.events import StreamState, WaitsFor
from tunnel.session.stream import ReceiveHalf, ReceiveState, SendHalf, SendState, Stream, Wait

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
    TAKEN = "taken by the peer's application, up to"
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


def state_of(stream: Stream, now: float, wait: Wait | None = None) -> StreamState:
    """A pure read. With `wait` it is about that one, else about the first there is."""
    waits = [found[0] for half in (stream.receive, stream.send) if (found := _waits(stream, half)) is not None]
    return StreamState(
        stream=stream.number,
        quic_stream=stream.qid,
        application=stream.application,
        waits_for=wait.waits_for if wait is not None else waits[0] if waits else None,
        still_s=max(now - (stream.last_progress_at if wait is None else wait.since), 0.0),
        sent=stream.send.state.value,
        sent_offset=stream.send.final_offset,
        received=stream.receive.state.value if stream.receive.ending is None else stream.receive.ending.value,
        received_offset=stream.receive.offset,
        undelivered_bytes=stream.receive.undelivered_bytes,
    )


def new_stalls(streams: Iterable[Stream], after_s: float, now: float) -> list[tuple[Stream, Wait]]:
    """Looks at every half: those that wait at the same place as `after_s` ago, and have not been told of."""
    found = []
    for stream in streams:
        for half in (stream.receive, stream.send):
            wait = half.wait = _still_waits(half.wait, _waits(stream, half), now)
            if wait is not None and not wait.told and now - wait.since >= after_s:
                wait.told = True
                found.append((stream, wait))
    return found


def _still_waits(before: Wait | None, found: tuple[WaitsFor, int] | None, now: float) -> Wait | None:
    if found is None or before is None or found != (before.waits_for, before.reached):
        return None if found is None else Wait(*found, since=now)
    return before


def _waits(stream: Stream, half: SendHalf | ReceiveHalf) -> tuple[WaitsFor, int] | None:
    """What a half waits for, and how far it has come; None where it may be idle for as long as it likes."""
    if stream.retired or stream.detached:
        return None
    if stream.head is not None or not stream.answered:
        wanted = WaitsFor.REPLY if stream.qid is not None else WaitsFor.CONNECTION
        return (wanted, 0) if half is stream.receive else None
    return _waits_to_send(half) if isinstance(half, SendHalf) else _waits_to_receive(half)


def _waits_to_receive(half: ReceiveHalf) -> tuple[WaitsFor, int] | None:
    if half.undelivered_bytes or half.state is ReceiveState.ENDED:
        return WaitsFor.APPLICATION, half.offset - half.undelivered_bytes
    if half.state is ReceiveState.OPEN and half.end_offset is not None:
        return WaitsFor.END, half.offset
    return None


def _waits_to_send(half: SendHalf) -> tuple[WaitsFor, int] | None:
    if half.state is SendState.OPEN and half.blocked:
        return WaitsFor.CREDIT, half.offset
    if half.state is SendState.FINISHED and half.confirmed is None:
        return WaitsFor.RECEIPT, half.offset
    return None


def _line(now: float, at: float, qid: int | None, what: What, number: int | None) -> str:
    stream = "" if qid is None else f"stream {qid} "
    return f"{at - now:.3f} {stream}{what}{'' if number is None else f' {number}'}"
