"""Samples to results, and results to the file and back."""

import json

import pytest
from bench.results import Failure, Result, Run, Samples, rotated


@pytest.fixture
def samples() -> Samples:
    made = Samples()
    for number, speed in enumerate((300.0, 100.0, 110.0)):
        made.figures["download", "ours"][number] = {"mbit_per_s": speed}
    made.figures["download", "theirs"][1] = {"mbit_per_s": 55.0}
    made.reasons["download", "theirs"] += ["no route", "ended with 1: out of memory"]
    return made


def test_a_result_is_the_median_with_the_lowest_and_the_highest(samples: Samples) -> None:
    ours, theirs = samples.results()

    assert ours == Result("download", "ours", "mbit_per_s", 110.0, 100.0, 300.0)
    assert theirs == Result("download", "theirs", "mbit_per_s", 55.0, 55.0, 55.0)


def test_who_fails_is_kept_with_the_last_reason(samples: Samples) -> None:
    assert samples.failures() == [Failure("download", "theirs", "ended with 1: out of memory", 2)]


def test_what_is_added_is_the_difference_to_direct_of_the_same_round() -> None:
    samples = Samples()
    for number, (direct_ms, tunnel_ms) in enumerate(((1.0, 1.5), (5.0, 5.75), (2.0, 3.0))):
        samples.figures["keep-alive", "direct"][number] = {"p50_ms": direct_ms, "max_ms": 9.0}
        samples.figures["keep-alive", "tunnel"][number] = {"p50_ms": tunnel_ms, "max_ms": 9.0}
    samples.figures["keep-alive", "tunnel"][3] = {"p50_ms": 99.0, "max_ms": 9.0}  # direct failed in that round

    added = Run(samples.results(), [], {}).find("keep-alive", "tunnel", "added_p50_ms")

    assert added == Result("keep-alive", "tunnel", "added_p50_ms", 0.75, 0.5, 1.0)
    assert not any(result.metric == "added_max_ms" for result in samples.results())


def test_nothing_is_added_where_nobody_asked_for_it() -> None:
    samples = Samples()
    for contender in ("direct", "tunnel"):
        samples.figures["new-connections-16", contender][0] = {"p50_ms": 1.0}

    assert {result.metric for result in samples.results()} == {"p50_ms"}


def test_a_run_comes_back_from_its_file(samples: Samples) -> None:
    run = Run(samples.results(), samples.failures(), {"commit": "abc", "rounds": 3})

    document = json.loads(json.dumps(run.document()))

    assert Run.from_document(document) == run
    assert set(document["results"][0]) == {"work", "contender", "metric", "median", "min", "max"}
    assert document["commit"] == "abc"


def test_figures_in_the_file_have_four_digits() -> None:
    run = Run([Result("download", "ours", "mbit_per_s", 1234.5678, 0.00123456, 20000.4)], [], {})

    (written,) = run.document()["results"]

    assert (written["median"], written["min"], written["max"]) == (1235, 0.001235, 20000)


def test_a_ratio_takes_both(samples: Samples) -> None:
    run = Run(samples.results(), [], {})

    assert run.ratio("download", "mbit_per_s", "ours", "theirs") == 2.0
    assert run.ratio("download", "mbit_per_s", "ours", "nobody") is None
    assert run.ratio("upload", "mbit_per_s", "ours", "theirs") is None


def test_whoever_was_first_comes_last_in_the_next_round() -> None:
    rounds = [rotated("abc", number) for number in range(4)]

    assert rounds == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
    assert rotated("", 2) == []
