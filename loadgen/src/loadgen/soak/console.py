"""Standard output, and the table that the live view and the summary have in common."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress

from rich.console import Console
from rich.table import Table

_PLAIN_WIDTH = 120

Row = tuple[str, int, int, Mapping[str, float | None]]
"""scenario, completed, ok, and its latency in milliseconds by percentile"""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads any more: that ends the output, not the soak. (rich's own way is to end the program.)"""
        with suppress(SystemExit):
            super().on_broken_pipe()


def console() -> Console:
    """Standard output; as wide as the tables need where it is no terminal."""
    return _Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False, emoji=False)


def scenario_table(rows: Iterable[Row]) -> Table:
    """One line a scenario; red where not everything was ok."""
    table = Table(box=None, pad_edge=False)
    table.add_column("scenario")
    for heading in ("completed", "ok", "p50 ms", "p90 ms", "p99 ms", "max ms"):
        table.add_column(heading, justify="right")
    for name, completed, ok, latency_ms in rows:
        times = ["-" if latency_ms[key] is None else f"{latency_ms[key]:.0f}" for key in ("p50", "p90", "p99", "max")]
        table.add_row(name, str(completed), str(ok), *times, style=None if completed == ok else "red")
    return table
