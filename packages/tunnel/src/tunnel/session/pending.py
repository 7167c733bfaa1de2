"""What has not ended: each direction of each stream that is open, or whose end nobody has confirmed.

Rules:
- A pure read of numbers and states. It may run in another thread while the session works: a line may be a moment old,
  and nothing breaks.
- Never a host, an address or a user: whoever may read the metrics may read this.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tunnel.session.stream import ReceiveHalf, ReceiveState, SendHalf, SendState, Stream
from tunnel.wire.messages import Direction

MOST_LISTED = 100
OVERDUE_AT = ("received", "forwarded")


@dataclass(frozen=True, slots=True)
class PendingDirection:
    """`stream` and `connection` are this side's own numbers, as in its log lines; `quic_stream` is the number that both
    sides know it by, None (like `connection`) while it waits for a connection or where that is gone."""

    connection: int | None
    stream: int
    quic_stream: int | None
    direction: Direction
    state: str
    """The name of a `SendState` or a `ReceiveState`."""
    age_s: float
    """Since the stream began."""
    since_end_s: float | None
    """Since this direction ended here; None where it has not."""


@dataclass(frozen=True, slots=True)
class Pending:
    """`count` directions in all; the `MOST_LISTED` oldest of them are `listed`, the oldest first."""

    count: int
    listed: tuple[PendingDirection, ...]

    def document(self) -> dict[str, object]:
        """As JSON will have it. A direction that has not ended has no `since_end_s`."""
        return {"count": self.count, "streams": [_line(one) for one in self.listed]}


def pending_of(streams: Sequence[Stream], now: float) -> Pending:
    """Looks through `streams`, which are in the order of their beginning."""
    count = 0
    listed: list[PendingDirection] = []
    for stream in streams:
        for half in (stream.send, stream.receive):
            if not _is_over(half):
                count += 1
                if len(listed) < MOST_LISTED:
                    listed.append(_look(stream, half, now))
    return Pending(count, tuple(listed))


def overdue_of(streams: Sequence[Stream], after_s: float, now: float) -> dict[tuple[Direction, str], int]:
    """How many ends are open since `after_s` or longer, by direction and the last event of the FIN ledger."""
    found = {(direction, event): 0 for direction in Direction for event in OVERDUE_AT}
    for stream in streams:
        for half in (stream.send, stream.receive):
            at = half.end_open_at
            if at is not None and now - at >= after_s:
                found[half.direction, _last_event(half)] += 1
    return found


def _last_event(half: SendHalf | ReceiveHalf) -> str:
    forwarded = SendState.FINISHED if isinstance(half, SendHalf) else ReceiveState.RECEIPTED
    return "forwarded" if half.state is forwarded else "received"


def _is_over(half: SendHalf | ReceiveHalf) -> bool:
    """Ended, and the end is confirmed: by the peer, or to the peer."""
    if isinstance(half, SendHalf):
        return half.confirmed is not None
    return half.state is ReceiveState.RECEIPTED


def _look(stream: Stream, half: SendHalf | ReceiveHalf, now: float) -> PendingDirection:
    ended_at = half.ended_at
    return PendingDirection(
        stream.connection,
        stream.number,
        stream.qid,
        half.direction,
        half.state.value,
        max(now - stream.opened_at, 0.0),
        None if ended_at is None else max(now - ended_at, 0.0),
    )


def _line(one: PendingDirection) -> dict[str, object]:
    line: dict[str, object] = {
        "connection": one.connection,
        "stream": one.stream,
        "quic_stream": one.quic_stream,
        "direction": one.direction.label,
        "state": one.state,
        "age_s": round(one.age_s, 3),
    }
    return line if one.since_end_s is None else line | {"since_end_s": round(one.since_end_s, 3)}
