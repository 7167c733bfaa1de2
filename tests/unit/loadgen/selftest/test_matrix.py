"""What the matrix comes to: a class counts when all its rows are ok, a control with one miss is a false alarm."""

import pytest

from loadgen.selftest.matrix import Finding, Row, document, finding, show


def row(name: str, *misses: str, is_control: bool = False, is_busy: bool = False) -> Row:
    return Row(name, "get", is_control, "what", "what", 2.04, misses, is_busy)


def test_all_ok() -> None:
    found = document([row("a"), row("a"), row("b"), row("none", is_control=True)], 12.34)
    assert (found["ok"], found["schema"], found["seconds"]) == (True, 1, 12.3)
    assert found["classes"] == {"planted": 2, "detected": 2}
    assert found["controls"] == {"run": 1, "false_alarms": 0}
    assert found["matrix"][0] == {
        "name": "a", "scenario": "get", "control": False, "expected": "what", "reported": "what", "after_s": 2.04,
        "ok": True, "misses": [], "busy": False,
    }  # fmt: skip


def test_one_row_of_a_class_misses() -> None:
    found = document([row("a"), row("a", "why"), row("b")], 1)
    assert (found["ok"], found["classes"]) == (False, {"planted": 2, "detected": 1})


def test_one_row_of_a_control_misses() -> None:
    found = document([row("a"), row("none", is_control=True), row("none", "why", is_control=True)], 1)
    assert (found["ok"], found["controls"]) == (False, {"run": 1, "false_alarms": 1})


FINE, MISSED, BUSY = row("a"), row("b", "why"), row("c", "why", is_busy=True)


@pytest.mark.parametrize(
    ("rows", "found", "exit_code"),
    [
        ([FINE], Finding.OK, 0),
        ([FINE, MISSED], Finding.MISS, 1),
        ([FINE, BUSY], Finding.INCONCLUSIVE, 3),
        ([MISSED, BUSY], Finding.MISS, 1),
    ],
)
def test_a_busy_machine_is_no_miss(
    rows: list[Row], found: Finding, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (finding(rows), found.exit_code) == (found, exit_code)
    result = document(rows, 1)
    assert (result["finding"], result["ok"]) == (found, found is Finding.OK)
    show(rows, result)
    shown = capsys.readouterr().out
    assert ("too busy" in shown) is (found is Finding.INCONCLUSIVE)
    assert ("BUSY c, get: why" in shown) is (BUSY in rows)
