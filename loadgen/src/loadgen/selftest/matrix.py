"""The matrix: what was planted, what was expected, what was reported. For people, and as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SCHEMA = 1
WIDTH = 150
"""Where the output is no terminal."""


@dataclass(frozen=True, slots=True)
class Row:
    """One result. `after_s` is how long it took from the strike of the fault to the report; None: there was none."""

    name: str
    scenario: str
    is_control: bool
    expected: str
    reported: str
    after_s: float | None
    misses: tuple[str, ...]
    """What was reported and should not have been, and the other way round. Empty: all is well."""
    is_busy: bool = False
    """Whether its misses prove nothing, as this machine was too busy."""

    @property
    def ok(self) -> bool:
        return not self.misses


@unique
class Finding(StrEnum):
    """What all rows come to."""

    OK = "ok"
    MISS = "miss"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_code(self) -> int:
        return {Finding.OK: 0, Finding.MISS: 1, Finding.INCONCLUSIVE: 3}[self]


def finding(rows: Sequence[Row]) -> Finding:
    """A miss is one only where the machine was not too busy; but then nothing is proved."""
    if all(row.ok for row in rows):
        return Finding.OK
    return Finding.INCONCLUSIVE if all(row.ok or row.is_busy for row in rows) else Finding.MISS


def document(rows: Sequence[Row], seconds: float) -> dict[str, Any]:
    """What `--json` writes. A class is detected when all of its rows are ok; a control with a miss is a false alarm."""
    classes = _all_ok(row for row in rows if not row.is_control)
    controls = _all_ok(row for row in rows if row.is_control)
    return {
        "schema": SCHEMA,
        "ok": all(row.ok for row in rows),
        "finding": finding(rows),
        "seconds": round(seconds, 1),
        "classes": {"planted": len(classes), "detected": sum(classes.values())},
        "controls": {"run": len(controls), "false_alarms": len(controls) - sum(controls.values())},
        "matrix": [
            {
                "name": row.name,
                "scenario": row.scenario,
                "control": row.is_control,
                "expected": row.expected,
                "reported": row.reported,
                "after_s": None if row.after_s is None else round(row.after_s, 2),
                "ok": row.ok,
                "misses": list(row.misses),
                "busy": row.is_busy,
            }
            for row in rows
        ],
    }


def write(path: Path, result: dict[str, Any]) -> None:
    """Writes the JSON. Raises OSError."""
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def show(rows: Sequence[Row], result: dict[str, Any]) -> None:
    """Prints the table, what is wrong with each row that is a miss, and a last line."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    table = Table("planted", "scenario", "expected", "reported", "after", "", title="loadgen selftest")
    before = ""
    for row in rows:
        if before and row.name != before:
            table.add_section()
        after = "" if row.after_s is None else f"{row.after_s:.1f} s"
        mark = "[green]ok[/]" if row.ok else "[bold yellow]BUSY[/]" if row.is_busy else "[bold red]MISS[/]"
        table.add_row("" if row.name == before else row.name, row.scenario, row.expected, row.reported, after, mark)
        before = row.name
    console.print(table)
    for row in rows:
        for miss in row.misses:
            console.print(f"{'BUSY' if row.is_busy else 'MISS'} {row.name}, {row.scenario}: {miss}", markup=False)
    if result["finding"] is Finding.INCONCLUSIVE:
        console.print("inconclusive: this machine is too busy for the test")
    classes, controls = result["classes"], result["controls"]
    console.print(
        f"{classes['detected']} of {classes['planted']} failure classes detected,"
        f" {controls['false_alarms']} false alarms in {controls['run']} controls;"
        f" {len(rows)} rows in {result['seconds']:.0f} s"
    )


def _all_ok(rows: Iterable[Row]) -> dict[str, bool]:
    verdicts: dict[str, bool] = {}
    for row in rows:
        verdicts[row.name] = verdicts.get(row.name, True) and row.ok
    return verdicts
