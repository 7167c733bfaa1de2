"""What a person sees while it runs: a view that is drawn anew in a terminal, a plain line every 5 s anywhere else."""

import asyncio
from collections.abc import Callable, Iterator
from time import monotonic

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from loadgen.measure.tally import Tally
from loadgen.soak.console import Row, console, scenario_table
from loadgen.transaction.outcomes import Outcome
from loadgen.verdict.document import milliseconds

LINE_EVERY_S = 5.0
_LIVE_EVERY_S = 1.0


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
                self._console.print(self.line(), soft_wrap=True, markup=False)
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(self.view(), refresh=True)
                await asyncio.sleep(_LIVE_EVERY_S)

    def line(self) -> str:
        """All that matters, in a line."""
        tally, outcomes = self._tally, self._tally.outcomes
        ok = outcomes[Outcome.OK]
        p99_s = tally.latencies.percentile_s(99.0) or 0.0
        failed = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items() if number and outcome != "ok")
        faults = ", ".join(fault.name for fault in tally.windows.open)
        return (
            f"{self._state()} {monotonic() - self._began_s:.0f} s: {ok} ok, {failed or '0 not ok'}, "
            f"{tally.in_flight} in flight, {tally.stalled_now} stalled, p99 {p99_s * 1000:.0f} ms, "
            f"generator lag {tally.lag_max_s * 1000:.0f} ms" + (f"; fault: {faults}" if faults else "")
        )

    def view(self) -> Group:
        """Scenarios, phases in which something stalled or timed out, faults, and the line."""
        of = f" of {self._duration_s:g}" if self._duration_s is not None else ""
        scenarios = scenario_table(self._scenarios())
        scenarios.title = f"{self._state()}, {monotonic() - self._began_s:.0f}{of} s"
        return Group(scenarios, *self._phases(), *self._faults(), Text(self.line()))

    def _scenarios(self) -> Iterator[Row]:
        for name, count in self._tally.scenarios.items():
            yield name, count.completed, count.outcomes[Outcome.OK], milliseconds(count.latencies)

    def _phases(self) -> Iterator[Table]:
        rows = [
            (phase, f"{stall.now}", f"{stall.count}", f"{stall.recovered}", f"{stall.longest_s:.1f}", f"{timeouts}")
            for (phase, stall), timeouts in zip(self._tally.stalls.items(), self._tally.timeouts.values(), strict=True)
            if stall.count or timeouts
        ]
        if not rows:
            return
        table = Table(box=None, pad_edge=False)
        table.add_column("phase")
        for heading in ("stalled now", "stalls", "recovered", "longest s", "timeouts"):
            table.add_column(heading, justify="right")
        for row in rows:
            table.add_row(*row, style="red" if row[1] != "0" else None)
        yield table

    def _faults(self) -> Iterator[Text]:
        for fault in self._tally.windows.faults.values():
            if fault.is_open:
                yield Text(
                    f"fault {fault.name} of {fault.program or 'link'}, since {fault.from_s:.0f} s", "bold yellow"
                )
            elif fault.errors:
                yield Text(f"fault {fault.name}: {'; '.join(fault.errors)}", "red")
