"""Thresholds: `METRIC OPERATOR VALUE`, such as `outcome.eof_missing == 0` or `quiet.latency.p99 < 250ms`.

    outcome.NAME, failed         transactions with that outcome; with any but ok
    timeouts, timeouts.PHASE     phases that reached their timeout
    stalls, stalls.PHASE         stalls at their onset
    latency.P                    time from the scheduled start, P one of p50, p90, p99, max: a time
    completed                    transactions with an outcome of their own
    WINDOW.…                     each of these in one kind of time only: quiet, fault or recovery

    latency.SCENARIO.P           of one scenario
    late                         failures that a fault would have excused, after its recovery was over
    rescued                      ends of stream that only the rescue brought through
    ledger.imbalances            hops of the FIN ledger that do not balance
    dropped                      transactions that were due and not started
    offered_per_s                transactions a second that were due
    drain.pending, drain.seconds gauges that did not come back to zero; how long that took: a time
    generator.lag                the longest delay of a start or of the event loop: a time
    generator.blamed             quiet phases that were the generator's own doing

Rules
- Operators: == != < <= > >=. Times need a unit, ms or s; numbers have none.
- A threshold on a metric replaces the default ones on that metric.
- Without faults, the defaults hold the whole run to: no outcome but ok, no timeout, everything drained, the ledger
  balanced. With faults they hold the quiet windows to that, and the whole run to what no fault excuses: no byte wrong,
  none too many, no end too early, no failure that comes late, nothing left over.
- A default one on something that this run does not tell (no ledger, no such window) is left out; one that was asked for
  is not.
- Some metrics depend on how fast the generator ran: a saturated generator cannot be held against the proxy.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from loadgen.scenarios import SCENARIOS
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase
from loadgen.transaction.transaction import Window

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}

_EXPRESSION = re.compile(r"\s*([a-z0-9_.]+)\s*(==|!=|<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|)\s*", re.ASCII)
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

_WINDOWED_COUNTS = frozenset(
    [f"outcome.{outcome}" for outcome in Outcome]
    + [f"{what}.{phase}" for what in ("timeouts", "stalls") for phase in Phase]
    + ["failed", "timeouts", "stalls", "completed"]
)
_WINDOWED_TIMES = frozenset(f"latency.{percentile}" for percentile in PERCENTILES)
_COUNTS = (
    _WINDOWED_COUNTS
    | {f"{window}.{metric}" for window in Window for metric in _WINDOWED_COUNTS}
    | {"late", "rescued", "ledger.imbalances", "dropped", "offered_per_s", "drain.pending", "generator.blamed"}
)
_TIMES = (
    _WINDOWED_TIMES
    | {f"{window}.{metric}" for window in Window for metric in _WINDOWED_TIMES}
    | {f"latency.{scenario}.{percentile}" for scenario in SCENARIOS for percentile in PERCENTILES}
    | {"drain.seconds", "generator.lag"}
)
_CORRECTNESS = frozenset(
    f"outcome.{outcome}"
    for outcome in (
        Outcome.CORRUPT, Outcome.EXCESS, Outcome.EOF_PREMATURE, Outcome.EOF_MISSING,
        Outcome.RESET, Outcome.SOCKS_REJECTED, Outcome.HTTP_ERROR,
    )
) | {"rescued", "ledger.imbalances"}  # fmt: skip
_NEVER_EXCUSED = (Outcome.CORRUPT, Outcome.EXCESS, Outcome.EOF_PREMATURE)


def unwindowed(metric: str) -> str:
    """The metric without its window, where it has one."""
    window, _, rest = metric.partition(".")
    return rest if window in tuple(Window) else metric


class ThresholdError(ValueError):
    """Not a threshold; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """One condition on one metric. Times are seconds here."""

    expression: str
    metric: str
    operator: str
    bound: float
    is_default: bool = False

    @property
    def depends_on_speed(self) -> bool:
        """Whether a slow generator can violate it."""
        return unwindowed(self.metric) not in _CORRECTNESS

    @property
    def phase(self) -> Phase | None:
        """The phase that it is about, if it is about one."""
        what, _, name = unwindowed(self.metric).partition(".")
        return Phase(name) if what in ("timeouts", "stalls") and name else None

    def holds(self, value: float) -> bool:
        return _OPERATORS[self.operator](value, self.bound)


@dataclass(frozen=True, slots=True)
class Judged:
    """A threshold and what was measured; None where nothing was."""

    threshold: Threshold
    value: float | None

    @property
    def ok(self) -> bool:
        return self.value is not None and self.threshold.holds(self.value)


def parse(expression: str) -> Threshold:
    """Reads one threshold. Raises ThresholdError."""
    match = _EXPRESSION.fullmatch(expression)
    if match is None:
        raise ThresholdError(f"{expression!r} is not METRIC OPERATOR VALUE, as in 'latency.p99 < 250ms'")
    metric, sign, number, unit = match.groups()
    if metric not in _COUNTS | _TIMES:
        raise ThresholdError(f"there is no metric {metric}; there are, for example, {_near(metric)}")
    if metric in _TIMES and not unit:
        raise ThresholdError(f"{metric} is a time: {number} needs a unit, ms or s")
    if metric in _COUNTS and unit:
        raise ThresholdError(f"{metric} is a number: {number}{unit} has a unit")
    return Threshold(" ".join(expression.split()), metric, sign, float(number) / (1000 if unit == "ms" else 1))


def defaults(faults: bool = False) -> tuple[Threshold, ...]:
    """What every run is held to; `faults`: whether it has a plan of them."""
    window = f"{Window.QUIET}." if faults else ""
    wrong = [f"{window}outcome.{outcome} == 0" for outcome in Outcome if outcome is not Outcome.OK]
    late = [f"{window}timeouts.{phase} == 0" for phase in Phase if phase is not Phase.DRAIN]
    never = [*(f"outcome.{outcome} == 0" for outcome in _NEVER_EXCUSED), "late == 0"] if faults else []
    always = [f"timeouts.{Phase.DRAIN} == 0", "drain.pending == 0", "ledger.imbalances == 0"]
    return tuple(replace(parse(one), is_default=True) for one in [*wrong, *never, *late, *always])


def with_defaults(asked: Iterable[Threshold], faults: bool = False) -> tuple[Threshold, ...]:
    """The defaults whose metric nobody asked about, and then what was asked."""
    own = tuple(asked)
    replaced = {threshold.metric for threshold in own}
    return (*(threshold for threshold in defaults(faults) if threshold.metric not in replaced), *own)


def judge(thresholds: Iterable[Threshold], measured: Mapping[str, float | None]) -> tuple[Judged, ...]:
    """Each threshold against what was measured."""
    return tuple(Judged(threshold, measured.get(threshold.metric)) for threshold in thresholds)


def _near(metric: str) -> str:
    family = metric.split(".")[0]
    return ", ".join(sorted(name for name in _COUNTS | _TIMES if name.startswith(family))[:6] or sorted(_COUNTS)[:6])
