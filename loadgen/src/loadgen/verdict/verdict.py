"""What a run came to, and the verdict.

Rules, in this order
- A violated threshold on correctness (a wrong outcome other than a timeout, a rescued end, an unbalanced ledger), a
  fault that did not heal, or a program that misbehaved or was restarted by nobody, fails.
- A saturated generator makes everything else inconclusive: what was late was late because of us.
- Any other violated threshold fails.
- Inconclusive is a run that proves nothing: nothing was measured; a scenario, a phase or a fault that was asked for
  never happened; no quiet time behind the last fault; a threshold on something that was not measured; arrivals that
  were dropped.
- Otherwise it passes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from functools import cached_property

from loadgen.faults.plan import Kind
from loadgen.measure.drain import Drain
from loadgen.measure.ledger import Imbalance, diagnose
from loadgen.measure.observe import Ledger, Resources, rescued
from loadgen.measure.tally import Latencies, Tally
from loadgen.measure.windows import FaultRecord
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase
from loadgen.transaction.transaction import Window
from loadgen.verdict.thresholds import PERCENTILES, Judged, Threshold, judge

SATURATED_LAG_S = 0.25
"""A generator that starts one transaction in a hundred later than this is saturated. It is S/4 of the shortest S."""

_RESTARTS = (Kind.KILL, Kind.RESTART, Kind.DRAIN)


@unique
class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_code(self) -> int:
        return {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 3}[self]


@dataclass(frozen=True, slots=True)
class Run:
    """Which run it is. `duration_s` is the load phase as it was, not as it was asked for."""

    id: str
    seed: int
    revision: str
    stack: str
    engine: Mapping[str, str]
    started_at: datetime
    duration_s: float
    mix: str = "unknown"
    arrivals: str = "constant"
    rate_per_s: float = 0.0
    link: str | None = None
    """The link between the proxies, as it was asked for; None: there is none, or nobody knows."""
    command: str | None = None
    """The command line that asked for the run."""


@dataclass(frozen=True, slots=True)
class Programs:
    """What the programs of the stack came to."""

    first: Mapping[str, Resources] = field(default_factory=dict)
    last: Mapping[str, Resources] = field(default_factory=dict)
    ends: Ledger = field(default_factory=dict)
    restarted: frozenset[str] = frozenset()
    unjudged: frozenset[str] = frozenset()
    """Whose ledger says nothing: they were restarted, did not answer, or had somebody else's streams in it."""
    engines: Mapping[str, str] = field(default_factory=dict)
    """The QUIC engine of each side, as they told it."""


@dataclass(frozen=True)
class Result:
    """All that a run has come to. The tally does not change any more."""

    run: Run
    tally: Tally
    drain: Drain
    programs: Programs
    thresholds: Sequence[Threshold]
    unsupported: Mapping[str, str] = field(default_factory=dict)
    """What the proxy does not do, by scenario: these were left out of the load."""
    asked_for: frozenset[str] = frozenset()
    """Scenarios that were asked for by name."""
    fatal: str | None = None
    """Why there was no load at all, or why it had to end."""
    interrupted: bool = False
    """Whether a signal ended the load early."""
    faults_expected: bool = False
    """Whether somebody was to tell of faults."""

    @property
    def verdict(self) -> Verdict:
        return self._judgement[0]

    @property
    def reasons(self) -> list[str]:
        """Why it is not a pass."""
        return self._judgement[1]

    @property
    def completed(self) -> int:
        return sum(count.completed for count in self.tally.scenarios.values())

    @property
    def offered_per_s(self) -> float:
        scheduled = sum(count.scheduled for count in self.tally.scenarios.values())
        return scheduled / self.run.duration_s if self.run.duration_s > 0 else 0.0

    @property
    def lag_p99_s(self) -> float:
        """One transaction in a hundred started later than this."""
        return self.tally.schedule_lag.percentile_s(99.0) or 0.0

    @property
    def saturated(self) -> bool:
        return self.lag_p99_s > SATURATED_LAG_S

    @property
    def faults(self) -> Sequence[FaultRecord]:
        return list(self.tally.windows.faults.values())

    @cached_property
    def window_seconds(self) -> Mapping[Window, float]:
        return self.tally.windows.seconds(self.run.duration_s)

    @cached_property
    def imbalances(self) -> tuple[Imbalance, ...] | None:
        """What the FIN ledger lacks, ends that were given up among it; None where there is none that can be judged."""
        programs = self.programs
        return diagnose(programs.ends, programs.unjudged) if set(programs.ends) - programs.unjudged else None

    @cached_property
    def judged(self) -> tuple[Judged, ...]:
        """Every threshold, and what was measured. A default one on what this run does not tell is left out."""
        found = judge(self.thresholds, self._measured())
        return tuple(one for one in found if one.value is not None or not one.threshold.is_default)

    @cached_property
    def _judgement(self) -> tuple[Verdict, list[str]]:
        violated = [judged for judged in self.judged if judged.value is not None and not judged.ok]
        correctness = [judged for judged in violated if not judged.threshold.depends_on_speed]
        broken = [*self._not_healed(), *self._misbehaved()]
        reasons = [*map(_reason, violated), *broken, *self._hops()]
        if correctness or broken:
            return Verdict.FAIL, reasons
        if self.saturated:
            own = f"the generator was saturated: 1 % of the transactions started {self.lag_p99_s:.2f} s late or later"
            return Verdict.INCONCLUSIVE, [own, *reasons]
        if violated and self.completed:
            return Verdict.FAIL, reasons
        vacuous = self._vacuities()
        return (Verdict.INCONCLUSIVE, [*vacuous, *reasons]) if vacuous else (Verdict.PASS, [])

    def _not_healed(self) -> list[str]:
        return [
            f"fault {fault.name} did not heal: {'; '.join(fault.errors) or 'nobody said that it had'}"
            for fault in self.faults
            if fault.is_open and (fault.errors or not self.interrupted)
        ]

    def _misbehaved(self) -> list[str]:
        """Programs that did not do what a fault asks of them, or ended for no reason that is known."""
        told = [f"fault {fault.name}: {reason}" for fault in self.faults for reason in fault.misbehaved]
        excused = {fault.program for fault in self.faults if fault.kind in _RESTARTS and fault.from_s is not None}
        return told + [
            f"{program} was restarted, and no fault did that" for program in sorted(self.programs.restarted - excused)
        ]

    def _hops(self) -> list[str]:
        return [imbalance.text for imbalance in self.imbalances or ()]

    def _vacuities(self) -> list[str]:
        """What was asked for and never happened."""
        if self.completed == 0:
            return [self.fatal or "nothing was measured: no transaction completed"]
        counts = self.tally.scenarios
        never = [name for name, count in counts.items() if count.completed == 0]
        reasons = [self.fatal] if self.fatal else []
        reasons += [f"never completed, though asked for: {', '.join(never)}"] if never else []
        reasons += [
            f"{name} was asked for, and is not supported: {why}"
            for name, why in self.unsupported.items()
            if name in self.asked_for
        ]
        if dropped := sum(count.dropped for count in counts.values()):
            reasons.append(f"{dropped} transactions were not started: too many in flight, or too late")
        return [*reasons, *self._vacuous_thresholds(), *self._vacuous_faults()]

    def _vacuous_thresholds(self) -> list[str]:
        reasons = [f"{one.threshold.expression}: nothing was measured" for one in self.judged if one.value is None]
        for judged in self.judged:
            phase = judged.threshold.phase
            if phase and not judged.threshold.is_default and not self._happened(phase):
                reasons.append(f"{judged.threshold.expression}: phase {phase} never happened")
        return reasons

    def _happened(self, phase: Phase) -> bool:
        tally = self.tally
        return bool(tally.phases[phase].count or tally.timeouts[phase] or tally.stalls[phase].count)

    def _vacuous_faults(self) -> list[str]:
        windows = self.tally.windows
        reasons = ["nobody said which faults there were"] if self.faults_expected and not windows.are_planned else []
        for fault in self.faults:
            if fault.is_open:
                reasons.append(f"fault {fault.name} was open when the run was interrupted")
            elif fault.errors:
                reasons.append(f"fault {fault.name} could not be done: {'; '.join(fault.errors)}")
            elif fault.from_s is None:
                reasons.append(f"fault {fault.name} never happened")
            elif not fault.touched:
                reasons.append(f"fault {fault.name} touched no transaction")
        if self.faults and not windows.quiet_since_last:
            reasons.append("there was no quiet time behind the last fault: nothing shows that all was well again")
        return reasons

    def _measured(self) -> dict[str, float | None]:
        tally, counts = self.tally, self.tally.scenarios.values()
        measured: dict[str, float | None] = {
            "timeouts": sum(tally.timeouts.values()),
            "late": tally.late,
            "rescued": rescued(self.programs.ends) if self.programs.ends else None,
            "ledger.imbalances": None if self.imbalances is None else sum(one.is_open for one in self.imbalances),
            "dropped": sum(count.dropped for count in counts),
            "completed": self.completed,
            "offered_per_s": self.offered_per_s,
            "drain.pending": len(self.drain.pending) if self.drain.observed or self.drain.pending else None,
            "drain.seconds": self.drain.seconds,
            "generator.lag": tally.lag_max_s,
            "generator.blamed": tally.generator_lags,
        }
        stalls = {phase: stall.count for phase, stall in tally.stalls.items()}
        measured |= _counts("", tally.outcomes, stalls, tally.timeouts)
        measured |= _percentiles("latency", tally.latencies)
        for name, scenario in tally.scenarios.items():
            measured |= _percentiles(f"latency.{name}", scenario.latencies)
        for window, count in tally.by_window.items():
            if count.outcomes.total():  # Of a time that there was not, nothing is known.
                measured[f"{window}.completed"] = count.completed
                measured |= _counts(f"{window}.", count.outcomes, count.stalls, count.timeouts)
                measured |= _percentiles(f"{window}.latency", count.latencies)
        return measured


def _reason(judged: Judged) -> str:
    return f"{judged.threshold.expression}: was {judged.value:g}"


def _counts(
    prefix: str, outcomes: Mapping[Outcome, int], stalls: Mapping[Phase, int], timeouts: Mapping[Phase, int]
) -> dict[str, float | None]:
    """The metrics that the whole run and each window have alike."""
    counts: dict[str, float | None] = {
        f"{prefix}failed": sum(outcomes.values()) - outcomes[Outcome.OK],
        f"{prefix}stalls": sum(stalls.values()),
        f"{prefix}timeouts": sum(timeouts.values()),
    }
    counts |= {f"{prefix}outcome.{outcome}": number for outcome, number in outcomes.items()}
    counts |= {f"{prefix}stalls.{phase}": number for phase, number in stalls.items()}
    counts |= {f"{prefix}timeouts.{phase}": number for phase, number in timeouts.items()}
    return counts


def percentiles_s(latencies: Latencies) -> dict[str, float | None]:
    """Seconds by the name of the percentile; None where nothing was recorded."""
    return {
        name: latencies.max_s if name == "max" else latencies.percentile_s(percentile)
        for name, percentile in PERCENTILES.items()
    }


def _percentiles(prefix: str, latencies: Latencies) -> dict[str, float | None]:
    return {f"{prefix}.{name}": seconds for name, seconds in percentiles_s(latencies).items()}
