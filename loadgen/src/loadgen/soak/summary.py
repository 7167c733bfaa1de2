"""What `verdict.json` says, for people: printed at the end of a run."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from loadgen.soak.console import console, scenario_table
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase

_COLOURS = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}


def summarise(document: Mapping[str, Any], report: str) -> None:
    """Prints it, and where the report is."""
    out = console()
    rows = [
        (name, row["completed"], row["outcomes"][Outcome.OK], row["latency_ms"])
        for name, row in document["scenarios"].items()
    ]
    out.print(scenario_table(rows))
    for line in _lines(document):
        out.print(line, markup=False, soft_wrap=True)
    verdict = document["verdict"]
    out.print(Text(f"verdict: {verdict}", style=_COLOURS[verdict]))
    for reason in document["reasons"]:
        out.print(f"  {reason}", markup=False, soft_wrap=True)
    out.print(f"report: {report}", markup=False, soft_wrap=True)


def _lines(document: Mapping[str, Any]) -> list[str]:
    run, totals, generator = document["run"], document["totals"], document["generator"]
    return [
        f"{totals['scheduled']} transactions in {run['duration_s']:.1f} s ({document['offered_per_s']:.1f}/s), "
        f"{totals['completed']} completed, {totals['dropped']} not started; "
        f"generator lag {generator['lag_max_s']} s",
        f"outcomes: {_counts(document['outcomes'])}",
        f"timeouts: {_counts(document['timeouts'])}",
        f"stalls: {_stalls(document['stalls'])}",
        *([f"the generator was blamed for {generator['blamed']} quiet phases"] if generator["blamed"] else []),
        *map(_fault, document["faults"]),
        *(_windows(document["windows"]) if document["faults"] else []),
        f"ends rescued: {_rescued(document['ends'])}",
        *(f"ledger: {imbalance['text']}" for imbalance in document["ledger"]["imbalances"]),
        _drain(document["drain"]),
        *(
            f"not supported by the proxy, and not run: {scenario} ({reason})"
            for scenario, reason in document["unsupported"].items()
        ),
    ]


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items() if number) or "none"


def _stalls(stalls: Mapping[str, Any]) -> str:
    return (
        ", ".join(
            f"{phase} {stall['count']} ({stall['recovered']} recovered, longest {stall['longest_s']:.1f} s)"
            for phase, stall in stalls.items()
            if stall["count"]
        )
        or "none"
    )


def _fault(fault: Mapping[str, Any]) -> str:
    what = f"fault {fault['name']} of {fault['program'] or 'link'}: "
    if fault["from_s"] is None:
        return what + "never happened"
    healed = "not healed" if fault["to_s"] is None else f"to {fault['to_s']:.1f} s"
    return what + f"{fault['from_s']:.1f} {healed}" + (f"; {fault['error']}" if fault["error"] else "")


def _windows(windows: Mapping[str, Any]) -> list[str]:
    return [
        f"{window} ({count['seconds']:.1f} s): {_counts(count['outcomes'])}; stalls: {_counts(count['stalls'])}"
        for window, count in windows.items()
    ]


def _rescued(ends: Mapping[str, Any]) -> str:
    if not ends:
        return "not known"
    return _counts({f"{hop} {way}": events["rescued"] for hop, ways in ends.items() for way, events in ways.items()})


def _drain(drain: Mapping[str, Any]) -> str:
    if drain["complete"]:
        seen = "" if drain["observed"] else " (of the generator's own: no program's gauges were looked at)"
        return f"drain: complete after {drain['seconds']:.1f} s{seen}"
    pending = "; ".join(map(_pending, drain["pending"]))
    return f"drain: {Phase.DRAIN} timed out after {drain['seconds']:.1f} s, pending: {pending}"


def _pending(item: Mapping[str, Any]) -> str:
    labels = "".join(f" {name}={value}" for name, value in item.get("labels", {}).items())
    streams = ", ".join(
        f"stream {stream['stream']} {stream['direction']} {stream['state']} for {stream['age_s']:.1f} s"
        for stream in item.get("streams", ())
    )
    return f"{item['program']} {item['what']}{labels} {item['value']}" + (f" ({streams})" if streams else "")
