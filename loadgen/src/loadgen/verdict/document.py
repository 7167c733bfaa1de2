"""`verdict.json`, which other programs read. Every field is described in docs/VERDICT.md.

SCHEMA rises when the meaning of a field changes or a field goes; a field that is added does not raise it.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC
from typing import Any

from loadgen.measure.observe import Resources
from loadgen.measure.tally import Latencies, Tally, WindowCount
from loadgen.transaction.outcomes import Outcome
from loadgen.verdict.verdict import Programs, Result, percentiles_s

SCHEMA = 1


def document(result: Result) -> dict[str, Any]:
    """Everything of a result as JSON."""
    tally, counts = result.tally, result.tally.scenarios.values()
    return {
        "schema": SCHEMA,
        "verdict": result.verdict,
        "reasons": result.reasons,
        "run": _run(result),
        "totals": {
            "scheduled": sum(count.scheduled for count in counts),
            "started": sum(count.started for count in counts),
            "dropped": sum(count.dropped for count in counts),
            "completed": result.completed,
        },
        "offered_per_s": round(result.offered_per_s, 3),
        "outcomes": dict(tally.outcomes),
        "scenarios": {
            name: {
                "completed": count.completed,
                "outcomes": {outcome: count.outcomes[outcome] for outcome in Outcome},
                "latency_ms": milliseconds(count.latencies),
            }
            for name, count in tally.scenarios.items()
        },
        "unsupported": dict(result.unsupported),
        "phases": {
            phase: {"count": durations.count, "duration_ms": milliseconds(durations)}
            for phase, durations in tally.phases.items()
        },
        "stalls": {
            phase: {"count": stall.count, "recovered": stall.recovered, "longest_s": round(stall.longest_s, 3)}
            for phase, stall in tally.stalls.items()
        },
        "timeouts": dict(tally.timeouts),
        "windows": _windows(result),
        "late": tally.late,
        "faults": _faults(result),
        "ends": result.programs.ends,
        "ledger": {
            "balanced": None if result.imbalances is None else not any(one.is_open for one in result.imbalances),
            "unjudged": sorted(result.programs.unjudged),
            "imbalances": [asdict(imbalance) for imbalance in result.imbalances or ()],
        },
        "drain": {
            "complete": result.drain.complete,
            "observed": result.drain.observed,
            "seconds": round(result.drain.seconds, 3),
            "pending": list(result.drain.pending),
        },
        "generator": _generator(result, tally),
        "thresholds": [
            {"expression": judged.threshold.expression, "value": judged.value, "ok": judged.ok}
            for judged in result.judged
        ],
        "resources": _resources(result.programs),
    }


def timeline(result: Result, programs: Mapping[str, Any]) -> dict[str, Any]:
    """`timeline.json`; `programs` as `Sampler.document` has them."""
    return {**result.tally.timeline.document(), "programs": dict(programs)}


def milliseconds(latencies: Latencies) -> dict[str, float | None]:
    """Percentiles, null where nothing was recorded."""
    seconds = percentiles_s(latencies)
    return {name: None if value is None else round(value * 1000, 3) for name, value in seconds.items()}


def _run(result: Result) -> dict[str, Any]:
    run = result.run
    return {
        "id": run.id,
        "seed": run.seed,
        "revision": run.revision,
        "stack": run.stack,
        "engine": {side: run.engine.get(side, "unknown") for side in ("client", "server")},
        "started_at": run.started_at.astimezone(UTC).isoformat(timespec="seconds"),
        "duration_s": round(run.duration_s, 3),
        "mix": run.mix,
        "arrivals": run.arrivals,
        "rate_per_s": run.rate_per_s,
        "link": run.link,
        "command": run.command,
        "interrupted": result.interrupted,
    }


def _windows(result: Result) -> dict[str, Any]:
    def of(count: WindowCount) -> dict[str, Any]:
        return {
            "completed": count.completed,
            "outcomes": dict(count.outcomes),
            "stalls": dict(count.stalls),
            "timeouts": dict(count.timeouts),
            "latency_ms": milliseconds(count.latencies),
        }

    return {
        window: {"seconds": round(result.window_seconds[window], 3), **of(count)}
        for window, count in result.tally.by_window.items()
    }


def _faults(result: Result) -> list[dict[str, Any]]:
    return [
        {
            "name": fault.name,
            "kind": fault.kind,
            "program": fault.program,
            "at_s": fault.at_s,
            "for_s": fault.for_s,
            "conditions": dict(fault.conditions),
            "from_s": None if fault.from_s is None else round(fault.from_s, 3),
            "to_s": None if fault.to_s is None else round(fault.to_s, 3),
            "recovery_s": fault.recovery_s,
            "error": "; ".join([*fault.errors, *fault.misbehaved]) or None,
        }
        for fault in result.faults
    ]


def _generator(result: Result, tally: Tally) -> dict[str, Any]:
    return {
        "lag_max_s": round(tally.lag_max_s, 3),
        "lag_p99_s": round(result.lag_p99_s, 3),
        "saturated": result.saturated,
        "blamed": tally.generator_lags,
    }


def _resources(programs: Programs) -> dict[str, dict[str, int | None]]:
    nothing = Resources()
    return {
        program: {
            "rss_start_bytes": programs.first.get(program, nothing).rss_bytes,
            "rss_end_bytes": programs.last.get(program, nothing).rss_bytes,
            "fds_start": programs.first.get(program, nothing).fds,
            "fds_end": programs.last.get(program, nothing).fds,
        }
        for program in sorted({*programs.first, *programs.last})
    }
