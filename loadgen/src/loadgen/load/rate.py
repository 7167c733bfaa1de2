"""The rate of a load over time, and when it has brought so many arrivals.

Rules
- The rate is made of linear stretches, one behind the other; behind the last one `rate_per_s` holds for ever.
- The n-th arrival is due when the integral of the rate reaches n: closed form, so nothing adds up over hours.
- Where the rate is 0, nothing is due: what the integral has reached already waits for the rate to rise.
"""

from collections.abc import Iterable
from math import sqrt

from pydantic import BaseModel, ConfigDict, Field

MAX_RATE_PER_S = 100_000


class Stretch(BaseModel):
    """The rate goes from one value to another, linearly. A `[[ramp]]` of a mix."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    from_per_s: float = Field(ge=0, le=MAX_RATE_PER_S)
    to_per_s: float = Field(ge=0, le=MAX_RATE_PER_S)
    over_s: float = Field(gt=0)

    @property
    def arrivals(self) -> float:
        """How many it brings: the area below it."""
        return (self.from_per_s + self.to_per_s) / 2 * self.over_s

    def reaches_s(self, arrivals: float) -> float:
        """Time from its begin until it has brought `arrivals`, which are less than it brings in all."""
        if arrivals <= 0:
            return 0.0
        rise_per_s2 = (self.to_per_s - self.from_per_s) / self.over_s
        # The usual form of the root, turned around: it has no difference of near numbers, and no division by the rise.
        discriminant = max(self.from_per_s**2 + 2 * rise_per_s2 * arrivals, 0.0)
        return min(2 * arrivals / (self.from_per_s + sqrt(discriminant)), self.over_s)

    def times(self, factor: float) -> "Stretch":
        """The same shape, higher or lower."""
        return Stretch.model_construct(
            from_per_s=self.from_per_s * factor, to_per_s=self.to_per_s * factor, over_s=self.over_s
        )


class Rate:
    """Stretches, and what holds behind them."""

    def __init__(self, ramp: Iterable[Stretch], rate_per_s: float) -> None:
        self._ramp = tuple(ramp)
        self._rate_per_s = rate_per_s

    def due_s(self, arrivals: float) -> float:
        """When the load has brought `arrivals` (a real number, from 0)."""
        begins_s = 0.0
        for stretch in self._ramp:
            if arrivals < stretch.arrivals:
                return begins_s + stretch.reaches_s(arrivals)
            arrivals -= stretch.arrivals
            begins_s += stretch.over_s
        return begins_s + arrivals / self._rate_per_s
