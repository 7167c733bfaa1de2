"""One timer for many: the earliest of everything that was scheduled.

Rules:
- Each owner has at most one time, which changes with nearly every datagram. Changing it costs one push; the old entry
  stays in the heap and is recognised as stale when it comes to the top, or when there are too many of them.
"""

from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

STALE_ENTRIES = 64
"""So many stale entries beside the living ones are tolerated before the heap is rebuilt."""

Owner = TypeVar("Owner")


class Timers(Generic[Owner]):
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Owner]] = []
        self._entry_of: dict[Owner, tuple[float, int]] = {}
        self._numbers = count()

    def set(self, owner: Owner, when: float | None) -> None:
        """Schedules `owner` for `when` and for nothing else; None for never."""
        if when is None:
            self._entry_of.pop(owner, None)
            return
        entry = self._entry_of.get(owner)
        if entry is not None and entry[0] == when:
            return
        number = next(self._numbers)
        self._entry_of[owner] = when, number
        heappush(self._heap, (when, number, owner))
        if len(self._heap) > 2 * len(self._entry_of) + STALE_ENTRIES:
            self._heap = [(when, number, owner) for owner, (when, number) in self._entry_of.items()]
            heapify(self._heap)

    def earliest(self) -> float | None:
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float) -> list[Owner]:
        """The owners whose time has come; they are scheduled no more."""
        due = []
        self._drop_stale()
        while self._heap and self._heap[0][0] <= now:
            owner = heappop(self._heap)[2]
            del self._entry_of[owner]
            due.append(owner)
            self._drop_stale()
        return due

    def __len__(self) -> int:
        return len(self._entry_of)

    def _drop_stale(self) -> None:
        heap = self._heap
        while heap and self._entry_of.get(heap[0][2]) != heap[0][:2]:
            heappop(heap)
