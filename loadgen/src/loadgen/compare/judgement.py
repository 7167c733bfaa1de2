"""The verdict of a comparison. A is the baseline, B the candidate.

Rules
- `inconclusive` where the two cannot be compared: another stack, mix, rate, faults or scenarios, between the sides or
  within one of them; a run that was inconclusive, saturated or unfinished.
- `fail` where B is worse in anything that is judged, or a run of B failed by its own thresholds and none of A did;
  else `pass`. What both have is no regression.
- B is worse where its median is beyond A's by more than the tolerance (a ratio) and by more than the floor, and no run
  of B is as good as one of A. With a single run each, that leaves the tolerance alone to decide, and a note says so.
- B is also worse where any run of it has failures, stalls or timeouts of a kind that no run of A has.
- Memory and descriptors grow with time: they are not judged where the runs do not last equally long.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique

from loadgen.compare.measures import Rule, measures, rule
from loadgen.compare.reading import Report, Side
from loadgen.compare.spread import Spread, ratio, spread
from loadgen.verdict.verdict import Verdict

TOLERANCE = 1.25
ALIKE = 0.1
"""Durations, and rates that only were measured, may differ by this part."""


@unique
class Mark(StrEnum):
    WORSE = "worse"
    BETTER = "better"
    SAME = "same"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class Compared:
    """One measure on both sides; None where no run of a side has it."""

    name: str
    rule: Rule
    a: Spread | None
    b: Spread | None
    mark: Mark

    @property
    def ratio(self) -> Spread | None:
        return None if self.a is None or self.b is None else ratio(self.a, self.b)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All measures, and what they come to."""

    a: Side
    b: Side
    tolerance: float
    verdict: Verdict
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    measures: tuple[Compared, ...]


def compare(a: Side, b: Side, tolerance: float = TOLERANCE) -> Comparison:
    """Judges B by A."""
    differing = tuple(_incomparable(a, b))
    compared = tuple(_compared(a, b, tolerance))
    worse = (*_failed(a, b), *(_sentence(each) for each in compared if each.mark is Mark.WORSE))
    verdict = Verdict.INCONCLUSIVE if differing else Verdict.FAIL if worse else Verdict.PASS
    return Comparison(a, b, tolerance, verdict, (*differing, *worse), tuple(_notes(a, b, compared)), compared)


# ---- whether they can be compared


def _incomparable(a: Side, b: Side) -> Iterator[str]:
    for name, side in (("A", a), ("B", b)):
        yield from (f"{name}: {path} has no verdict: that run did not end by itself" for path in side.unfinished)
        for report in side.runs:
            if report.generator.saturated:
                yield f"{name}: the generator of run {report.run.id} was saturated"
            elif report.verdict is Verdict.INCONCLUSIVE:
                yield f"{name}: run {report.run.id} is inconclusive"
    for aspect, of in _ASPECTS.items():
        known = [{value for report in side.runs if (value := of(report)) is not None} for side in (a, b)]
        if len(known[0] | known[1]) > 1:
            yield f"another {aspect}: A {_listed(known[0])}, B {_listed(known[1])}"
    if any(report.run.rate_per_s is None for report in (*a.runs, *b.runs)):
        offered_per_s = [report.offered_per_s for report in (*a.runs, *b.runs)]
        if not _alike(offered_per_s):
            yield f"another rate: {min(offered_per_s):.3g} to {max(offered_per_s):.3g} transactions a second"


def _faults_of(report: Report) -> str:
    return ", ".join(" ".join(filter(None, (fault.kind or fault.name, fault.program))) for fault in report.faults)


_ASPECTS: Mapping[str, Callable[[Report], str | None]] = {
    "stack": lambda report: report.run.stack,
    "mix": lambda report: report.run.mix,
    "pattern of arrivals": lambda report: report.run.arrivals,
    "rate": lambda report: None if report.run.rate_per_s is None else f"{report.run.rate_per_s:g}/s",
    "set of scenarios": lambda report: ", ".join(sorted(report.scenarios.keys() - report.unsupported.keys())),
    "plan of faults": lambda report: _faults_of(report) or "none",
}


# ---- what differs


def _compared(a: Side, b: Side, tolerance: float) -> Iterator[Compared]:
    of_a, of_b = ([measures(report) for report in side.runs] for side in (a, b))
    with_faults = any(report.faults for report in (*a.runs, *b.runs))
    equally_long = _alike([report.run.duration_s for report in (*a.runs, *b.runs)])
    for name in dict.fromkeys(name for run in (*of_a, *of_b) for name in run):
        on_a, on_b = (spread(run[name] for run in runs if name in run) for runs in (of_a, of_b))
        by = rule(name, with_faults)
        grows = name.startswith(("memory.", "fds."))
        judged = by.judged and (equally_long or not grows)
        if by.none_is_normal:  # What is not named was not counted: an older document, which has no such phase.
            on_a, on_b = on_a or _NOTHING, on_b or _NOTHING
        yield Compared(name, by, on_a, on_b, _mark(by, on_a, on_b, tolerance) if judged else Mark.NOT_JUDGED)


def _mark(by: Rule, a: Spread | None, b: Spread | None, tolerance: float) -> Mark:
    if a is None or b is None:
        return Mark.NOT_JUDGED
    if _is_worse(by, a, b, tolerance):
        return Mark.WORSE
    return Mark.BETTER if _is_worse(by, b, a, tolerance) else Mark.SAME


def _is_worse(by: Rule, than: Spread, it: Spread, tolerance: float) -> bool:
    if by.none_is_normal and than.most == 0:
        return it.most > 0
    beyond = it.median > max(than.median, 0.0) * tolerance and it.median - than.median > by.floor
    return beyond and not it.overlaps(than)


def _failed(a: Side, b: Side) -> Iterator[str]:
    if not any(report.verdict is Verdict.FAIL for report in a.runs):
        for report in b.runs:
            if report.verdict is Verdict.FAIL:
                yield f"B: run {report.run.id} failed, and none of A did: {'; '.join(report.reasons)}"


_NOTHING = Spread(0.0, 0.0, 0.0)


# ---- in words


def _notes(a: Side, b: Side, compared: tuple[Compared, ...]) -> Iterator[str]:
    runs = (*a.runs, *b.runs)
    if len(a.runs) == len(b.runs) == 1:
        yield "a single run each: the tolerance alone decides; repeated runs would tell noise from difference"
    for name, side in (("A", a), ("B", b)):
        failed = sum(report.verdict is Verdict.FAIL for report in side.runs)
        if failed:
            yield f"{name}: {failed} of {len(side.runs)} runs failed by their own thresholds"
    if any(report.run.mix is None for report in runs):
        yield "an older report does not say which mix it had"
    if not _alike([report.run.duration_s for report in runs]):
        yield "the runs did not last equally long: growth of memory and descriptors is not judged"
    if any(report.faults for report in runs):
        yield "faults were planned: counts are those of the quiet windows, latencies of single scenarios are not judged"
    unknown_of_a = [each.name for each in compared if each.a is None]
    unknown_of_b = [each.name for each in compared if each.b is None]
    yield from (
        f"not known of {name}: {', '.join(of)}" for name, of in (("A", unknown_of_a), ("B", unknown_of_b)) if of
    )


def _sentence(compared: Compared) -> str:
    assert compared.a is not None
    assert compared.b is not None
    unit = f" {compared.rule.unit}" if compared.rule.unit else ""
    if compared.a.most == 0:
        return f"{compared.name}: none -> up to {compared.b.most:.3g}{unit}"
    of = "" if compared.ratio is None else f", {compared.ratio.median:.2f} times"
    return f"{compared.name}: {compared.a.median:.3g} -> {compared.b.median:.3g}{unit}{of}"


def _alike(values: list[float]) -> bool:
    return max(values) - min(values) <= ALIKE * max(values)


def _listed(values: set[str]) -> str:
    return " and ".join(sorted(values)) or "not known"
