"""When B is worse than A, and when nobody can say."""

from typing import Any

import pytest
from tests.unit.loadgen.compare.documents import document, older, side

from loadgen.compare.judgement import Comparison, Mark, compare
from loadgen.compare.reading import Side
from loadgen.verdict.verdict import Verdict


def marks(comparison: Comparison) -> dict[str, Mark]:
    return {each.name: each.mark for each in comparison.measures}


def with_p50(*values: float) -> Side:
    return side(*(document(p50=value, p99=200) for value in values))


def test_alike() -> None:
    comparison = compare(side(document()), side(document()))
    assert (comparison.verdict, comparison.reasons) == (Verdict.PASS, ())
    assert set(marks(comparison).values()) == {Mark.SAME, Mark.NOT_JUDGED}


def test_one_failure_that_a_does_not_have_is_enough() -> None:
    clean, broken = document(), document(completed=100_000, outcomes={"eof_missing": 1})
    comparison = compare(side(clean, clean, clean), side(clean, broken, clean))
    assert comparison.verdict is Verdict.FAIL
    assert comparison.reasons == ("outcome.eof_missing: none -> up to 0.01 per 1,000",)
    assert marks(compare(side(broken), side(clean)))["outcome.eof_missing"] is Mark.BETTER
    assert compare(side(broken), side(clean)).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("what", "found"), [("stalls", {"stalls": {"body": 1}}), ("timeouts", {"timeouts": {"body": 1}})]
)
def test_stalls_and_timeouts_likewise(what: str, found: dict[str, Any]) -> None:
    assert compare(side(document()), side(document(**found))).reasons == (f"{what}.body: none -> up to 1 per 1,000",)


@pytest.mark.parametrize(("of_b", "worse"), [(20, False), (25, False), (26, True), (10, False)])
def test_failures_that_both_have_are_compared_by_the_tolerance(of_b: int, worse: bool) -> None:
    """Per 1,000: B ran twice as long."""
    a = side(document(outcomes={"reset": 20}))
    b = side(document(outcomes={"reset": 2 * of_b}, completed=2000))
    assert (marks(compare(a, b))["outcome.reset"] is Mark.WORSE) is worse


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("drain.pending", {"drain": {"seconds": 30.0, "pending": [{}]}}),
        ("ledger.imbalances", {"ledger": {"imbalances": [{}]}}),
    ],
)
def test_what_is_left_over_is_counted(name: str, field: dict[str, Any]) -> None:
    assert f"{name}: none -> up to 1" in compare(side(document()), side(document(**field))).reasons
    assert compare(side(document(**field)), side(document(**field))).verdict is Verdict.PASS


def test_few_failures_more_are_none() -> None:
    a, b = (side(document(outcomes={"reset": count})) for count in (1, 2))
    assert compare(a, b).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("of_a", "of_b", "tolerance", "mark"),
    [
        ([50], [62], 1.25, Mark.SAME),
        ([50], [63], 1.25, Mark.WORSE),
        ([50], [63], 1.5, Mark.SAME),
        ([63], [50], 1.25, Mark.BETTER),
        ([1], [2], 1.25, Mark.SAME),  # below the floor
        ([1], [5.9], 1.25, Mark.SAME),
        ([1], [6.1], 1.25, Mark.WORSE),
        ([50, 51, 80], [79, 90, 95], 1.25, Mark.SAME),  # the ranges overlap
        ([50, 51, 78], [79, 90, 95], 1.25, Mark.WORSE),
        ([50, 51, 78], [90], 1.25, Mark.WORSE),
        ([50, 60, 70], [71, 72, 73], 1.25, Mark.SAME),  # they do not, but the medians are within the tolerance
    ],
)
def test_latencies(of_a: list[float], of_b: list[float], tolerance: float, mark: Mark) -> None:
    comparison = compare(with_p50(*of_a), with_p50(*of_b), tolerance)
    assert {marks(comparison)[name] for name in ("latency.p50", "latency.get.p50", "latency.upload.p50")} == {mark}
    assert comparison.verdict is (Verdict.FAIL if mark is Mark.WORSE else Verdict.PASS)


def test_a_reason_has_both_medians_and_their_ratio() -> None:
    assert "latency.p50: 50 -> 80 ms, 1.60 times" in compare(with_p50(50), with_p50(80)).reasons


@pytest.mark.parametrize(
    ("of_a", "of_b", "worse"), [(-1, 7, False), (-1, 8, True), (-10, -1, False), (0, 9, True), (40, 47, False)]
)
def test_memory_grows(of_a: float, of_b: float, worse: bool) -> None:
    """Also where there was no growth, of which there is no ratio."""
    a, b = (side(document(rss_growth_mb=growth)) for growth in (of_a, of_b))
    assert (marks(compare(a, b))["memory.proxy-client"] is Mark.WORSE) is worse


def test_growth_is_not_judged_where_one_ran_longer() -> None:
    comparison = compare(side(document()), side(document(rss_growth_mb=100, run={"duration_s": 60.0})))
    assert marks(comparison)["memory.proxy-client"] is Mark.NOT_JUDGED
    assert comparison.verdict is Verdict.PASS
    assert any("did not last equally long" in note for note in comparison.notes)


def test_a_single_run_each_is_said() -> None:
    one, two = side(document()), side(document(), document())
    assert "a single run each" in compare(one, one).notes[0]
    assert compare(two, two).notes == compare(one, two).notes == ()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"run": {"stack": "compose"}}, "another stack: A local, B compose"),
        ({"run": {"mix": "default"}}, "another mix: A small, B default"),
        ({"run": {"arrivals": "poisson"}}, "another pattern of arrivals: A constant, B poisson"),
        ({"run": {"rate_per_s": 21.0}}, "another rate: A 20/s, B 21/s"),
        ({"scenarios": ("get",)}, "another set of scenarios: A get, upload, B get"),
        ({"unsupported": {"upload": "says no"}}, "another set of scenarios: A get, upload, B get"),
        (
            {"faults": [{"name": "1 kill", "kind": "kill", "program": "proxy-server"}]},
            "another plan of faults: A none, B kill proxy-server",
        ),
        ({"verdict": "inconclusive"}, "B: run r is inconclusive"),
        ({"saturated": True}, "B: the generator of run r was saturated"),
    ],
)
def test_what_cannot_be_compared_is_named(changed: dict[str, Any], named: str) -> None:
    comparison = compare(side(document()), side(document(**changed, p50=500)))
    assert comparison.verdict is Verdict.INCONCLUSIVE
    assert comparison.reasons[0] == named
    assert any(reason.startswith("latency.p50") for reason in comparison.reasons)


def test_runs_of_one_side_have_to_be_the_same_too() -> None:
    mixed = side(document(), document(run={"mix": "default"}))
    assert compare(mixed, side(document())).reasons == ("another mix: A default and small, B small",)


def test_an_unfinished_run() -> None:
    a = side(document())
    b = Side(a.path, a.runs, (a.path / "2",))
    assert compare(a, b).reasons == ("B: somewhere/2 has no verdict: that run did not end by itself",)


def test_older_documents_are_compared_in_what_they_have() -> None:
    comparison = compare(side(older(document())), side(document(p50=500)))
    assert comparison.verdict is Verdict.FAIL
    assert marks(comparison)["latency.p50"] is Mark.NOT_JUDGED
    assert marks(comparison)["latency.get.p50"] is Mark.WORSE
    assert "an older report does not say which mix it had" in comparison.notes
    assert "not known of A: latency.p50, latency.p99" in comparison.notes


@pytest.mark.parametrize(("offered_per_s", "verdict"), [(21.5, Verdict.PASS), (25.0, Verdict.INCONCLUSIVE)])
def test_older_documents_are_of_the_same_rate_if_about_as_much_was_offered(
    offered_per_s: float, verdict: Verdict
) -> None:
    assert compare(side(older(document())), side(document(offered_per_s=offered_per_s))).verdict is verdict


def test_a_phase_that_an_older_document_does_not_know() -> None:
    without = document()
    del without["stalls"]["ttfb"]
    assert compare(side(without), side(document(stalls={"ttfb": 3}))).verdict is Verdict.FAIL


def test_a_run_that_failed_where_none_did_before() -> None:
    failed = document(verdict="fail", reasons=["latency.p99 < 90ms: was 0.1"], run={"id": "s"})
    comparison = compare(side(document(), document()), side(document(), failed))
    assert comparison.verdict is Verdict.FAIL
    assert comparison.reasons == ("B: run s failed, and none of A did: latency.p99 < 90ms: was 0.1",)


def test_failed_runs_can_be_compared() -> None:
    failed = document(verdict="fail", outcomes={"reset": 5})
    comparison = compare(side(failed), side(failed, failed))
    assert comparison.verdict is Verdict.PASS
    assert comparison.notes[-1] == "B: 2 of 2 runs failed by their own thresholds"
