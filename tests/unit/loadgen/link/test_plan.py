"""The plan of a link: what holds when, and what is refused."""

import math
from pathlib import Path

import pytest

from loadgen.link.plan import Conditions, Direction, Impairment, Plan, Timeline, Window, read
from loadgen.toml_file import UnusableFileError

UP, DOWN = Direction.CLIENT_TO_SERVER, Direction.SERVER_TO_CLIENT


def test_a_plan_without_windows_holds_for_ever() -> None:
    timeline = Timeline(Plan(delay_ms=10, loss=0.5), UP)

    assert timeline.at(0) == (Impairment(delay_s=0.01, loss=0.5), math.inf)
    assert timeline.at(1e6) == (Impairment(delay_s=0.01, loss=0.5), math.inf)


def test_a_window_overrides_only_the_fields_it_names_from_inclusive_to_exclusive() -> None:
    timeline = Timeline(Plan(delay_ms=10, at=(Window(from_s=5, to_s=8, loss=0.1),)), UP)

    assert timeline.at(4.999) == (Impairment(delay_s=0.01), 5)
    assert timeline.at(5) == (Impairment(delay_s=0.01, loss=0.1), 8)
    assert timeline.at(8) == (Impairment(delay_s=0.01), math.inf)


def test_of_overlapping_windows_the_later_in_the_file_wins_field_by_field() -> None:
    plan = Plan(
        at=(
            Window(from_s=0, to_s=10, loss=0.1, jitter_ms=2),
            Window(from_s=5, to_s=15, loss=0.9),
            Window(from_s=6, to_s=7, loss=0),
        )
    )
    timeline = Timeline(plan, UP)

    assert timeline.at(5)[0] == Impairment(loss=0.9, jitter_s=0.002)
    assert timeline.at(6)[0] == Impairment(loss=0, jitter_s=0.002)
    assert timeline.at(12)[0] == Impairment(loss=0.9)


def test_a_window_may_hold_in_one_direction_only() -> None:
    plan = Plan(at=(Window(from_s=1, direction=DOWN, blackhole=True),))

    assert Timeline(plan, DOWN).at(1) == (Impairment(blackhole=True), math.inf)
    assert Timeline(plan, UP).at(1) == (Impairment(), math.inf)


def test_a_throttle_of_the_base_is_lifted_by_a_window() -> None:
    timeline = Timeline(Plan(rate_mbit_s=2, at=(Window(from_s=5, to_s=8, rate_mbit_s=math.inf),)), UP)

    assert [timeline.at(at_s)[0].throttles for at_s in (0, 5, 8)] == [True, False, True]
    assert timeline.at(0)[0] == Impairment(rate_mbit_s=2)


def test_flags_leave_the_moments_of_a_rebind() -> None:
    assert Plan(rebind_at_s=(3, 1)).overridden(Conditions(rate_mbit_s=1)) == Plan(rate_mbit_s=1, rebind_at_s=(3, 1))


def test_flags_change_the_base_and_add_windows() -> None:
    plan = Plan(delay_ms=10, loss=0.1, at=(Window(from_s=1, to_s=2, loss=0.5),))

    changed = plan.overridden(Conditions(delay_ms=0), [Window(from_s=3, to_s=4, blackhole=True)])

    timeline = Timeline(changed, UP)
    assert timeline.at(0)[0] == Impairment(loss=0.1)
    assert timeline.at(1)[0] == Impairment(loss=0.5)
    assert timeline.at(3)[0] == Impairment(loss=0.1, blackhole=True)


def test_a_plan_is_read_from_toml(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(
        "delay_ms = 10\nrebind_at_s = [2, 3.5]\n[[at]]\nfrom_s = 5\nto_s = 8\nreorder = 0.2\nreorder_ms = 3\n"
        '[[at]]\nfrom_s = 20\ndirection = "server_to_client"\nblackhole = true\nrate_mbit_s = 2\n'
    )

    plan = read(file)
    timeline = Timeline(plan, DOWN)
    assert plan.rebind_at_s == (2, 3.5)

    assert timeline.at(0)[0] == Impairment(delay_s=0.01)
    assert timeline.at(5)[0] == Impairment(delay_s=0.01, reorder=0.2, reorder_s=0.003)
    assert timeline.at(20)[0] == Impairment(delay_s=0.01, rate_mbit_s=2, blackhole=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("loss = 2", "loss: must be less than or equal to 1, not 2"),
        ("delay = 2", "delay: Extra inputs are not permitted, not 2"),
        ("[[at]]\nfrom_s = 5\nto_s = 5", "at.0: Value error, to_s is 5; it has to be later than from_s (5)"),
        ("[[at]]\nto_s = 5", "at.0.from_s: Field required"),
        ('[[at]]\nfrom_s = 1\ndirection = "up"', "at.0.direction: must be 'client_to_server'"),
        ("rate_mbit_s = 0", "rate_mbit_s: must be greater than or equal to 0.01, not 0"),
        ("rebind_at_s = [1, 0]", "rebind_at_s.1: must be greater than 0, not 0"),
        ("[[at]]\nfrom_s = 1\nrebind_at_s = [2]", "at.0.rebind_at_s: Extra inputs are not permitted"),
        ("loss =", "Invalid value"),
    ],
)
def test_what_cannot_be_used_is_refused_with_file_field_value_and_bound(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(text)

    with pytest.raises(UnusableFileError) as refused:
        read(file)

    assert str(file) in str(refused.value)
    assert says in str(refused.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnusableFileError, match=r"nowhere\.toml: No such file"):
        read(tmp_path / "nowhere.toml")
