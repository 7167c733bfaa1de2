"""Deadlines by key: one heap, lazily cleaned.

Rules:
- A key has one deadline; setting it again replaces it.
- Setting and cancelling cost O(log n) at most; nothing ever scans.
"""

from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Timers(Generic[Key]):
    """Times are seconds on the caller's clock."""

    def __init__(self) -> None:
        self._at: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: Key, at: float) -> None:
        self._at[key] = at
        self._sequence += 1
        heappush(self._heap, (at, self._sequence, key))
        if len(self._heap) > 64 + 4 * len(self._at):
            self._compact()

    def set_at_latest(self, key: Key, at: float) -> None:
        """Like `set`, unless the key's deadline comes before `at` already: for whoever looks again when it does."""
        current = self._at.get(key)
        if current is None or at < current:
            self.set(key, at)

    def cancel(self, key: Key) -> None:
        self._at.pop(key, None)

    def next(self) -> float | None:
        """The earliest deadline."""
        heap = self._heap
        while heap and self._at.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> Iterator[Key]:
        """The keys whose deadline is reached, each removed as it is given out."""
        while (at := self.next()) is not None and at <= now:
            _, _, key = heappop(self._heap)
            del self._at[key]
            yield key

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._at.get(entry[2]) == entry[0]]
        heapify(self._heap)
