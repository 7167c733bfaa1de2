"""Median and range of a number over repeated runs, and the ratio of two of them.

A few runs say nothing about a distribution, so there is no test of significance here: what is certain is the range.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, and the least and the most that was seen."""

    median: float
    least: float
    most: float


def spread(values: Iterable[float]) -> Spread | None:
    """Of one number in all runs of a side; None where no run has it."""
    ordered = sorted(values)
    return Spread(median(ordered), ordered[0], ordered[-1]) if ordered else None


def ratio(a: Spread, b: Spread) -> Spread | None:
    """B/A, of the medians, and the range of what any run of B has to any run of A. None without a positive A, or with
    a negative B."""
    if a.least <= 0 or b.least < 0:
        return None
    return Spread(b.median / a.median, b.least / a.most, b.most / a.least)
