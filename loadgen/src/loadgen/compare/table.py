"""A comparison for people, and as JSON for programs.

The JSON document:

    schema, verdict, reasons[], notes[], tolerance, a{path, runs[{id, revision, verdict}]}, b{…},
    measures[{name, unit, a{median, least, most} | null, b{…} | null, ratio{…} | null, mark}]

`mark` is worse, better, same or "not judged".
"""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadgen.compare.judgement import Compared, Comparison, Mark
from loadgen.compare.reading import Side
from loadgen.compare.spread import Spread

SCHEMA = 1

_COLOURS = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}
_STYLES = {Mark.WORSE: "red", Mark.BETTER: "green"}


def document(comparison: Comparison) -> dict[str, Any]:
    """Everything of a comparison."""
    return {
        "schema": SCHEMA,
        "verdict": comparison.verdict,
        "reasons": list(comparison.reasons),
        "notes": list(comparison.notes),
        "tolerance": comparison.tolerance,
        "a": _side(comparison.a),
        "b": _side(comparison.b),
        "measures": [
            {
                "name": each.name,
                "unit": each.rule.unit,
                "a": _numbers(each.a),
                "b": _numbers(each.b),
                "ratio": _numbers(each.ratio),
                "mark": each.mark,
            }
            for each in comparison.measures
        ],
    }


def show(comparison: Comparison, out: Console) -> None:
    """Prints the two side by side: what was counted only where something was, everything else always."""
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        runs = ", ".join(f"{report.run.id} {report.run.revision} {report.verdict}" for report in side.runs)
        out.print(f"{name}: {side.path}: {runs}", markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("median (least..most)")
    for heading in ("A", "B", "B/A", "", ""):
        table.add_column(heading, justify="left" if not heading else "right")
    for each in comparison.measures:
        if not (each.rule.is_count and _is_nothing(each)):
            mark = "" if each.mark is Mark.SAME else str(each.mark)
            cells = (each.name, _cell(each.a), _cell(each.b), _cell(each.ratio), each.rule.unit, mark)
            table.add_row(*cells, style=_STYLES.get(each.mark))
    out.print(table)
    for note in comparison.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    out.print(Text(f"verdict: {comparison.verdict}", style=_COLOURS[comparison.verdict]))
    for reason in comparison.reasons:
        out.print(f"  {reason}", markup=False, soft_wrap=True)


def _is_nothing(compared: Compared) -> bool:
    return all(side is None or side.most == 0 for side in (compared.a, compared.b))


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    median = _number(spread.median)
    return median if spread.least == spread.most else f"{median} ({_number(spread.least)}..{_number(spread.most)})"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _numbers(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else {name: round(value, 6) for name, value in asdict(spread).items()}


def _side(side: Side) -> dict[str, Any]:
    runs = [{"id": report.run.id, "revision": report.run.revision, "verdict": report.verdict} for report in side.runs]
    return {"path": str(side.path), "runs": runs}
