"""The books for people: one line a hop in the order of the way, then what does not add up."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from loadgen.ledger.books import DOWN, OVERDUE, Books, Imbalance
from loadgen.measure.ledger import WAY
from loadgen.measure.observe import EVENTS


def show(books: Books, found: Sequence[Imbalance], out: Console) -> None:
    """Prints everything that is known, and what was found in it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("ends of stream")
    for event in (*EVENTS, OVERDUE):
        table.add_column(event, justify="right")
    for direction in WAY:
        table.add_row(direction.replace("_", " "), style="bold")
        for hop, counts in _hops(books, direction):
            table.add_row(f"  {hop}", *counts)
    out.print(table)
    for line in _words(books, found):
        out.print(line, markup=False, soft_wrap=True)


def _hops(books: Books, direction: str) -> Iterator[tuple[str, list[str]]]:
    target = books.target or {}
    if direction == DOWN and books.target is not None:
        yield "http-target", ["-", str(target["sent"])]
    for proxy in WAY[direction][:2]:
        counts = books.ends.get(proxy, {}).get(direction)
        hanging = sum(books.overdue.get(proxy, {}).get(direction, {}).values())
        again = " (restarted)" if proxy in books.restarted else ""
        yield proxy + again, [*(str(counts[event]) if counts else "-" for event in EVENTS), str(hanging)]
    if direction != DOWN and books.target is not None:
        yield "http-target", [str(target["received"])]
    if direction == DOWN and books.missed is not None:
        yield f"application: {books.missed} missed", []


def _words(books: Books, found: Sequence[Imbalance]) -> Iterator[str]:
    for program in books.silent:
        yield f"{program} does not answer"
    for program in sorted(books.restarted):
        yield f"{program} was restarted meanwhile: its counts begin later"
    if not books.judged:
        yield "nothing to judge"
        return
    for imbalance in found:
        yield f"IMBALANCE at {imbalance.hop}: {imbalance.text}"
    if not found:
        yield "balanced: no end is overdue at any hop, and no application misses one"
