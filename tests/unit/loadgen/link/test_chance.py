"""Trials that hit by chance: rates, independence, and that it does not matter how they are tried."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.link.chance import Chance


def tried(chance: Chance, probability: float, groups: list[int]) -> list[int]:
    """Tries group by group; returns which hit, counted over all of them."""
    hits: list[int] = []
    before = 0
    for trials in groups:
        hits += [before + number for number in chance.hits(probability, trials)]
        before += trials
    return hits


@given(st.floats(0, 1), st.lists(st.integers(0, 100), max_size=20), st.integers(0, 100))
def test_the_same_trials_hit_however_many_are_tried_at_once(probability: float, groups: list[int], seed: int) -> None:
    in_groups = tried(Chance(str(seed)), probability, groups)

    assert in_groups == tried(Chance(str(seed)), probability, [sum(groups)])
    assert in_groups == tried(Chance(str(seed)), probability, [1] * sum(groups))


@pytest.mark.parametrize("probability", [0.001, 0.05, 0.5, 0.9])
def test_trials_hit_at_their_rate_and_independently(probability: float) -> None:
    trials = 200_000

    hits = tried(Chance("1"), probability, [trials])

    neighbours = sum(after - before == 1 for before, after in pairwise(hits))
    for count, expected in ((len(hits), trials * probability), (neighbours, trials * probability**2)):
        assert abs(count - expected) < 5 * math.sqrt(expected) + 1


def test_what_cannot_be_never_hits_and_what_must_be_always() -> None:
    chance = Chance("1")

    assert chance.hits(0, 1000) == ()
    assert chance.hits(1, 3) == [0, 1, 2]
    assert chance.hits(5e-324, 1_000_000) == ()
    assert chance.hits(1, 2) == [0, 1]
    assert chance.hits(0, 1000) == ()


def test_another_probability_holds_from_the_next_trial_on() -> None:
    chance = Chance("1")
    assert chance.hits(1e-9, 1000) == ()

    assert 350 < len(chance.hits(0.5, 1000)) < 650
    assert chance.hits(1e-9, 1000) == ()


def test_another_seed_hits_others() -> None:
    assert Chance("1").hits(0.5, 100) != Chance("2").hits(0.5, 100)
