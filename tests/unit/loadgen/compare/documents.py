"""Documents of runs that never were."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadgen.compare.reading import Report, Side

OUTCOMES = ("ok", "eof_missing", "timeout", "reset", "corrupt")
PHASES = ("ttfb", "body", "drain")


def latency(p50: float | None, p99: float | None) -> dict[str, float | None]:
    return {"p50": p50, "p90": p50, "p99": p99, "max": p99}


def document(
    *,
    verdict: str = "pass",
    run: Mapping[str, Any] | None = None,
    completed: int = 1000,
    outcomes: Mapping[str, int] | None = None,
    p50: float | None = 50.0,
    p99: float | None = 100.0,
    scenarios: tuple[str, ...] = ("get", "upload"),
    stalls: Mapping[str, int] | None = None,
    rss_growth_mb: float = 1.0,
    saturated: bool = False,
    **other: Any,
) -> dict[str, Any]:
    """One `verdict.json`, with what matters to a test changed; `other` replaces whole fields."""
    counted = dict.fromkeys(OUTCOMES, 0) | {"ok": completed} | dict(outcomes or {})
    stalled = dict.fromkeys(PHASES, 0) | dict(stalls or {})
    whole: dict[str, Any] = {
        "schema": 1,
        "verdict": verdict,
        "reasons": [],
        "run": {
            "id": "r", "seed": 1, "revision": "abc", "stack": "local", "engine": {}, "duration_s": 30.0,
            "mix": "small", "arrivals": "constant", "rate_per_s": 20.0, "link": None,
            **(run or {}),
        },
        "totals": {"scheduled": completed, "started": completed, "dropped": 0, "completed": completed},
        "offered_per_s": 20.0,
        "outcomes": counted,
        "scenarios": {name: {"completed": 1, "outcomes": {}, "latency_ms": latency(p50, p99)} for name in scenarios},
        "stalls": {phase: {"count": count, "recovered": 0, "longest_s": 0.0} for phase, count in stalled.items()},
        "timeouts": dict.fromkeys(PHASES, 0),
        "windows": {
            "quiet": {
                "seconds": 30.0, "completed": completed, "outcomes": counted, "stalls": stalled,
                "timeouts": {}, "latency_ms": latency(p50, p99),
            }
        },
        "faults": [],
        "ends": {"proxy-client": {"client_to_target": {"received": 1, "forwarded": 1, "confirmed": 1, "rescued": 0}}},
        "drain": {"complete": True, "seconds": 0.5, "pending": []},
        "generator": {"lag_max_s": 0.0, "saturated": saturated},
        "thresholds": [],
        "resources": {
            "proxy-client": {
                "rss_start_bytes": 50_000_000, "rss_end_bytes": round(50e6 + rss_growth_mb * 1e6),
                "fds_start": 10, "fds_end": 12,
            }
        },
    }  # fmt: skip
    return whole | other


def older(newer: dict[str, Any]) -> dict[str, Any]:
    """As the first release wrote it."""
    without = {name: value for name, value in newer.items() if name != "windows"}
    later = ("mix", "arrivals", "rate_per_s", "link")
    of_run = {name: value for name, value in newer["run"].items() if name not in later}
    return without | {"run": of_run}


def under_faults(recovery_failures: int = 0, name: str = "blackhole", **fault: Any) -> dict[str, Any]:
    """What a plan with one fault changes in a document: 100 transactions of it were due in the recovery."""
    plain = document()["windows"]["quiet"]
    counted = {"ok": 100 - recovery_failures, "timeout": recovery_failures}
    told = {"name": name, "kind": "blackhole", "program": None, "at_s": 5.0, "for_s": 3.0, "recovery_s": 5.0}
    return {
        "faults": [{**told, "from_s": 5.0, "to_s": 8.0, "error": None, **fault}],
        "windows": {"quiet": plain, "recovery": {**plain, "completed": 100, "outcomes": counted}},
    }


def side(*documents: dict[str, Any]) -> Side:
    return Side(Path("somewhere"), tuple(map(Report.model_validate, documents)))


def write(directory: Path, content: Mapping[str, Any] | str) -> Path:
    """A report directory."""
    directory.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (directory / "verdict.json").write_text(text, encoding="utf-8")
    return directory
