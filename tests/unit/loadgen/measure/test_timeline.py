"""The row of buckets: as much memory at the end as at the start, and nothing lost when neighbours are merged."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.measure.timeline import BUCKETS, Timeline
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase


def test_everything_of_a_bucket() -> None:
    timeline = Timeline(duration_s=30.0)
    timeline.ended(0.1, Outcome.OK, 0.05)
    timeline.ended(2.0, Outcome.RESET, 0.5)
    timeline.ended(2.1, Outcome.ABORTED, None)
    timeline.stalled(2.2, Phase.BODY)
    timeline.look(2.3, stalled=3, in_flight=7, lag_s=0.004)
    timeline.look(2.4, stalled=1, in_flight=9, lag_s=0.002)
    found = timeline.document()
    assert found["bucket_s"] == 0.5
    assert [len(found["outcomes"][outcome]) for outcome in Outcome] == [5] * len(Outcome)
    assert found["outcomes"]["ok"] == [1, 0, 0, 0, 0]
    assert found["outcomes"]["reset"] == found["outcomes"]["aborted"] == [0, 0, 0, 0, 1]
    assert found["stalls"] == {"body": [0, 0, 0, 0, 1]}
    assert (found["stalled_now"][4], found["in_flight"][4], found["lag_ms"][4]) == (3, 9, 4.0)
    assert found["latency_ms"]["max"] == [50.0, None, None, None, 500.0]


def test_percentiles_are_never_told_too_low() -> None:
    timeline = Timeline(duration_s=10.0)
    for number in range(1, 101):
        timeline.ended(0.0, Outcome.OK, number / 100)
    found = timeline.document()["latency_ms"]
    assert 500 <= found["p50"][0] <= 500 * 1.06
    assert 990 <= found["p99"][0] <= 1000
    assert found["max"] == [1000.0]


@pytest.mark.parametrize("last_s", [10, 1000, 100_000])
def test_a_long_run_has_no_more_buckets(last_s: int) -> None:
    timeline = Timeline(duration_s=None)
    for at_s in range(0, last_s, max(last_s // 1000, 1)):
        timeline.ended(at_s, Outcome.OK, 0.1)
    timeline.ended(last_s, Outcome.OK, 0.1)
    found = timeline.document()
    assert len(found["outcomes"]["ok"]) <= BUCKETS
    assert sum(found["outcomes"]["ok"]) == len(range(0, last_s, max(last_s // 1000, 1))) + 1
    assert found["bucket_s"] * len(found["outcomes"]["ok"]) >= last_s


@given(st.lists(st.tuples(st.floats(0, 5000), st.sampled_from(Outcome), st.floats(0, 100)), max_size=50))
def test_merging_loses_nothing(ended: list[tuple[float, Outcome, float]]) -> None:
    timeline = Timeline(duration_s=None)
    for at_s, outcome, latency_s in ended:
        timeline.ended(at_s, outcome, latency_s)
    found = timeline.document()
    for outcome in Outcome:
        assert sum(found["outcomes"][outcome]) == sum(outcome is other for _, other, _ in ended)
    slowest = max((latency_s for _, _, latency_s in ended), default=0.0)
    assert max((value for value in found["latency_ms"]["max"] if value is not None), default=0) == pytest.approx(
        slowest * 1000, abs=0.001
    )


def test_memory_does_not_grow() -> None:
    timeline = Timeline(duration_s=600.0)
    tracemalloc.start()
    try:
        for number in range(60_000):
            timeline.ended(number / 100, Outcome.OK, 0.1)
        grown_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown_bytes < 100_000
