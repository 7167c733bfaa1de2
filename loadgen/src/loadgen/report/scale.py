"""Scales: from a value to its place, and the ticks between. Pure numbers, nothing is drawn here.

Rules
- A scale gives a place between 0 (its low end) and 1 (its high end); what lies outside is moved to the nearer end.
- Ticks are round numbers. An axis never ends below the highest value: nothing is drawn above it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Scale(Protocol):
    """Where values stand."""

    @property
    def ticks(self) -> tuple[float, ...]: ...
    def place(self, value: float) -> float: ...


@dataclass(frozen=True, slots=True)
class Linear:
    """From zero."""

    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        return min(max(value / self.ticks[-1], 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Logarithmic:
    """From `low` to `high`, with ticks at the powers of ten between."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        if value <= 0:
            return 0.0
        low, high = math.log10(self.low), math.log10(self.high)
        return min(max((math.log10(value) - low) / (high - low), 0.0), 1.0)


def linear(highest: float, ticks: int = 4, whole: bool = False) -> Linear:
    """From zero to at least `highest`; `whole`: of things that do not come in parts."""
    highest = highest if highest > 0 and math.isfinite(highest) else 1.0
    step = max(_round_step(highest / ticks), 1.0 if whole else 0.0)
    number = max(math.ceil(highest / step - 1e-9), 1)
    return Linear(tuple(step * index for index in range(number + 1)))


def logarithmic(values: Iterable[float]) -> Logarithmic:
    """Around the positive ones of `values`; one decade where there is nothing."""
    positive = [value for value in values if value > 0 and math.isfinite(value)] or [1.0, 10.0]
    low, high = 1 / _round_step(1 / min(positive), _HALF_DECADES), _round_step(max(positive), _HALF_DECADES)
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last <= first:
        low, high, first, last = 10.0 ** (first - 1), 10.0 ** (first + 1), first - 1, first + 1
    return Logarithmic(low, high, tuple(10.0**power for power in range(first, last + 1)))


def time_ticks(span_s: float, ticks: int) -> tuple[float, ...]:
    """Round moments from 0 up to `span_s`."""
    step = next((step for step in _TIME_STEPS_S if span_s / step <= ticks), _round_step(span_s / ticks))
    return tuple(step * index for index in range(math.floor(span_s / step + 1e-9) + 1))


def milliseconds(value: float) -> str:
    """A power of ten as the axis of a latency writes it."""
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms" if value >= 1 else f"{value * 1000:g} µs"


def number(value: float) -> str:
    """A number of things as an axis writes it: short, because there is little room."""
    if value < 10_000:
        return f"{value:,.10g}"
    unit, factor = next(pair for pair in (("G", 1e9), ("M", 1e6), ("k", 1e3)) if value >= pair[1])
    return f"{value / factor:g} {unit}"


def clock(at_s: float, span_s: float) -> str:
    """A moment as the time axis writes it."""
    if span_s <= 120:
        return f"{at_s:g} s"
    minutes, second = divmod(round(at_s), 60)
    if span_s < 7200:
        return f"{minutes}:{second:02}"
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02} h" if minute else f"{hours} h"


_TIME_STEPS_S = (0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)

_HALF_DECADES = (1, 3, 10)


def _round_step(least: float, factors: Sequence[float] = (1, 2, 2.5, 5, 10)) -> float:
    """The first round number that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in factors if factor * power >= least * (1 - 1e-9))
