"""What a dashboard is made of, in the words of its tables.

Rules
- Every selector in a query has braces, `name{}` where it picks nothing: there the variables are put in (`selected`).
- A query says 0 in peace and nothing where the program is gone: hence no `or vector(0)`, which says 0 of the dead too.
- A description says what the panel tells, and what to do about it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

MATCHERS = 'job=~"$job", instance=~"$instance"'


class Kind(Enum):
    """How a panel shows its queries."""

    LINES = auto()
    STACK = auto()
    """areas on top of each other, for what adds up"""
    BARS = auto()
    """the same with bars, for what comes now and then"""
    NUMBER = auto()
    """one number over the whole time range"""
    LABELS = auto()
    """no number, only the legend: of series that are always 1"""
    WAY = auto()
    """one bar a query, in their order"""
    STATES = auto()
    """when a series was 1"""
    HEAT = auto()
    """the buckets of a histogram"""


@dataclass(frozen=True, slots=True)
class Panel:
    """`queries` is PromQL by legend; `unit` is Grafana's name of it."""

    title: str
    description: str
    unit: str
    queries: Mapping[str, str]
    kind: Kind = Kind.LINES
    width: int = 8
    """in columns, of which there are 24"""
    bad_from: float | None = None
    """from here on it is red, of numbers"""
    good_from: float | None = None
    """below it is red, of numbers"""


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard."""

    name: str
    """of the file, and with `finback-` before it the uid"""
    title: str
    description: str
    jobs_of: str
    """the metric whose jobs and instances can be chosen"""
    sections: Sequence[Section]


def selected(query: str) -> str:
    """With the variables in every selector."""
    return re.sub(r"\{([^}]*)\}", lambda own: "{" + ", ".join(filter(None, (own[1], MATCHERS))) + "}", query)


def per_second(metric: str, by: str) -> str:
    """The rate of a counter, for each value of its labels `by`."""
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


def quantile(of: float, histogram: str, by: str = "") -> str:
    """A quantile of a histogram, for each value of its labels `by`. Nothing was observed: not a number."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({of}, {per_second(histogram, labels)})"


def with_all(metric: str, by: str) -> str:
    """The rates that are not zero, and all of them together, which there is even then: for labels with dozens of values
    of which one or two are ever seen."""
    everything = f'label_replace(sum(rate({metric}[$__rate_interval])), "{by}", "all", "", "")'
    return f"{per_second(metric, by)} > 0 or {everything}"
