"""Medians, ranges and ratios."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.compare.spread import Spread, ratio, spread

VALUES = st.lists(st.floats(0.001, 1000), min_size=1, max_size=6)


def test_spread() -> None:
    assert spread([]) is None
    assert spread([3]) == Spread(3, 3, 3)
    assert spread([5, 1, 2]) == Spread(2, 1, 5)
    assert spread([4, 1]) == Spread(2.5, 1, 4)


def test_ratio() -> None:
    assert ratio(Spread(10, 8, 16), Spread(20, 16, 24)) == Spread(2, 1, 3)
    assert ratio(Spread(0, 0, 0), Spread(1, 1, 1)) is None
    assert ratio(Spread(1, -1, 2), Spread(1, 1, 1)) is None
    assert ratio(Spread(1, 1, 1), Spread(1, -1, 2)) is None


@given(VALUES, VALUES)
def test_any_run_of_b_to_any_run_of_a_is_within_the_range(of_a: list[float], of_b: list[float]) -> None:
    a, b = spread(of_a), spread(of_b)
    assert a is not None
    assert b is not None
    found = ratio(a, b)
    assert found is not None
    assert found.least <= found.median * (1 + 1e-9)
    assert found.median <= found.most * (1 + 1e-9)
    ratios = [one_b / one_a for one_a in of_a for one_b in of_b]
    assert (min(ratios), max(ratios)) == pytest.approx((found.least, found.most))
