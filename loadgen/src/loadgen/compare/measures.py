"""What is compared of a run: numbers by name, and the rule for each of them.

    latency.P, latency.SCENARIO.P   time from the scheduled start in ms, P one of p50, p99
    outcome.NAME                    transactions with that outcome, per 1,000
    stalls.PHASE, timeouts.PHASE    phases, per 1,000 transactions
    recovery.failed                 not ok, of 1,000 transactions of the recovery windows
    dropped, not_completed          arrivals that were not started; that came to no outcome of their own; per 1,000
    rescued                         ends of stream that only the rescue brought through, per 1,000 transactions
    offered_per_s                   transactions a second that were due
    ledger.imbalances               hops and directions that lost ends of stream, or have some too many, unexplained
    drain.pending                   what was not over at the end
    drain.seconds                   from the end of the load until everything was over
    memory.PROGRAM, fds.PROGRAM     growth over the run, in MB and in descriptors

Rules
- A number that a document does not have is not there: older documents, programs whose memory is not known.
- Where faults were planned, what is counted and the latency over all scenarios are those of the quiet windows: what
  breaks while something is broken on purpose is no regression. What fails in recovery windows is one number of its own,
  and wrong bytes count in every window. The latency of a scenario is known over the whole run only, so it is shown and
  not judged.
- A difference below the floor is none, whatever the ratio: 1 ms against 2 ms. Wrong bytes and missing ends have none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto, unique

from loadgen.compare.reading import Percentiles, Report
from loadgen.transaction.outcomes import Outcome

WRONG_BYTES = (Outcome.CORRUPT, Outcome.EXCESS, Outcome.EOF_PREMATURE)

_DRAIN = "drain"
"""A phase of the run: it is in no window."""


@unique
class Kind(Enum):
    """What sort of number it is; judgement.py says when which of them is worse."""

    AMOUNT = auto()
    """Every run has some."""
    FAILURE = auto()
    """None is normal."""
    HICCUP = auto()
    """None is usual, and a few prove nothing: a busy machine makes them."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How a measure is judged. More is worse in all of them."""

    unit: str
    floor: float
    """A difference up to this is none."""
    kind: Kind = Kind.AMOUNT
    judged: bool = True

    @property
    def is_count(self) -> bool:
        """Whether there may be none."""
        return self.kind is not Kind.AMOUNT


_P50, _P99 = Rule("ms", floor=5), Rule("ms", floor=20)
_FAILURES = Rule("per 1,000", floor=1, kind=Kind.FAILURE)
_GRAVE = Rule("per 1,000", floor=0, kind=Kind.FAILURE)
_HICCUPS = Rule("per 1,000", floor=5, kind=Kind.HICCUP)
_RULES: Mapping[str, Rule] = {
    "outcome": _FAILURES,
    **{f"outcome.{outcome}": _GRAVE for outcome in (*WRONG_BYTES, Outcome.EOF_MISSING)},
    "stalls": _HICCUPS,
    "timeouts": _HICCUPS,
    "recovery.failed": Rule("per 1,000", floor=20, kind=Kind.HICCUP),
    "dropped": _HICCUPS,
    "not_completed": _HICCUPS,
    "rescued": _GRAVE,
    "offered_per_s": Rule("per s", floor=0, judged=False),
    "ledger.imbalances": Rule("", floor=0, kind=Kind.FAILURE),
    "drain.pending": Rule("", floor=0, kind=Kind.FAILURE),
    "drain.seconds": Rule("s", floor=2),
    "memory": Rule("MB", floor=8),
    "fds": Rule("", floor=8),
}


def rule(name: str, with_faults: bool) -> Rule:
    """The rule for a measure."""
    family, _, rest = name.partition(".")
    if family != "latency":
        return _RULES[name] if name in _RULES else _RULES[family]
    of_percentile = _P50 if name.endswith(".p50") else _P99
    of_scenario = "." in rest
    return Rule(of_percentile.unit, of_percentile.floor, judged=not (of_scenario and with_faults))


def measures(report: Report) -> dict[str, float]:
    """The numbers of one run, in the order in which they are shown."""
    return dict([*_latencies(report), *_counts(report), *_whole_run(report), *_growth(report)])


def _latencies(report: Report) -> Iterator[tuple[str, float]]:
    if report.windows is not None:
        yield from _percentiles("latency", report.windows.quiet.latency_ms)
    for name, scenario in report.scenarios.items():
        yield from _percentiles(f"latency.{name}", scenario.latency_ms)


def _percentiles(name: str, latency_ms: Percentiles) -> Iterator[tuple[str, float]]:
    for percentile, value in (("p50", latency_ms.p50), ("p99", latency_ms.p99)):
        if value is not None:
            yield f"{name}.{percentile}", value


def _counts(report: Report) -> Iterator[tuple[str, float]]:
    completed, outcomes, timeouts = report.totals.completed, report.outcomes, report.timeouts
    stalls: Mapping[str, int] = {phase: stalled.count for phase, stalled in report.stalls.items()}
    if report.faults and report.windows is not None:
        quiet = report.windows.quiet
        completed, stalls = quiet.completed, quiet.stalls
        outcomes = {**quiet.outcomes, **{name: report.outcomes.get(name, 0) for name in WRONG_BYTES}}
        timeouts = {**quiet.timeouts, _DRAIN: report.timeouts.get(_DRAIN, 0)}
    per_1000 = 1000 / max(completed, 1)
    for family, numbers in (("outcome", outcomes), ("stalls", stalls), ("timeouts", timeouts)):
        yield from ((f"{family}.{name}", count * per_1000) for name, count in numbers.items() if name != Outcome.OK)


def _whole_run(report: Report) -> Iterator[tuple[str, float]]:
    totals, windows = report.totals, report.windows
    yield "dropped", totals.dropped * 1000 / max(totals.scheduled, 1)
    yield "not_completed", (totals.scheduled - totals.completed) * 1000 / max(totals.scheduled, 1)
    if report.faults and windows is not None and windows.recovery is not None:
        failed = sum(count for name, count in windows.recovery.outcomes.items() if name != Outcome.OK)
        yield "recovery.failed", failed * 1000 / max(windows.recovery.completed, 1)
    if report.ends:
        rescued = sum(events.rescued for directions in report.ends.values() for events in directions.values())
        yield "rescued", rescued * 1000 / max(totals.completed, 1)
    yield "offered_per_s", report.offered_per_s
    if report.ledger is not None and report.ledger.balanced is not None:
        yield "ledger.imbalances", float(sum(one.missing != one.given_up for one in report.ledger.imbalances))
    yield "drain.pending", float(len(report.drain.pending))
    yield "drain.seconds", report.drain.seconds


def _growth(report: Report) -> Iterator[tuple[str, float]]:
    for program, used in report.resources.items():
        if used.rss_start_bytes is not None and used.rss_end_bytes is not None:
            yield f"memory.{program}", (used.rss_end_bytes - used.rss_start_bytes) / 1e6
        if used.fds_start is not None and used.fds_end is not None:
            yield f"fds.{program}", float(used.fds_end - used.fds_start)
