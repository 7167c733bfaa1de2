"""Which of many equally likely trials hit: the gap to the next hit is drawn, so that what does not hit costs nothing.

Rules
- Each trial hits with the probability of its moment, independently of all others: gaps are geometric, and a geometric
  gap remembers nothing. So at another probability the next gap is drawn anew.
- The same seed and probabilities hit the same trials, however many are tried in one call.
"""

import math
from collections.abc import Sequence
from random import Random

_NEVER = 1e18
"""A gap longer than any run; the probability may be as small as a float can be."""


class Chance:
    """A run of trials, seeded."""

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)
        self._probability = 0.0
        self._misses: float = math.inf
        """How many trials miss before the next hit."""

    def hits(self, probability: float, trials: int) -> Sequence[int]:
        """Which of the next `trials` (0, 1, ...) hit, in order."""
        if probability != self._probability:
            self._probability = probability
            self._misses = self._gap()
        if self._misses >= trials:
            self._misses -= trials
            return ()
        found = []
        while self._misses < trials:
            found.append(int(self._misses))
            self._misses += 1 + self._gap()
        self._misses -= trials
        return found

    def _gap(self) -> float:
        if self._probability <= 0:
            return math.inf
        if self._probability >= 1:
            return 0
        gap = math.log1p(-self._random.random()) / math.log1p(-self._probability)
        return math.floor(min(gap, _NEVER))
