"""Fault plans: what can be written, what it means, and what is refused in words."""

import math
from pathlib import Path

import pytest

from loadgen.faults.plan import KINDS, FaultPlan, Kind, read
from loadgen.toml_file import UnusableFileError

LEAST: dict[Kind, dict[str, object]] = {
    Kind.DELAY: {"delay_ms": 50},
    Kind.JITTER: {"jitter_ms": 5},
    Kind.LOSS: {"loss": 0.05},
    Kind.REORDER: {"reorder": 0.1, "reorder_ms": 3},
    Kind.DUPLICATE: {"duplicate": 0.1},
    Kind.THROTTLE: {"rate_mbit_s": 2},
}


def least(kind: Kind) -> dict[str, object]:
    """What a fault of this kind needs."""
    shape = KINDS[kind]
    program: dict[str, object] = {"program": "proxy-server"} if shape.of_program else {}
    lasts: dict[str, object] = {"for_s": 2} if shape.lasts else {}
    return {"kind": kind, "at_s": 5, **LEAST.get(kind, {}), **program, **lasts}


def plan(*faults: dict[str, object], **fields: object) -> FaultPlan:
    return FaultPlan.model_validate({"fault": list(faults), **fields})


@pytest.mark.parametrize("kind", Kind)
def test_each_kind(kind: Kind) -> None:
    (fault,) = plan(least(kind)).faults
    assert (fault.name, fault.recovery_s) == (kind, 5.0)
    assert plan(least(kind)).needs_link is KINDS[kind].of_link


@pytest.mark.parametrize("kind", [kind for kind in Kind if KINDS[kind].of_link and kind is not Kind.REBIND])
def test_what_the_link_does_meanwhile(kind: Kind) -> None:
    (fault,) = plan({**least(kind), "direction": "server_to_client"}).faults
    window = fault.window()
    assert (window.from_s, window.direction) == (0, "server_to_client")
    said = window.model_dump(exclude_none=True, exclude={"from_s", "to_s", "direction"})
    assert said == (LEAST.get(kind) or {"blackhole": True})
    assert fault.conditions() == {**LEAST.get(kind, {}), "direction": "server_to_client"}


def test_in_order_of_time_each_with_a_name_and_a_bound() -> None:
    made = plan(
        {**least(Kind.LOSS), "at_s": 20, "recovery_s": 1},
        least(Kind.LOSS),
        {**least(Kind.PAUSE), "at_s": 30, "name": "nap"},
        recovery_s=7,
    )
    assert [(fault.name, fault.at_s, fault.recovery_s) for fault in made.faults] == [
        ("loss", 5, 7), ("loss 2", 20, 1), ("nap", 30, 7),
    ]  # fmt: skip
    assert made.lasts_s == 39


@pytest.mark.parametrize(
    ("kind", "other", "said"),
    [
        (Kind.LOSS, {"kind": "quake"}, "Input should be 'delay'"),
        (Kind.LOSS, {"loss": None}, "loss needs loss"),
        (Kind.LOSS, {"loss": 2}, "less than or equal to 1"),
        (Kind.LOSS, {"delay_ms": 5}, "loss does not take delay_ms"),
        (Kind.LOSS, {"for_s": None}, "loss needs for_s"),
        (Kind.LOSS, {"program": "proxy-server"}, "is of the link and takes no program"),
        (Kind.LOSS, {"at_s": -1}, "greater than or equal to 0"),
        (Kind.LOSS, {"why": "not"}, "Extra inputs are not permitted"),
        (Kind.LOSS, {"loss": 0}, "loss with loss = 0 changes nothing"),
        (Kind.THROTTLE, {"rate_mbit_s": math.inf}, "changes nothing"),
        (Kind.KILL, {"program": "sshd"}, "needs program, one of proxy-client"),
        (Kind.KILL, {"direction": "server_to_client"}, "takes no direction"),
        (Kind.DRAIN, {"for_s": 3}, "drain does not take for_s"),
        (Kind.REBIND, {"for_s": 3}, "rebind does not take for_s"),
    ],
)
def test_refusals(kind: Kind, other: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan({**least(kind), **other})


def test_one_fault_a_program_at_a_time() -> None:
    pause, kill = least(Kind.PAUSE), least(Kind.KILL)
    plan(pause, {**kill, "at_s": 7.1})
    plan(pause, {**kill, "program": "proxy-client"})
    with pytest.raises(ValueError, match="kill of proxy-server at 7 s begins before the pause of proxy-server is over"):
        plan(pause, {**kill, "at_s": 7})


def test_what_the_link_does_adds_up_but_a_link_that_is_away_does_nothing() -> None:
    loss, kill = least(Kind.LOSS), {**least(Kind.KILL), "program": "link"}
    assert plan(loss, least(Kind.DELAY)).needs_link
    with pytest.raises(ValueError, match="kill of link at 6 s begins before the loss of link is over"):
        plan(loss, {**kill, "at_s": 6})
    assert plan({**kill, "at_s": 60}).needs_link


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="two faults have the name nap"):
        plan({**least(Kind.LOSS), "name": "nap"}, {**least(Kind.DELAY), "name": "nap"})
    with pytest.raises(ValueError, match="two faults have the name kill"):
        plan({**least(Kind.PAUSE), "name": "kill"}, {**least(Kind.KILL), "at_s": 60})


@pytest.mark.parametrize(
    ("text", "said"),
    [("fault = []", "fault: Tuple should have at least 1 item"), ("[[fault", "plan.toml: "), ("x = 1", "x: Extra")],
)
def test_the_message_names_file_and_field(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(UnusableFileError, match=said):
        read(path)
    with pytest.raises(UnusableFileError, match="No such file"):
        read(tmp_path / "none.toml")
