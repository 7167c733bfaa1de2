"""Quiet, fault and recovery: which time it is, and how long each lasted."""

import pytest

from loadgen.measure.windows import FaultRecord, Windows
from loadgen.transaction.transaction import Window


def windows(*faults: tuple[float | None, float | None], recovery_s: float = 5.0) -> Windows:
    made = Windows()
    made.plan(
        FaultRecord(f"fault {number}", "loss", None, recovery_s, from_s=from_s, to_s=to_s)
        for number, (from_s, to_s) in enumerate(faults)
    )
    return made


def test_a_fault_from_its_begin_to_its_end() -> None:
    made = windows((None, None))
    assert made.at(9.0) is Window.QUIET
    made.began("fault 0", 10.0)
    assert made.at(10.0) is made.at(11.0) is Window.FAULT
    made.healed("fault 0", 12.0)
    assert made.at(12.0) is made.at(16.9) is Window.RECOVERY
    assert made.at(17.0) is Window.QUIET


def test_what_is_due_is_counted() -> None:
    made = windows((None, None))
    assert made.of_due(1.0) is Window.QUIET
    assert made.quiet_since_last == 1
    made.began("fault 0", 10.0)
    made.of_due(11.0)
    made.healed("fault 0", 12.0)
    made.of_due(13.0)
    assert (made.faults["fault 0"].touched, made.quiet_since_last) == (2, 0)
    made.of_due(18.0)
    assert (made.faults["fault 0"].touched, made.quiet_since_last) == (2, 1)


def test_fault_goes_before_recovery() -> None:
    made = windows((0.0, 1.0), (2.0, None))
    assert made.at(2.5) is Window.FAULT
    made.healed("fault 1", 3.0)
    assert made.at(7.9) is Window.RECOVERY
    assert made.at(8.0) is Window.QUIET


@pytest.mark.parametrize(
    ("faults", "quiet_s", "fault_s", "recovery_s"),
    [
        ([], 30, 0, 0),
        ([(None, None)], 30, 0, 0),
        ([(10.0, 12.0)], 23, 2, 5),
        ([(10.0, None)], 10, 20, 0),
        ([(10.0, 12.0), (11.0, 14.0)], 21, 4, 5),
        ([(10.0, 12.0), (14.0, 15.0)], 20, 3, 7),
        ([(28.0, 29.0)], 28, 1, 1),
    ],
)
def test_seconds(
    faults: list[tuple[float | None, float | None]], quiet_s: float, fault_s: float, recovery_s: float
) -> None:
    seconds = windows(*faults).seconds(30.0)
    assert seconds == {Window.QUIET: quiet_s, Window.FAULT: fault_s, Window.RECOVERY: recovery_s}
