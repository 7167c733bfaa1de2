"""The verdict, and `verdict.json`, which other programs read: SCHEMA rises with every change of meaning.

Rules, in this order
- A violated threshold on correctness (corrupt, excess, eof_premature, reset, rejected, http_error, rescued) fails.
- A saturated generator makes everything else inconclusive: what was late was late because of us.
- Any other violated threshold fails.
- Nothing measured, a scenario that was asked for and never completed, a threshold on something that was not measured,
  or arrivals that were dropped: inconclusive.
- Otherwise it passes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum, unique
from functools import cached_property
from typing import Any

from loadgen.measure.drain import Drain
from loadgen.measure.observe import Ledger, Resources, Snapshot, ends_between, rescued
from loadgen.measure.tally import Latencies, Tally
from loadgen.transaction.outcomes import Outcome
from loadgen.verdict.thresholds import PERCENTILES, Judged, Threshold, judge

SCHEMA = 1

SATURATED_LAG_S = 0.25
"""A generator that starts one transaction in a hundred later than this is saturated. It is S/4 of the shortest S."""


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


@dataclass(frozen=True)
class Result:
    """All that a run has come to. The tally does not change any more."""

    run: Run
    tally: Tally
    drain: Drain
    before: Snapshot
    after: Snapshot
    thresholds: Sequence[Threshold]

    @cached_property
    def ends(self) -> Ledger:
        return ends_between(self.before.ends, self.after.ends)

    @property
    def offered_per_s(self) -> float:
        scheduled = sum(count.scheduled for count in self.tally.scenarios.values())
        return scheduled / self.run.duration_s if self.run.duration_s > 0 else 0.0

    @property
    def saturated(self) -> bool:
        return (self.tally.schedule_lag.percentile_s(99.0) or 0.0) > SATURATED_LAG_S

    @cached_property
    def judged(self) -> tuple[Judged, ...]:
        """Every threshold, and what was measured."""
        return judge(self.thresholds, self._measured())

    @property
    def verdict(self) -> Verdict:
        return self._judgement[0]

    @property
    def reasons(self) -> list[str]:
        """Why it is not a pass."""
        return self._judgement[1]

    @cached_property
    def _judgement(self) -> tuple[Verdict, list[str]]:
        violated = [judged for judged in self.judged if judged.value is not None and not judged.ok]
        correctness = [judged for judged in violated if not judged.threshold.depends_on_speed]
        reasons = [_reason(judged) for judged in violated]
        if correctness:
            return Verdict.FAIL, reasons
        if self.saturated:
            lag_s = self.tally.schedule_lag.percentile_s(99.0) or 0.0
            own = f"the generator was saturated: 1 % of the transactions started {lag_s:.2f} s late or later"
            return Verdict.INCONCLUSIVE, [own, *reasons]
        if violated and self._completed:
            return Verdict.FAIL, reasons
        vacuous = self._vacuities()
        return (Verdict.INCONCLUSIVE, [*vacuous, *reasons]) if vacuous else (Verdict.PASS, [])

    def document(self) -> dict[str, Any]:
        """`verdict.json`."""
        tally, counts = self.tally, self.tally.scenarios.values()
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "reasons": self.reasons,
            "run": {
                "id": self.run.id,
                "seed": self.run.seed,
                "revision": self.run.revision,
                "stack": self.run.stack,
                "engine": {side: self.run.engine.get(side, "unknown") for side in ("client", "server")},
                "started_at": self.run.started_at.astimezone(UTC).isoformat(timespec="seconds"),
                "duration_s": round(self.run.duration_s, 3),
            },
            "totals": {
                "scheduled": sum(count.scheduled for count in counts),
                "started": sum(count.started for count in counts),
                "dropped": sum(count.dropped for count in counts),
                "completed": self._completed,
            },
            "offered_per_s": round(self.offered_per_s, 3),
            "outcomes": dict(tally.outcomes),
            "scenarios": {
                name: {
                    "completed": count.completed,
                    "outcomes": {outcome: count.outcomes[outcome] for outcome in Outcome},
                    "latency_ms": _milliseconds(count.latencies),
                }
                for name, count in tally.scenarios.items()
            },
            "stalls": {
                phase: {"count": stall.count, "recovered": stall.recovered, "longest_s": round(stall.longest_s, 3)}
                for phase, stall in tally.stalls.items()
            },
            "timeouts": dict(tally.timeouts),
            "ends": self.ends,
            "drain": {
                "complete": self.drain.complete,
                "seconds": round(self.drain.seconds, 3),
                "pending": list(self.drain.pending),
            },
            "generator": {"lag_max_s": round(tally.lag_max_s, 3), "saturated": self.saturated},
            "thresholds": [
                {"expression": judged.threshold.expression, "value": judged.value, "ok": judged.ok}
                for judged in self.judged
            ],
            "faults": [],
            "resources": _resources(self.before.resources, self.after.resources),
        }

    @property
    def _completed(self) -> int:
        return sum(count.completed for count in self.tally.scenarios.values())

    def _vacuities(self) -> list[str]:
        if self._completed == 0:
            return ["nothing was measured: no transaction completed"]
        never = [name for name, count in self.tally.scenarios.items() if count.completed == 0]
        dropped = sum(count.dropped for count in self.tally.scenarios.values())
        reasons = [f"never completed, though asked for: {', '.join(never)}"] if never else []
        if dropped:
            reasons.append(f"{dropped} transactions were not started: too many in flight, or too late")
        unmeasured = [judged.threshold.expression for judged in self.judged if judged.value is None]
        return reasons + [f"{expression}: nothing was measured" for expression in unmeasured]

    def _measured(self) -> dict[str, float | None]:
        tally, counts = self.tally, self.tally.scenarios.values()
        measured: dict[str, float | None] = {
            "timeouts": sum(tally.timeouts.values()),
            "stalls": sum(stall.count for stall in tally.stalls.values()),
            "rescued": rescued(self.ends) if self.ends else None,
            "dropped": sum(count.dropped for count in counts),
            "completed": self._completed,
            "offered_per_s": self.offered_per_s,
            "drain.pending": len(self.drain.pending),
            "drain.seconds": self.drain.seconds,
            "generator.lag": tally.lag_max_s,
        }
        measured |= {f"outcome.{outcome}": number for outcome, number in tally.outcomes.items()}
        measured |= {f"timeouts.{phase}": number for phase, number in tally.timeouts.items()}
        measured |= {f"stalls.{phase}": stall.count for phase, stall in tally.stalls.items()}
        measured |= _percentiles("latency", tally.latencies)
        for name, count in tally.scenarios.items():
            measured |= _percentiles(f"latency.{name}", count.latencies)
        return measured


def _reason(judged: Judged) -> str:
    return f"{judged.threshold.expression}: was {judged.value:g}"


def _percentiles(prefix: str, latencies: Latencies) -> dict[str, float | None]:
    return {
        f"{prefix}.{name}": latencies.max_s if name == "max" else latencies.percentile_s(percentile)
        for name, percentile in PERCENTILES.items()
    }


def _milliseconds(latencies: Latencies) -> dict[str, float | None]:
    return {
        name.rpartition(".")[2]: None if seconds is None else round(seconds * 1000, 3)
        for name, seconds in _percentiles("", latencies).items()
    }


def _resources(before: Mapping[str, Resources], after: Mapping[str, Resources]) -> dict[str, dict[str, int | None]]:
    nothing = Resources()
    return {
        program: {
            "rss_start_bytes": before.get(program, nothing).rss_bytes,
            "rss_end_bytes": after.get(program, nothing).rss_bytes,
            "fds_start": before.get(program, nothing).fds,
            "fds_end": after.get(program, nothing).fds,
        }
        for program in sorted({*before, *after})
    }
