"""The rate over time: arrivals are due when its integral says so."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.load.rate import Rate, Stretch

RATES = st.floats(0, 1000).map(lambda rate: round(rate, 3))
STRETCHES = st.builds(
    Stretch, from_per_s=RATES, to_per_s=RATES, over_s=st.floats(0.1, 100).map(lambda over_s: round(over_s, 3))
)


def arrivals_by(stretches: list[Stretch], rate_per_s: float, now_s: float) -> float:
    """The integral of the rate, the long way round."""
    total = 0.0
    for stretch in stretches:
        spent_s = min(now_s, stretch.over_s)
        reached_per_s = stretch.from_per_s + (stretch.to_per_s - stretch.from_per_s) * spent_s / stretch.over_s
        total += (stretch.from_per_s + reached_per_s) / 2 * spent_s
        now_s -= spent_s
    return total + rate_per_s * now_s


@given(st.lists(STRETCHES, max_size=4), st.floats(0.1, 1000), st.floats(0, 100_000))
def test_an_arrival_is_due_when_the_integral_reaches_it(
    ramp: list[Stretch], rate_per_s: float, arrivals: float
) -> None:
    due_s = Rate(ramp, rate_per_s).due_s(arrivals)
    assert arrivals_by(ramp, rate_per_s, due_s) == pytest.approx(arrivals, rel=1e-6, abs=1e-3)


@given(st.lists(STRETCHES, max_size=4), st.lists(st.floats(0, 1), min_size=2))
def test_later_ones_are_not_due_earlier(ramp: list[Stretch], steps: list[float]) -> None:
    rate = Rate(ramp, 1.0)
    due_s = [rate.due_s(reached) for reached in accumulate(steps)]
    assert due_s == pytest.approx(sorted(due_s), abs=1e-6)


def test_without_a_ramp_it_is_a_division() -> None:
    assert [Rate((), 60).due_s(number) for number in range(1000)] == [number / 60 for number in range(1000)]


def test_a_ramp_from_0() -> None:
    """0 to 10 a second over 10 s are 50 arrivals, half of them in the last 3 s; then 10 a second."""
    rate = Rate([Stretch(from_per_s=0, to_per_s=10, over_s=10)], 10)
    assert rate.due_s(0) == 0
    assert rate.due_s(0.5) == pytest.approx(1)
    assert rate.due_s(25) == pytest.approx(50**0.5)
    assert rate.due_s(50) == pytest.approx(10)
    assert rate.due_s(51) == pytest.approx(10.1)


def test_nothing_is_due_while_the_rate_is_0() -> None:
    pause = Stretch(from_per_s=0, to_per_s=0, over_s=7)
    rate = Rate([pause, Stretch(from_per_s=2, to_per_s=2, over_s=1), pause], 1)
    assert [rate.due_s(number) for number in range(4)] == [7, 7.5, 15, 16]


def test_down_to_0() -> None:
    rate = Rate([Stretch(from_per_s=10, to_per_s=0, over_s=10)], 1)
    assert rate.due_s(37.5) == pytest.approx(5)
    assert rate.due_s(50) == 10
