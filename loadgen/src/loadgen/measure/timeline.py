"""The run as a row of buckets, for the charts of its report: `timeline.json`.

Rules
- At most BUCKETS of them, made at the start: memory does not grow. When the row is full, neighbours are merged and a
  bucket lasts twice as long.
- Outcomes and latencies stand at the scheduled start of their transaction, so that what a fault did stands in its
  time; stalls stand at their onset.
- Latencies are counted in steps of 5 %, so that merging loses nothing.
"""

import math
from array import array
from typing import Any

from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase

BUCKETS = 300
_STEP = math.log(1.05)
_AFTERWARDS_S = 30.0
"""For what is seen after the load, while it drains."""
_SHORTEST_S = 0.000_5
_STEPS = 260
"""Up to 150 s."""


class Bucket:
    """One stretch of time. 2 kB."""

    __slots__ = ("in_flight", "lag_s", "latencies", "max_s", "outcomes", "stalled", "stalls")

    def __init__(self) -> None:
        self.outcomes = array("L", bytes(len(Outcome) * 8))
        self.stalls = array("L", bytes(len(Phase) * 8))
        self.latencies = array("I", bytes(_STEPS * 4))
        self.max_s = 0.0
        self.stalled = self.in_flight = 0
        self.lag_s = 0.0

    def take(self, other: "Bucket") -> None:
        """Adds what is in `other`."""
        for mine, theirs in (
            (self.outcomes, other.outcomes), (self.stalls, other.stalls), (self.latencies, other.latencies),
        ):  # fmt: skip
            for index, number in enumerate(theirs):
                mine[index] += number
        self.max_s = max(self.max_s, other.max_s)
        self.stalled, self.in_flight = max(self.stalled, other.stalled), max(self.in_flight, other.in_flight)
        self.lag_s = max(self.lag_s, other.lag_s)

    def percentile_ms(self, share: float) -> float | None:
        """Milliseconds; None where nothing is counted."""
        wanted = math.ceil(sum(self.latencies) * share)
        passed = 0
        for step, number in enumerate(self.latencies):
            passed += number
            if number and passed >= wanted:
                return round(min(_SHORTEST_S * math.exp(step * _STEP), self.max_s) * 1000, 3)
        return None


class Timeline:
    """The buckets of one run. `duration_s` is what is expected; None: it is not known."""

    def __init__(self, duration_s: float | None) -> None:
        span_s = BUCKETS if duration_s is None else duration_s + _AFTERWARDS_S
        self.bucket_s = max(math.ceil(span_s / BUCKETS * 2) / 2, 0.5)
        self._buckets = [Bucket() for _ in range(BUCKETS)]
        self._used = 0

    def at(self, at_s: float) -> Bucket:
        """The bucket of a moment, in seconds since the load began."""
        at_s = max(at_s, 0.0)
        while at_s >= self.bucket_s * BUCKETS:
            self._merge()
        index = int(at_s / self.bucket_s)
        self._used = max(self._used, index + 1)
        return self._buckets[index]

    def ended(self, due_s: float, outcome: Outcome, latency_s: float | None) -> None:
        """A transaction that was due at `due_s`; latency None: it had none of its own."""
        bucket = self.at(due_s)
        bucket.outcomes[_OUTCOMES[outcome]] += 1
        if latency_s is not None:
            bucket.latencies[_step(latency_s)] += 1
            bucket.max_s = max(bucket.max_s, latency_s)

    def stalled(self, at_s: float, phase: Phase) -> None:
        self.at(at_s).stalls[_PHASES[phase]] += 1

    def look(self, at_s: float, stalled: int, in_flight: int, lag_s: float) -> None:
        """The state of a moment; a bucket keeps the highest of each."""
        bucket = self.at(at_s)
        bucket.stalled, bucket.in_flight = max(bucket.stalled, stalled), max(bucket.in_flight, in_flight)
        bucket.lag_s = max(bucket.lag_s, lag_s)

    def document(self) -> dict[str, Any]:
        """Lists of equal length, one entry a bucket."""
        used = self._buckets[: self._used]
        stalls = {phase: [bucket.stalls[index] for bucket in used] for phase, index in _PHASES.items()}
        return {
            "bucket_s": self.bucket_s,
            "outcomes": {outcome: [bucket.outcomes[index] for bucket in used] for outcome, index in _OUTCOMES.items()},
            "latency_ms": {
                "p50": [bucket.percentile_ms(0.50) for bucket in used],
                "p99": [bucket.percentile_ms(0.99) for bucket in used],
                "max": [round(bucket.max_s * 1000, 3) if any(bucket.latencies) else None for bucket in used],
            },
            "stalls": {phase: onsets for phase, onsets in stalls.items() if any(onsets)},
            "stalled_now": [bucket.stalled for bucket in used],
            "in_flight": [bucket.in_flight for bucket in used],
            "lag_ms": [round(bucket.lag_s * 1000, 1) for bucket in used],
        }

    def _merge(self) -> None:
        for first, second in zip(self._buckets[::2], self._buckets[1::2], strict=True):
            first.take(second)
        self._buckets = self._buckets[::2] + [Bucket() for _ in range(BUCKETS // 2)]
        self.bucket_s *= 2
        self._used = -(-self._used // 2)


_OUTCOMES = {outcome: index for index, outcome in enumerate(Outcome)}
_PHASES = {phase: index for index, phase in enumerate(Phase)}


def _step(latency_s: float) -> int:
    """The first step that is not below it, so that a percentile is never told too low."""
    if latency_s <= _SHORTEST_S:
        return 0
    return min(math.ceil(math.log(latency_s / _SHORTEST_S) / _STEP), _STEPS - 1)
