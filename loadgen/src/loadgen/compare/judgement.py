"""The verdict of a comparison. A is the baseline, B the candidate.

Rules
- `inconclusive` where the two cannot be compared: another stack, link, mix, rate, faults or scenarios, between the
  sides or within one of them; a run that was inconclusive, saturated or unfinished; a run of B that does not tell what
  is judged and A tells. Documents of older releases are compared in what they have.
- `fail` where B is worse in anything that is judged, or a run of B failed by its own thresholds and none of A did;
  else `pass`. What both have is no regression.
- Amounts: B is worse where its median is beyond A's by more than the tolerance (a ratio) and by more than the floor,
  and no run of B is as good as one of A. With a single run each, that leaves the tolerance alone to decide, and a note
  says so.
- Failures: B is worse where any run of it has some and no run of A has. Where both have, their means over all runs
  decide, by tolerance and floor: a median hides what happens in one run of three.
- Hiccups: B is worse where its mean is beyond A's by tolerance and floor; without the floor where more than one run
  of B, and more than half of them, have more than any run of A.
- Memory and descriptors grow with time: they are not judged where the runs do not last equally long.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from statistics import fmean, median

from loadgen.compare.measures import Kind, Rule, measures, rule
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
    """One measure on both sides, in each run that has it."""

    name: str
    rule: Rule
    of_a: tuple[float, ...]
    of_b: tuple[float, ...]
    is_judged: bool
    mark: Mark

    @property
    def a(self) -> Spread | None:
        return spread(self.of_a)

    @property
    def b(self) -> Spread | None:
        return spread(self.of_b)

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
    compared = tuple(_compared(a, b, tolerance))
    differing = (*_incomparable(a, b), *_untold(a, b, compared))
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


def _untold(a: Side, b: Side, compared: tuple[Compared, ...]) -> Iterator[str]:
    told_by_a = {name for report in a.runs for name in measures(report) if not name.startswith(_COUNTED_BY_NAME)}
    judged = [each.name for each in compared if each.is_judged and each.name in told_by_a]
    for report in b.runs:
        missing = [name for name in judged if name not in measures(report)]
        if missing and not report.is_old:
            yield f"B: run {report.run.id} does not tell {', '.join(missing)}"


def _faults_of(report: Report) -> str:
    return ", ".join(" ".join(filter(None, (fault.kind or fault.name, fault.program))) for fault in report.faults)


def _times_of(report: Report) -> str | None:
    """When which fault was planned, and how strong; None where there is none, or an older document does not say."""
    if any(fault.at_s is None for fault in report.faults):
        return None
    times = (
        f"{fault.name} at {fault.at_s or 0:g} s for {fault.for_s or 0:g} s, recovery {fault.recovery_s or 0:g} s"
        + "".join(f", {name} {value}" for name, value in sorted(fault.conditions.items()))
        for fault in report.faults
    )
    return "; ".join(times) or None


def _link_of(report: Report) -> str | None:
    """None where an older document does not say."""
    return (report.run.link or "none") if "link" in report.run.model_fields_set else None


_ASPECTS: Mapping[str, Callable[[Report], str | None]] = {
    "stack": lambda report: report.run.stack,
    "mix": lambda report: report.run.mix,
    "pattern of arrivals": lambda report: report.run.arrivals,
    "rate": lambda report: None if report.run.rate_per_s is None else f"{report.run.rate_per_s:g}/s",
    "set of scenarios": lambda report: ", ".join(sorted(report.scenarios.keys() - report.unsupported.keys())),
    "plan of faults": lambda report: _faults_of(report) or "none",
    "time of the faults": _times_of,
    "link": _link_of,
}


# ---- what differs


def _compared(a: Side, b: Side, tolerance: float) -> Iterator[Compared]:
    of_a, of_b = ([measures(report) for report in side.runs] for side in (a, b))
    with_faults = any(report.faults for report in (*a.runs, *b.runs))
    equally_long = _alike([report.run.duration_s for report in (*a.runs, *b.runs)])
    for name in dict.fromkeys(name for run in (*of_a, *of_b) for name in run):
        on_a, on_b = (tuple(run[name] for run in runs if name in run) for runs in (of_a, of_b))
        by = rule(name, with_faults)
        grows = name.startswith(("memory.", "fds."))
        judged = by.judged and (equally_long or not grows)
        if by.is_count:  # What is not named was not counted: an older document, which has no such thing.
            on_a, on_b = on_a or _NONE, on_b or _NONE
        mark = _mark(by, on_a, on_b, tolerance) if judged else Mark.NOT_JUDGED
        yield Compared(name, by, on_a, on_b, judged, mark)


def _mark(by: Rule, a: Sequence[float], b: Sequence[float], tolerance: float) -> Mark:
    if not a or not b:
        return Mark.NOT_JUDGED
    if _IS_WORSE[by.kind](b, a, tolerance, by.floor):
        return Mark.WORSE
    return Mark.BETTER if _IS_WORSE[by.kind](a, b, tolerance, by.floor) else Mark.SAME


def _amount_is_worse(it: Sequence[float], than: Sequence[float], tolerance: float, floor: float) -> bool:
    return _is_beyond(median(it), median(than), tolerance, floor) and min(it) > max(than)


def _failure_is_worse(it: Sequence[float], than: Sequence[float], tolerance: float, floor: float) -> bool:
    if max(than) == 0:
        return max(it) > 0
    return _is_beyond(fmean(it), fmean(than), tolerance, floor)


def _hiccup_is_worse(it: Sequence[float], than: Sequence[float], tolerance: float, floor: float) -> bool:
    more = sum(value > max(than) for value in it)
    is_steady = more > 1 and more > len(it) / 2
    return _is_beyond(fmean(it), fmean(than), tolerance, 0.0 if is_steady else floor)


def _is_beyond(it: float, than: float, tolerance: float, floor: float) -> bool:
    return it > max(than, 0.0) * tolerance and it - than > floor


_IS_WORSE: Mapping[Kind, Callable[[Sequence[float], Sequence[float], float, float], bool]] = {
    Kind.AMOUNT: _amount_is_worse,
    Kind.FAILURE: _failure_is_worse,
    Kind.HICCUP: _hiccup_is_worse,
}
_NONE = (0.0,)
_COUNTED_BY_NAME = ("outcome.", "stalls.", "timeouts.")
"""Of these, what a document does not name did not happen."""


def _failed(a: Side, b: Side) -> Iterator[str]:
    if not any(report.verdict is Verdict.FAIL for report in a.runs):
        for report in b.runs:
            if report.verdict is Verdict.FAIL:
                yield f"B: run {report.run.id} failed, and none of A did: {'; '.join(report.reasons)}"


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
    unknown_of_a = [each.name for each in compared if not each.of_a]
    unknown_of_b = [each.name for each in compared if not each.of_b]
    yield from (
        f"not known of {name}: {', '.join(of)}" for name, of in (("A", unknown_of_a), ("B", unknown_of_b)) if of
    )


def _sentence(compared: Compared) -> str:
    unit = f" {compared.rule.unit}" if compared.rule.unit else ""
    if compared.rule.is_count and max(compared.of_a) == 0:
        return f"{compared.name}: none -> up to {max(compared.of_b):.3g}{unit}"
    middle = fmean if compared.rule.is_count else median
    a, b = middle(compared.of_a), middle(compared.of_b)
    of = f", {b / a:.2f} times" if a > 0 and b >= 0 else ""
    return f"{compared.name}: {a:.3g} -> {b:.3g}{unit}{of}"


def _alike(values: list[float]) -> bool:
    return max(values) - min(values) <= ALIKE * max(values)


def _listed(values: set[str]) -> str:
    return " and ".join(sorted(values)) or "not known"
