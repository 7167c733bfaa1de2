"""What a person sees: a live view in a terminal, a plain line every 5 s anywhere else, and the summary at the end."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from loadgen.measure.tally import Tally
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase

LINE_EVERY_S = 5.0
_LIVE_EVERY_S = 1.0
_PLAIN_WIDTH = 120
_COLOURS = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}


class Progress:
    """Shows a tally until it is cancelled. `state` says what the run is doing."""

    def __init__(self, tally: Tally, duration_s: float | None, state: Callable[[], str]) -> None:
        self._tally = tally
        self._duration_s = duration_s
        self._state = state
        self._began_s = monotonic()
        self._console = console()

    async def show(self) -> None:
        """Runs until it is cancelled."""
        if not self._console.is_terminal:
            while True:
                await asyncio.sleep(LINE_EVERY_S)
                self._console.print(self._line(), soft_wrap=True)
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(self._view(), refresh=True)
                await asyncio.sleep(_LIVE_EVERY_S)

    def _line(self) -> str:
        tally, outcomes = self._tally, self._tally.outcomes
        ok = outcomes[Outcome.OK]
        p99_s = tally.latencies.percentile_s(99.0) or 0.0
        failed = outcomes.total() - ok
        return (
            f"{self._state()} {monotonic() - self._began_s:.0f} s: {ok} ok, {failed} not ok, "
            f"{tally.in_flight} in flight, {tally.stalled_now} stalled, p99 {p99_s * 1000:.0f} ms, "
            f"generator lag {tally.lag_max_s * 1000:.0f} ms"
        )

    def _view(self) -> Group:
        table = _scenario_table(
            (name, count.completed, count.outcomes[Outcome.OK], _milliseconds(count.latencies))
            for name, count in self._tally.scenarios.items()
        )
        of = f" of {self._duration_s:g}" if self._duration_s is not None else ""
        table.title = f"{self._state()}, {monotonic() - self._began_s:.0f}{of} s"
        return Group(table, Text(self._line()))


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads any more: that ends the output, not the soak. (rich's own way is to end the program.)"""
        with suppress(SystemExit):
            super().on_broken_pipe()


def console() -> Console:
    """Standard output; as wide as the tables need where it is no terminal."""
    return _Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False, emoji=False)


def summarise(document: dict[str, Any], report: str) -> None:
    """Prints what `verdict.json` says, for people."""
    out = console()
    rows = (
        (name, row["completed"], row["outcomes"][Outcome.OK], row["latency_ms"])
        for name, row in document["scenarios"].items()
    )
    out.print(_scenario_table(rows))
    run, totals = document["run"], document["totals"]
    out.print(
        f"{totals['scheduled']} transactions in {run['duration_s']:.1f} s ({document['offered_per_s']:.1f}/s), "
        f"{totals['completed']} completed, {totals['dropped']} not started; "
        f"generator lag {document['generator']['lag_max_s']} s"
    )
    for title, line in (
        ("outcomes", _counts(document["outcomes"])),
        ("timeouts", _counts(document["timeouts"])),
        ("stalls", _stalls(document["stalls"])),
        ("ends rescued", _rescued(document["ends"])),
    ):
        out.print(f"{title}: {line}")
    out.print(_drain(document["drain"]))
    for scenario, reason in document["unsupported"].items():
        out.print(f"not supported by the proxy, and not run: {scenario} ({reason})", markup=False)
    verdict = document["verdict"]
    out.print(Text(f"verdict: {verdict}", style=_COLOURS[verdict]))
    for reason in document["reasons"]:
        out.print(f"  {reason}", markup=False)
    out.print(f"report: {report}", markup=False, soft_wrap=True)


def _scenario_table(rows: Any) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("scenario")
    for heading in ("completed", "ok", "p50 ms", "p90 ms", "p99 ms", "max ms"):
        table.add_column(heading, justify="right")
    for name, completed, ok, latency_ms in rows:
        times = ["-" if latency_ms[key] is None else f"{latency_ms[key]:.0f}" for key in ("p50", "p90", "p99", "max")]
        table.add_row(name, str(completed), str(ok), *times, style=None if completed == ok else "red")
    return table


def _milliseconds(latencies: Any) -> dict[str, float | None]:
    found = {"p50": latencies.percentile_s(50.0), "p90": latencies.percentile_s(90.0)}
    found |= {"p99": latencies.percentile_s(99.0), "max": latencies.max_s}
    return {name: None if seconds is None else seconds * 1000 for name, seconds in found.items()}


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items() if number) or "none"


def _stalls(stalls: dict[str, Any]) -> str:
    return (
        ", ".join(
            f"{phase} {stall['count']} ({stall['recovered']} recovered, longest {stall['longest_s']:.1f} s)"
            for phase, stall in stalls.items()
            if stall["count"]
        )
        or "none"
    )


def _rescued(ends: dict[str, Any]) -> str:
    if not ends:
        return "not known"
    return _counts({f"{hop} {way}": events["rescued"] for hop, ways in ends.items() for way, events in ways.items()})


def _drain(drain: dict[str, Any]) -> str:
    if drain["complete"]:
        return f"drain: complete after {drain['seconds']:.1f} s"
    pending = "; ".join(
        f"{item['program']} {item['what']} {item.get('labels', '')} {item['value']}" for item in drain["pending"]
    )
    return f"drain: {Phase.DRAIN} timed out after {drain['seconds']:.1f} s, pending: {pending}"
