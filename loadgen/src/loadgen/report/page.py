"""What an operator reads first: the verdict in a sentence, the six figures behind it, and which run it was."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from loadgen.report import tables, words
from loadgen.report.files import Document

REASONS = 50

_SIGNS = {"pass": "✓", "fail": "✕", "inconclusive": "?"}


class Tile(NamedTuple):
    """One figure."""

    label: str
    value: str
    note: str = ""
    tone: str = ""


def banner(document: Document) -> dict[str, Any]:
    """The verdict, its sign, a sentence, and the reasons."""
    verdict = str(document.get("verdict", "unknown"))
    reasons, more = tables.capped(document.get("reasons") or [], REASONS)
    return {
        "verdict": verdict if verdict in _SIGNS else "unknown",
        "sign": _SIGNS.get(verdict, "?"),
        "sentence": _sentence(document),
        "reasons": [tables.text(reason) for reason in reasons] + ([f"and {more} more"] if more else []),
    }


def _sentence(document: Document) -> str:
    totals, run, outcomes = document.get("totals") or {}, document.get("run") or {}, document.get("outcomes") or {}
    completed = totals.get("completed") or 0
    if not completed:
        return "No transaction completed: nothing was measured."
    begin = f"{words.count(completed)} transactions completed in {words.seconds(run.get('duration_s'))} of load"
    wrong = tables.not_ok(outcomes)
    if not wrong:
        return f"{begin}, every one of them ok."
    sentence = f"{begin}; {words.count(sum(wrong.values()))} did not end well ({words.counts(wrong)})"
    quiet = (document.get("windows") or {}).get("quiet")
    if document.get("faults") and quiet is not None:
        in_quiet = sum(tables.not_ok(quiet.get("outcomes") or {}).values())
        sentence += f", {words.count(in_quiet)} of them in quiet time" if in_quiet else ", none of them in quiet time"
    return sentence + "."


def tiles(document: Document) -> Sequence[Tile]:
    """The figures that decide."""
    return (
        _completed(document),
        _failed(document),
        _stalled(document),
        _slowest(document),
        _ledger(document),
        _drain(document),
    )


def _completed(document: Document) -> Tile:
    totals = document.get("totals") or {}
    dropped = totals.get("dropped") or 0
    note = f"of {words.count(totals.get('scheduled'))} due" + (
        f", {words.count(dropped)} not started" if dropped else ""
    )
    return Tile("Completed", words.count(totals.get("completed")), note, "warn" if dropped else "")


def _failed(document: Document) -> Tile:
    outcomes = document.get("outcomes") or {}
    failed = sum(tables.not_ok(outcomes).values())
    quiet = (document.get("windows") or {}).get("quiet")
    if not failed:
        return Tile("Not ok", "0", "every outcome is ok", "good")
    if quiet is None or not document.get("faults"):
        return Tile("Not ok", words.count(failed), words.counts(tables.not_ok(outcomes)), "bad")
    in_quiet = sum(tables.not_ok(quiet.get("outcomes") or {}).values())
    return Tile("Not ok", words.count(failed), f"{words.count(in_quiet)} in quiet time", "bad" if in_quiet else "warn")


def _stalled(document: Document) -> Tile:
    stalls = (document.get("stalls") or {}).values()
    number, recovered = (sum(stall.get(key) or 0 for stall in stalls) for key in ("count", "recovered"))
    if not number:
        return Tile("Stalls", "0", "in no phase", "good")
    longest_s = max(stall.get("longest_s") or 0 for stall in stalls)
    quiet = (document.get("windows") or {}).get("quiet")
    if document.get("faults") and quiet is not None:
        in_quiet = sum((quiet.get("stalls") or {}).values())
        note = f"{words.count(in_quiet)} in quiet time, longest {words.seconds(longest_s)}"
        return Tile("Stalls", words.count(number), note, "bad" if in_quiet else "warn")
    note = f"{words.count(recovered)} recovered, longest {words.seconds(longest_s)}"
    return Tile("Stalls", words.count(number), note, "warn" if number == recovered else "bad")


def _slowest(document: Document) -> Tile:
    quiet = (document.get("windows") or {}).get("quiet")
    if quiet is not None:
        latency = quiet.get("latency_ms") or {}
        note = f"p50 {words.milliseconds(latency.get('p50'))}" + (", in quiet time" if document.get("faults") else "")
        return Tile("Latency p99", words.milliseconds(latency.get("p99")), note)
    p99 = {
        name: p99
        for name, scenario in (document.get("scenarios") or {}).items()
        if (p99 := (scenario.get("latency_ms") or {}).get("p99")) is not None
    }
    if not p99:
        return Tile("Latency p99", words.NOTHING, "nothing was measured")
    slowest = max(p99, key=lambda name: p99[name])
    return Tile("Latency p99", words.milliseconds(p99[slowest]), f"of {slowest}, the slowest scenario")


def _ledger(document: Document) -> Tile:
    ledger = document.get("ledger")
    rescued = sum(
        (events or {}).get("rescued") or 0
        for directions in (document.get("ends") or {}).values()
        for events in (directions or {}).values()
    )
    note = f"{words.count(rescued)} ends rescued" if rescued else "no end rescued"
    if not document.get("ends"):
        return Tile("FIN ledger", words.NOTHING, "no program keeps one")
    if not ledger or ledger.get("balanced") is None:
        return Tile("FIN ledger", "not judged", note, "warn" if rescued else "")
    if not ledger["balanced"]:
        number = sum(map(tables.is_open, ledger.get("imbalances") or []))
        return Tile("FIN ledger", f"{words.count(number)} unbalanced", note, "bad")
    return Tile("FIN ledger", "balanced", note, "warn" if rescued else "good")


def _drain(document: Document) -> Tile:
    drain = document.get("drain") or {}
    if drain.get("observed") is False:
        return Tile("Drain", words.NOTHING, "no gauges to look at")
    if not drain:
        return Tile("Drain", words.NOTHING, "not known")
    if drain.get("complete"):
        return Tile("Drain", "complete", f"{words.seconds(drain.get('seconds'))} after the load", "good")
    pending = len(drain.get("pending") or [])
    return Tile("Drain", f"{pending} pending", f"after {words.seconds(drain.get('seconds'))}", "bad")


def facts(document: Document) -> Sequence[tuple[str, str]]:
    """Which run it was."""
    run, generator = document.get("run") or {}, document.get("generator") or {}
    engine = run.get("engine") or {}
    engines = " / ".join(f"{side} {name}" for side, name in engine.items() if name not in (None, "unknown"))
    rate = run.get("rate_per_s")
    asked = f"{rate:g}/s asked for, " if rate else ""
    lag = f"longest {words.seconds(generator.get('lag_max_s'))}"
    if "lag_p99_s" in generator:
        lag += f", p99 {words.seconds(generator['lag_p99_s'])}"
    if generator.get("blamed"):
        lag += f"; blamed for {words.count(generator['blamed'])} quiet phases"
    if generator.get("saturated"):
        lag += "; saturated"
    offered = document.get("offered_per_s")
    found = (
        ("Started", str(run.get("started_at") or "").replace("T", " ").replace("+00:00", " UTC")),
        ("Load", words.seconds(run.get("duration_s"))),
        ("Stack", run.get("stack")),
        ("Engines", engines),
        ("Mix", run.get("mix")),
        ("Arrivals", run.get("arrivals")),
        ("Rate", "" if offered is None else f"{asked}{offered:.1f}/s offered"),
        ("Seed", run.get("seed")),
        ("Revision", run.get("revision")),
        ("Generator lag", lag if generator else ""),
    )
    return [(name, tables.text(value)) for name, value in found if value not in (None, "")]
