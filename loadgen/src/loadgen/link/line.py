"""One direction of a link: which segments get through, and when. No clock, no socket, no task.

Rules
- A buffer is what one receive gave: equal segments of `segment_bytes`, the last one possibly shorter (UDP_GRO).
  Loss, reordering and duplication are decided for each segment; what survives of a buffer leaves as one (UDP_SEGMENT).
- Order is kept whatever the jitter: only a segment that `reorder` picks is overtaken: it leaves `reorder_s` later.
- A throttle sends one segment after the other, each for as long as its bits take; its delay begins when the last one is
  sent. So a buffer is taken apart, and what leaves never exceeds the rate. What is lost takes none of the rate, a
  duplicate takes its own. What would wait for more than the plan's `queue_s` until its first bit is sent is dropped.
- At most `capacity_bytes` are under way; what comes on top is dropped, as at a full queue, and counted.
- Each segment ends in exactly one count: received + duplicated = forwarded + lost + dropped + under way.
- An empty datagram is ignored: QUIC has none.
- The same seed, plan and arrivals give the same departures. Which segments are lost depends on their number alone, not
  on the buffers in which they come.
- A buffer that nothing happens to costs the same whatever the number of its segments.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Generic, NamedTuple, TypeVar

from loadgen.link.chance import Chance
from loadgen.link.plan import Impairment, Timeline

CAPACITY_BYTES = 64 * 1024 * 1024
"""Worst case of one direction: 2.5 Gbit/s for 200 ms. A process holds two of them, 128 MiB in all."""

BUNDLE_BYTES = 65_000
BUNDLE_SEGMENTS = 64
"""What one UDP_SEGMENT send can carry: a UDP datagram's length, and the kernel's UDP_MAX_SEGMENTS."""

_KINDS = ("loss", "reorder", "duplicate")

FlowT = TypeVar("FlowT")


class Departure(NamedTuple, Generic[FlowT]):
    """What leaves in one send: segments of `segment_bytes`, the last possibly shorter."""

    due_s: float
    order: int
    flow: FlowT
    data: bytes
    segment_bytes: int

    @property
    def segments(self) -> int:
        return -(-len(self.data) // self.segment_bytes)


def bundles(departures: list[Departure[FlowT]]) -> Iterator[Departure[FlowT]]:
    """Joins neighbours that one send can carry: one flow, equal segments, only the last one shorter."""
    bundle: list[Departure[FlowT]] = []
    size_bytes = 0
    for departure in departures:
        if bundle and not _continues(bundle[0], size_bytes, departure):
            yield _joined(bundle)
            bundle, size_bytes = [], 0
        bundle.append(departure)
        size_bytes += len(departure.data)
    if bundle:
        yield _joined(bundle)


def _continues(first: Departure[FlowT], size_bytes: int, departure: Departure[FlowT]) -> bool:
    segment_bytes = first.segment_bytes
    return (
        departure.flow is first.flow
        and size_bytes % segment_bytes == 0
        and departure.segment_bytes == segment_bytes
        and size_bytes + len(departure.data) <= min(BUNDLE_BYTES, BUNDLE_SEGMENTS * segment_bytes)
    )


def _joined(bundle: list[Departure[FlowT]]) -> Departure[FlowT]:
    return bundle[0] if len(bundle) == 1 else bundle[0]._replace(data=b"".join(each.data for each in bundle))


@dataclass(slots=True)
class Counts:
    """Segments by what became of them; the reordered are among the forwarded."""

    received: int = 0
    forwarded: int = 0
    lost: int = 0
    dropped: int = 0
    duplicated: int = 0
    reordered: int = 0
    forwarded_bytes: int = 0


class Line(Generic[FlowT]):
    """The decisions and the delay queue of one direction. Times are seconds since the link began to listen."""

    def __init__(self, timeline: Timeline, seed: str, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self.counts = Counts()
        self.queued_bytes = 0
        self.capacity_bytes = capacity_bytes
        self._timeline = timeline
        self._loss, self._reorder, self._duplicate = (Chance(f"{seed}/{kind}") for kind in _KINDS)
        self._jitter = Random(f"{seed}/jitter")
        self._holds, self._holds_until_s = timeline.at(0.0)
        self._queue: deque[Departure[FlowT]] = deque()
        """What is in order: each is due no earlier than the one before."""
        self._late: list[Departure[FlowT]] = []
        """A heap of what is overtaken."""
        self._order = 0
        self._latest_due_s = 0.0
        self._sending_until_s = 0.0

    @property
    def next_due_s(self) -> float | None:
        """When the next departure is due; None where nothing is under way."""
        if self._late:
            return min(self._late[0], self._queue[0]).due_s if self._queue else self._late[0].due_s
        return self._queue[0].due_s if self._queue else None

    def follow(self, timeline: Timeline) -> None:
        """From the next arrival on, `timeline` says what holds. What is under way is not touched."""
        self._timeline = timeline
        self._holds_until_s = -math.inf

    def admit(self, now_s: float, flow: FlowT, data: bytes, segment_bytes: int) -> None:
        """Takes what arrived at `now_s` for `flow` and decides its fate."""
        if not data:
            return
        if now_s >= self._holds_until_s:
            self._holds, self._holds_until_s = self._timeline.at(now_s)
        holds = self._holds
        segments = -(-len(data) // segment_bytes)
        self.counts.received += segments
        if holds.blackhole:
            self.counts.lost += segments
        elif holds.throttles:
            for start in range(0, len(data), segment_bytes):
                self._admit_some(now_s, holds, flow, data[start : start + segment_bytes], segment_bytes)
        elif holds.splits:
            self._admit_some(now_s, holds, flow, data, segment_bytes)
        else:
            self._hold(now_s, holds, flow, data, segment_bytes)

    def depart(self, now_s: float) -> list[Departure[FlowT]]:
        """Returns what is due, in order. The caller sends it and says of each how much was `sent`."""
        due = []
        queue, late = self._queue, self._late
        while queue and queue[0].due_s <= now_s:
            due.append(queue.popleft())
        if late and late[0].due_s <= now_s:
            while late and late[0].due_s <= now_s:
                due.append(heappop(late))
            due.sort()
        self.queued_bytes -= sum(len(departure.data) for departure in due)
        return due

    def sent(self, departure: Departure[FlowT], sent_bytes: int) -> None:
        """Counts a departure of which the socket took the first `sent_bytes`, whole segments; the rest is dropped."""
        segments = -(-sent_bytes // departure.segment_bytes)
        self.counts.forwarded += segments
        self.counts.dropped += departure.segments - segments
        self.counts.forwarded_bytes += sent_bytes

    def _admit_some(self, now_s: float, holds: Impairment, flow: FlowT, data: bytes, segment_bytes: int) -> None:
        """Decides for each segment, and puts under way what is left."""
        segments = -(-len(data) // segment_bytes)
        if lost := self._loss.hits(holds.loss, segments):
            data = _without(data, segment_bytes, lost)
            segments -= len(lost)
            self.counts.lost += len(lost)
        late = self._reorder.hits(holds.reorder, segments)
        twice = self._duplicate.hits(holds.duplicate, segments)
        self.counts.reordered += len(late)
        self.counts.duplicated += len(twice)
        self._hold(now_s, holds, flow, _without(data, segment_bytes, late), segment_bytes)
        self._hold(now_s, holds, flow, _only(data, segment_bytes, twice), segment_bytes)
        self._hold(now_s, holds, flow, _only(data, segment_bytes, late), segment_bytes, holds.reorder_s)

    def _hold(
        self, now_s: float, holds: Impairment, flow: FlowT, data: bytes, segment_bytes: int, behind_s: float = 0.0
    ) -> None:
        """Puts `data` under way: through the throttle, then along the delay, `behind_s` behind its place."""
        if not data:
            return
        waits_s = max(self._sending_until_s - now_s, 0.0) if holds.throttles else 0.0
        if waits_s > holds.queue_s or self.queued_bytes + len(data) > self.capacity_bytes:
            self.counts.dropped += -(-len(data) // segment_bytes)
            return
        sent_s = now_s + waits_s
        if holds.throttles:
            sent_s += len(data) * 8 / (holds.rate_mbit_s * 1e6)
            self._sending_until_s = sent_s
        due_s = self._in_order_s(sent_s, holds) + behind_s
        departure = Departure(due_s, self._order, flow, data, segment_bytes)
        if behind_s:
            heappush(self._late, departure)
        else:
            self._queue.append(departure)
        self._order += 1
        self.queued_bytes += len(data)

    def _in_order_s(self, sent_s: float, holds: Impairment) -> float:
        delay_s = holds.delay_s
        if holds.jitter_s:
            delay_s = max(delay_s + self._jitter.uniform(-holds.jitter_s, holds.jitter_s), 0.0)
        self._latest_due_s = max(self._latest_due_s, sent_s + delay_s)
        return self._latest_due_s


def _without(data: bytes, segment_bytes: int, numbers: Sequence[int]) -> bytes:
    """The segments of `data` but those with `numbers`, which rise."""
    if not numbers:
        return data
    view = memoryview(data)
    edges = [0, *(edge for number in numbers for edge in (number * segment_bytes, (number + 1) * segment_bytes)), None]
    # Joined, that is copied: a view would keep the whole buffer in memory for the sake of one segment.
    return b"".join(view[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))


def _only(data: bytes, segment_bytes: int, numbers: Sequence[int]) -> bytes:
    """The segments of `data` with these numbers."""
    return b"".join([data[number * segment_bytes : (number + 1) * segment_bytes] for number in numbers])
