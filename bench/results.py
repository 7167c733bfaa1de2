"""What a run comes to: samples in, medians with their spread out, as the file that others read. Pure.

Rules
- A result is one metric of one contender at one work, over the rounds in which it could be measured.
- `added_p50_ms` and its like are differences to `direct` of the same round: what the machine does to both falls out.
- A failure is kept with its reason and its rounds; a contender can have results and failures at the same work.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

Figures = Mapping[str, float]
BASELINE = "direct"
ADDED = {"keep-alive": ("p50_ms", "p99_ms")}
"""Metrics that are shown as differences to the baseline, too."""


@dataclass(frozen=True)
class Result:
    """`median`, `min` and `max` over the rounds."""

    work: str
    contender: str
    metric: str
    median: float
    min: float
    max: float


@dataclass(frozen=True)
class Failure:
    """Why there is no figure."""

    work: str
    contender: str
    reason: str
    rounds: int


@dataclass
class Samples:
    """Everything measured so far."""

    figures: dict[tuple[str, str], dict[int, Figures]] = field(default_factory=lambda: defaultdict(dict))
    """(work, contender) -> round -> metric -> figure."""
    reasons: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def results(self) -> list[Result]:
        """In the order in which the works and contenders came."""
        return [
            Result(work, contender, metric, median(values), min(values), max(values))
            for (work, contender), rounds in self.figures.items()
            for metric, values in self._by_metric(work, rounds).items()
        ]

    def failures(self) -> list[Failure]:
        return [Failure(*key, reasons[-1], len(reasons)) for key, reasons in self.reasons.items()]

    def _by_metric(self, work: str, rounds: Mapping[int, Figures]) -> dict[str, list[float]]:
        values: dict[str, list[float]] = defaultdict(list)
        baseline = self.figures.get((work, BASELINE), {})
        for number, figures in rounds.items():
            for metric, figure in figures.items():
                values[metric].append(figure)
            for metric in ADDED.get(work, ()):
                if number in baseline and metric in figures:
                    values[f"added_{metric}"].append(figures[metric] - baseline[number][metric])
        return values


@dataclass(frozen=True)
class Run:
    """Results with what one has to know about them."""

    results: list[Result]
    failures: list[Failure]
    about: Mapping[str, Any]
    """machine, versions, commit, date, and how the run was asked for."""

    def document(self) -> dict[str, Any]:
        """As JSON. Figures have four significant digits: more would be noise."""
        return {
            "results": [_rounded(asdict(result)) for result in self.results],
            "failures": [asdict(failure) for failure in self.failures],
            **self.about,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Run":
        """Raises KeyError or TypeError where it is not one of ours."""
        about = {name: value for name, value in document.items() if name not in ("results", "failures")}
        results = [Result(**each) for each in document["results"]]
        return cls(results, [Failure(**each) for each in document.get("failures", [])], about)

    def find(self, work: str, contender: str, metric: str) -> Result | None:
        for result in self.results:
            if (result.work, result.contender, result.metric) == (work, contender, metric):
                return result
        return None

    def ratio(self, work: str, metric: str, contender: str, to: str) -> float | None:
        """Of two medians; None where one is missing."""
        over, under = self.find(work, contender, metric), self.find(work, to, metric)
        return over.median / under.median if over and under and under.median else None

    def failure(self, work: str, contender: str) -> Failure | None:
        return next((each for each in self.failures if (each.work, each.contender) == (work, contender)), None)


def rotated(names: Iterable[str], by: int) -> list[str]:
    """The order of a round: whoever was first comes last in the next one."""
    order = list(names)
    return order[by % len(order) :] + order[: by % len(order)] if order else []


def _rounded(result: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in result.items()}
