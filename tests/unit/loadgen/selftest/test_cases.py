"""The table is complete, and what it plants is what it says."""

from loadgen.faulty.registry import FAULTS as PLANTED
from loadgen.scenarios import SCENARIOS
from loadgen.selftest.cases import CONTROLS, FAULTS, LIMITS
from loadgen.transaction.phases import DEFAULTS

ALL = (*FAULTS, *CONTROLS)


def test_every_fault_is_planted() -> None:
    assert {case.planted for case in ALL} == set(PLANTED)
    assert len({case.name for case in FAULTS}) == 12


def test_no_row_is_there_twice() -> None:
    rows = [(case.name, scenario) for case in ALL for scenario in case.scenarios]
    assert len(rows) == len(set(rows))
    assert {scenario for _, scenario in rows} == set(SCENARIOS)


def test_controls_name_nothing() -> None:
    assert all(case.is_control and not case.stalls and case.phase is None for case in CONTROLS)


def test_the_stall_limits_are_the_defaults() -> None:
    assert all(LIMITS[phase].stall_s == limit.stall_s for phase, limit in DEFAULTS.items())


def test_what_recovers_does_so_between_stall_limit_and_timeout() -> None:
    for case in FAULTS:
        if case.recovers_after_s:
            assert case.phase
            limit = LIMITS[case.phase]
            assert limit.stall_s + 1 <= case.recovers_after_s <= limit.timeout_s - 1
