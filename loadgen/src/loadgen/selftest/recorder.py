"""What the tester reported, as it reported it: the soak's own tally, which also keeps what was out of the ordinary."""

from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from prometheus_client import CollectorRegistry

from loadgen.measure.anomalies import Anomalies
from loadgen.measure.drain import Drain
from loadgen.measure.metrics import SoakMetrics
from loadgen.measure.tally import Tally
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase
from loadgen.transaction.transaction import Transaction
from loadgen.verdict.thresholds import defaults
from loadgen.verdict.verdict import SATURATED_LAG_S, Programs, Result, Run


@dataclass(frozen=True, slots=True)
class Failure:
    """A transaction that was not ok. `at_s` is the moment of the report, on the machine's clock."""

    outcome: Outcome
    phase: Phase | None
    at_s: float
    detail: str


@dataclass(frozen=True, slots=True)
class Stall:
    """The onset of one. `at_s` is the moment of the report, on the machine's clock."""

    phase: Phase
    at_s: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """The end of a stall with progress."""

    phase: Phase
    stalled_s: float


class Recorder(Tally):
    """For runs in which little is out of the ordinary: its lists grow.

    When something was reported is read from the machine's clock here: the tester's own may be what is wrong.
    """

    def __init__(self, scenarios: tuple[str, ...], anomalies: Anomalies) -> None:
        super().__init__(scenarios, SoakMetrics(CollectorRegistry(), scenarios), anomalies)
        self.failures: list[Failure] = []
        self.onsets: list[Stall] = []
        self.recoveries: list[Recovery] = []
        self.lags_s: list[float] = []
        """Of each time that the generator was blamed."""

    def ended(self, transaction: Transaction, outcome: Outcome, detail: str) -> None:
        super().ended(transaction, outcome, detail)
        if outcome is not Outcome.OK:
            self.failures.append(Failure(outcome, transaction.phase, monotonic(), detail))

    def stalled(self, transaction: Transaction, phase: Phase) -> None:
        super().stalled(transaction, phase)
        self.onsets.append(Stall(phase, monotonic()))

    def stall_ended(self, transaction: Transaction, phase: Phase, duration_s: float, recovered: bool) -> None:
        super().stall_ended(transaction, phase, duration_s, recovered)
        if recovered:
            self.recoveries.append(Recovery(phase, duration_s))

    def generator_lagged(self, transaction: Transaction, phase: Phase, lag_s: float) -> None:
        super().generator_lagged(transaction, phase, lag_s)
        self.lags_s.append(lag_s)

    def result(self, duration_s: float) -> Result:
        """What a soak would make of it."""
        run = Run("selftest", 1, "unknown", "external", {}, datetime.now(UTC), duration_s)
        return Result(run, self, Drain(0.0), Programs(), defaults())

    @property
    def was_held_up(self) -> bool:
        """Whether this process ran too seldom for its times to prove anything."""
        return bool(self.lags_s) or self.lag_max_s >= SATURATED_LAG_S

    @property
    def timed_out_in(self) -> list[Phase]:
        """The phases that reached their timeout, once for each time."""
        return [phase for phase, count in self.timeouts.items() for _ in range(count)]

    def __str__(self) -> str:
        """What was reported, in a line. A failure's own timeout goes without saying."""
        parts = [f"{failure.outcome} in {failure.phase}" for failure in self.failures[:2]]
        if oks := self.outcomes[Outcome.OK]:
            parts.append("ok" if oks == 1 else f"{oks} ok")
        parts += [f"stall {stall.phase}" for stall in self.onsets[:2]]
        parts += [f"recovered after {recovery.stalled_s:.1f} s" for recovery in self.recoveries[:2]]
        failed_in = [failure.phase for failure in self.failures]
        parts += [f"timeout {phase}" for phase in self.timed_out_in if phase not in failed_in]
        if self.lags_s:
            parts.append(f"generator_lag {len(self.lags_s)} times")
        if dropped := sum(count.dropped for count in self.scenarios.values()):
            parts.append(f"{dropped} not started")
        return ", ".join(parts) or "nothing"
