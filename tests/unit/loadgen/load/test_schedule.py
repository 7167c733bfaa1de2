"""The schedule: seeded, endless, made of the mix, and at the rate that was asked for."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from itertools import islice, pairwise, takewhile
from statistics import mean, variance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.load.mix import Mix, Spacing, read
from loadgen.load.schedule import arrivals
from loadgen.transaction.transaction import Arrival

MIX = read("default")
CONSTANT, POISSON = Spacing.CONSTANT, Spacing.POISSON
SEEDS = st.integers(0, (1 << 64) - 1)


def first(count: int, mix: Mix = MIX, rate_per_s: float = 60, seed: int = 1, **other: Spacing) -> list[Arrival]:
    return list(islice(arrivals(mix, rate_per_s=rate_per_s, seed=seed, **other), count))


def until(end_s: float, mix: Mix, rate_per_s: float, seed: int = 1, **other: Spacing) -> list[Arrival]:
    endless = arrivals(mix, rate_per_s=rate_per_s, seed=seed, **other)
    return list(takewhile(lambda arrival: arrival.due_s < end_s, endless))


def mix_of(rate_per_s: float, scenarios: Mapping[str, Mapping[str, object]], **fields: object) -> Mix:
    sized = {name: {"sizes_bytes": [1, 2, 3], **share} for name, share in scenarios.items()}
    return Mix.model_validate({"rate_per_s": rate_per_s, "scenarios": sized, **fields})


ONE = mix_of(10, {"get": {"weight": 1}})
THREE_STREAMS = mix_of(
    20, {"get": {"rate_per_s": 5}, "chunked": {"weight": 3}, "upload": {"rate_per_s": 1}, "download": {"weight": 4}}
)


def test_arrivals_are_evenly_spaced() -> None:
    found = first(181)
    assert [arrival.number for arrival in found] == list(range(181))
    assert [arrival.due_s for arrival in found] == [number / 60 for number in range(181)]


def test_the_arrivals_of_a_seed_are_those_of_every_release() -> None:
    """A seed in an old report replays the same load."""
    tenth = first(10, seed=7)[-1]
    assert (tenth.scenario, tenth.seed, tenth.size_bytes) == ("close_delimited", 33155174786028, 32_000)


@given(st.floats(0.1, 5000), st.floats(0, 5), st.floats(0, 5))
def test_a_constant_rate_holds_over_any_window(rate_per_s: float, begin_s: float, length_s: float) -> None:
    length_s = min(length_s, 1000 / rate_per_s)
    begin_s = min(begin_s, 1000 / rate_per_s)
    due_s = [arrival.due_s for arrival in until(begin_s + length_s, ONE, rate_per_s)]
    assert len(due_s) - bisect_left(due_s, begin_s) == pytest.approx(rate_per_s * length_s, abs=1.001)


@given(st.floats(0, 200), st.floats(0, 200), st.floats(0.5, 10), SEEDS)
def test_a_ramp_brings_its_integral(from_per_s: float, to_per_s: float, over_s: float, seed: int) -> None:
    ramp = [{"from_per_s": from_per_s, "to_per_s": to_per_s, "over_s": over_s}]
    mix = mix_of(10, {"get": {"weight": 1}}, ramp=ramp)
    assert len(until(over_s, mix, 10, seed)) == pytest.approx((from_per_s + to_per_s) / 2 * over_s, abs=1.001)


def test_a_staircase() -> None:
    steps = [{"from_per_s": rate, "to_per_s": rate, "over_s": 10} for rate in (5, 20, 80)]
    mix = mix_of(10, {"get": {"weight": 1}}, ramp=steps)
    counted = Counter(int(arrival.due_s // 10) for arrival in until(40, mix, 10))
    assert counted == {0: 50, 1: 200, 2: 800, 3: 100}


def test_another_rate_scales_the_ramp() -> None:
    mix = ONE.arriving(warm_up_s=10)
    assert len(until(10, mix, 10)) == pytest.approx(50, abs=1)
    assert len(until(10, mix, 40)) == pytest.approx(200, abs=1)


def test_poisson_has_the_mean_and_the_variance_of_its_rate() -> None:
    seconds = 4000
    counted = Counter(int(arrival.due_s) for arrival in until(seconds, ONE, 10, arrivals=POISSON))
    per_second = [counted[second] for second in range(seconds)]
    assert mean(per_second) == pytest.approx(10, rel=0.03)
    assert variance(per_second) == pytest.approx(10, rel=0.08)


def test_poisson_follows_a_ramp() -> None:
    mix = mix_of(10, {"get": {"weight": 1}}, ramp=[{"from_per_s": 0, "to_per_s": 200, "over_s": 100}])
    counted = Counter(int(arrival.due_s // 50) for arrival in until(100, mix, 10, arrivals=POISSON))
    assert counted[0] == pytest.approx(2500, rel=0.08)
    assert counted[1] == pytest.approx(7500, rel=0.05)


def test_the_mix_says_how_arrivals_are_spaced_unless_told_otherwise() -> None:
    mix = ONE.arriving(POISSON)
    assert first(50, mix) == first(50, ONE, arrivals=POISSON) != first(50, ONE)
    assert first(50, mix, arrivals=CONSTANT) == first(50, ONE)


@given(SEEDS, st.sampled_from(Spacing), st.sampled_from([MIX, THREE_STREAMS]))
def test_the_same_seed_gives_the_same_arrivals(seed: int, spacing: Spacing, mix: Mix) -> None:
    found = first(100, mix, seed=seed, arrivals=spacing)
    assert found == first(100, mix, seed=seed, arrivals=spacing)
    assert found != first(100, mix, seed=seed ^ 1, arrivals=spacing)


def test_what_is_sent_does_not_depend_on_when() -> None:
    def what(mix: Mix, spacing: Spacing) -> list[tuple[str, int, int]]:
        return [(each.scenario, each.seed, each.size_bytes) for each in first(100, mix, arrivals=spacing)]

    assert what(MIX, CONSTANT) == what(MIX, POISSON) == what(MIX.arriving(warm_up_s=5), POISSON)


@given(SEEDS, st.sampled_from(Spacing), st.floats(1, 1000))
def test_merged_streams_are_in_order_and_numbered(seed: int, spacing: Spacing, rate_per_s: float) -> None:
    found = first(200, THREE_STREAMS, rate_per_s, seed, arrivals=spacing)
    assert [arrival.number for arrival in found] == list(range(200))
    assert all(earlier.due_s <= later.due_s for earlier, later in pairwise(found))


def test_a_rate_of_its_own_counts_against_the_total() -> None:
    """20 a second in all: 5 and 1 of their own, and the weights divide the other 14."""
    found = until(100, THREE_STREAMS, 20)
    counted = Counter(arrival.scenario for arrival in found)
    assert len(found) == pytest.approx(2000, abs=3)
    assert (counted["get"], counted["upload"]) == (500, 100)
    assert counted["chunked"] == pytest.approx(600, rel=0.1)
    assert [each.due_s for each in found if each.scenario == "get"] == pytest.approx([n / 5 for n in range(500)])
    halved = Counter(arrival.scenario for arrival in until(100, THREE_STREAMS, 10))
    assert (halved["get"], halved["upload"]) == (250, 50)


def test_the_shares_are_those_of_the_mix() -> None:
    found = first(20_000)
    counted = Counter(arrival.scenario for arrival in found)
    for name, share in MIX.scenarios.items():
        assert counted[name] / 20_000 == pytest.approx(share.weight / 100, abs=0.01)
    offered_bytes = sum(arrival.size_bytes * arrival.requests for arrival in found)
    assert offered_bytes * 8 / (20_000 / 60) == pytest.approx(20e6, rel=0.15)


def test_sizes_and_requests_are_those_of_the_share() -> None:
    for arrival in first(2000):
        share = MIX.scenarios[arrival.scenario]
        assert arrival.size_bytes in share.sizes_bytes
        assert arrival.requests == share.requests


def thought_s(think_ms: object) -> list[float]:
    return [arrival.think_s for arrival in first(500, mix_of(10, {"get": {"weight": 1, "think_ms": think_ms}}))]


def test_think_times_are_one_of_those_named() -> None:
    assert set(thought_s(250)) == {0.25}
    assert set(thought_s([0, 20, 1500])) == {0, 0.02, 1.5}


@given(st.floats(0, 60_000), st.floats(0, 60_000))
def test_think_times_are_within_the_range(one_ms: float, other_ms: float) -> None:
    low_ms, high_ms = sorted((one_ms, other_ms))
    found = thought_s({"from_ms": low_ms, "to_ms": high_ms})
    assert low_ms / 1000 <= min(found) <= max(found) <= high_ms / 1000
    assert max(found) - min(found) >= 0.9 * (high_ms - low_ms) / 1000


@pytest.mark.parametrize("mix", [MIX, THREE_STREAMS])
def test_no_two_transactions_carry_the_same_bytes(mix: Mix) -> None:
    seeds = [arrival.seed + part for arrival in first(20_000, mix) for part in range(arrival.requests)]
    assert len(set(seeds)) == len(seeds)
