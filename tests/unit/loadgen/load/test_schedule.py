"""The schedule: constant, seeded, endless, and made of the mix."""

from collections import Counter
from itertools import islice

import pytest

from loadgen.load.mix import read
from loadgen.load.schedule import constant

MIX = read("default")


def test_arrivals_are_evenly_spaced() -> None:
    arrivals = list(islice(constant(MIX, 60, seed=1), 181))
    assert [arrival.number for arrival in arrivals] == list(range(181))
    assert [arrival.due_s for arrival in arrivals] == pytest.approx([number / 60 for number in range(181)])


def test_the_same_seed_gives_the_same_arrivals() -> None:
    first, again = (list(islice(constant(MIX, 60, seed=5), 200)) for _ in range(2))
    assert first == again
    assert first != list(islice(constant(MIX, 60, seed=6), 200))


def test_the_shares_are_those_of_the_mix() -> None:
    arrivals = list(islice(constant(MIX, 60, seed=1), 20_000))
    counted = Counter(arrival.scenario for arrival in arrivals)
    for name, share in MIX.scenarios.items():
        assert counted[name] / 20_000 == pytest.approx(share.weight / 100, abs=0.01)
    offered_bytes = sum(arrival.size_bytes * arrival.requests for arrival in arrivals)
    assert offered_bytes * 8 / (20_000 / 60) == pytest.approx(20e6, rel=0.15)


def test_no_two_transactions_carry_the_same_bytes() -> None:
    arrivals = islice(constant(MIX, 60, seed=1), 20_000)
    seeds = [arrival.seed + part for arrival in arrivals for part in range(arrival.requests)]
    assert len(set(seeds)) == len(seeds)
