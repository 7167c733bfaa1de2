"""The README publishes the bounds that acceptance/recovery.py holds, and no others; and what misses one is reported."""

from dataclasses import replace
from pathlib import Path

from application import CUT, HANGS, RESET, SERVED, Asked
from breaking import ROWS
from recovery import Seen, faults_of

README = Path(__file__).parents[2] / "README.md"
KILLED = ROWS[0]
BEGAN_S = 1_000.0
HELD = Seen(1.0, Asked(BEGAN_S - 1, BEGAN_S + 3, RESET), (Asked(BEGAN_S + 1, BEGAN_S + 4, SERVED),), BEGAN_S)


def test_the_readme_has_the_table_that_is_measured() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    begins = lines.index("| what | applications see | works again within |") + 2
    published = lines[begins : lines.index("", begins)]
    assert published == [f"| {row.what} | {row.sees} | {row.recovery_s:g} s |" for row in ROWS]


def test_a_row_that_is_held_is_not_complained_about() -> None:
    assert faults_of(KILLED, HELD) == []


def test_each_bound_that_is_missed_is_told() -> None:
    late = BEGAN_S + KILLED.under_way_s + 1
    for seen, said in [
        (replace(HELD, recovery_s=KILLED.recovery_s + 1), "recovery took 6.0 s"),
        (replace(HELD, recovery_s=float("inf")), "recovery took inf s"),
        (replace(HELD, transfer=Asked(BEGAN_S, late, RESET)), "the transfer under way ended after 11.0 s"),
        (replace(HELD, transfer=Asked(BEGAN_S, BEGAN_S + 1, CUT)), "the transfer under way: cut short after 1.0 s"),
        (replace(HELD, meanwhile=(Asked(BEGAN_S, BEGAN_S + 1, HANGS),)), "1 requests meanwhile: hangs"),
        (replace(HELD, meanwhile=(Asked(BEGAN_S, late, SERVED),)), "a request meanwhile took 11.0 s"),
    ]:
        assert faults_of(KILLED, seen) == [said]


def test_no_row_allows_a_damaged_body_or_a_hang() -> None:
    for row in ROWS:
        assert not {HANGS, "damaged"} & (row.under_way | row.meanwhile), row.what
