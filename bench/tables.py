"""Tables of a run in Markdown: pure.

Rules
- A cell is a median with (lowest to highest) where they differ; whoever has no figure stands there with the reason.
- A ratio says how many times better `OURS` is: above 1 it is, below 1 the other one is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.charts import Bar, figure
from bench.results import BASELINE, Run

OURS = "finback-quinn"
CEILINGS = ("microsocks", BASELINE)
REASON_CHARACTERS = 90


@dataclass(frozen=True)
class Column:
    """One metric of a table. `ratio`: whether more or less of it is better, where a ratio to `OURS` stands behind."""

    heading: str
    metric: str
    ratio: str = ""


def table(run: Run, work: str, contenders: Iterable[str], columns: Sequence[Column]) -> str:
    """One work: a row a contender."""
    heads = [part for each in columns for part in (each.heading, *(["finback is"] if each.ratio else []))]
    rows = []
    for contender in contenders:
        cells = [part for each in columns for part in _cells(run, work, contender, each)]
        if all(cell == "" for cell in cells):
            cells[0] = reason(run, work, contender)
        rows.append([named(contender), *cells])
    return markdown(["", *heads], rows)


def matrix(run: Run, works: Sequence[tuple[str, str]], contenders: Iterable[str], metric: str) -> str:
    """One metric: a row a contender, a column a work; `works` are (name, heading)."""
    rows = [
        [named(contender), *(cell(run, work, contender, metric) or reason(run, work, contender) for work, _ in works)]
        for contender in contenders
    ]
    return markdown(["", *(heading for _, heading in works)], rows)


def rows_of_chart(run: Run, work: str, contenders: Iterable[str], metric: str, heading: str = "") -> list[Bar]:
    """The same as bars, without the baseline: it is so far above that nothing else could be seen."""
    return [
        bar(run, work, contender, metric, heading)
        for contender in contenders
        if contender != BASELINE and (run.find(work, contender, metric) or run.failure(work, contender))
    ]


def bar(run: Run, work: str, contender: str, metric: str, heading: str) -> Bar:
    kind = "ours" if contender.startswith("finback") else "ceiling" if contender in CEILINGS else "peer"
    found = run.find(work, contender, metric)
    if found is None:
        return Bar(contender, kind, why=reason(run, work, contender), heading=heading)
    return Bar(contender, kind, found.median, found.min, found.max, heading=heading)


def cell(run: Run, work: str, contender: str, metric: str) -> str:
    """A median with its spread; nothing where there is none."""
    found = run.find(work, contender, metric)
    if found is None:
        return ""
    spread = f" ({figure(found.min)} to {figure(found.max)})" if found.min != found.max else ""
    return figure(found.median) + spread


def reason(run: Run, work: str, contender: str) -> str:
    """Why there is no figure."""
    failure = run.failure(work, contender)
    if failure is None:
        return "not asked"
    short = failure.reason[:REASON_CHARACTERS].replace("|", "/")
    return f"failed: {short}"


def named(contender: str) -> str:
    return f"**{contender}**" if contender == OURS else contender


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column to the left, figures to the right."""
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cells(run: Run, work: str, contender: str, column: Column) -> list[str]:
    shown = cell(run, work, contender, column.metric)
    if not column.ratio:
        return [shown]
    over, under = (OURS, contender) if column.ratio == "more" else (contender, OURS)
    ratio = run.ratio(work, column.metric, over, under)
    return [shown, f"{figure(ratio)} x" if ratio is not None and contender != OURS else ""]
