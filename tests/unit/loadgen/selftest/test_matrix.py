"""What the matrix comes to: a class counts when all its rows are ok, a control with one miss is a false alarm."""

from loadgen.selftest.matrix import Row, document


def row(name: str, *misses: str, is_control: bool = False) -> Row:
    return Row(name, "get", is_control, "what", "what", 2.04, misses)


def test_all_ok() -> None:
    found = document([row("a"), row("a"), row("b"), row("none", is_control=True)], 12.34)
    assert (found["ok"], found["schema"], found["seconds"]) == (True, 1, 12.3)
    assert found["classes"] == {"planted": 2, "detected": 2}
    assert found["controls"] == {"run": 1, "false_alarms": 0}
    assert found["matrix"][0] == {
        "name": "a", "scenario": "get", "control": False, "expected": "what", "reported": "what", "after_s": 2.04,
        "ok": True, "misses": [],
    }  # fmt: skip


def test_one_row_of_a_class_misses() -> None:
    found = document([row("a"), row("a", "why"), row("b")], 1)
    assert (found["ok"], found["classes"]) == (False, {"planted": 2, "detected": 1})


def test_one_row_of_a_control_misses() -> None:
    found = document([row("a"), row("none", is_control=True), row("none", "why", is_control=True)], 1)
    assert (found["ok"], found["controls"]) == (False, {"run": 1, "false_alarms": 1})
