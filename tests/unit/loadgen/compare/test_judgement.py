"""When B is worse than A, and when nobody can say."""

from typing import Any

import pytest
from tests.unit.loadgen.compare.documents import document, older, side, under_faults

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


@pytest.mark.parametrize("what", ["stalls", "timeouts"])
@pytest.mark.parametrize(
    ("of_a", "of_b", "worse"),
    [
        ([0], [1], False),  # one proves nothing
        ([0, 0, 0], [0, 1, 0], False),
        ([0], [6], True),
        ([0, 0, 0], [0, 16, 0], True),
        ([0, 0, 0], [1, 1, 0], True),  # in more than one run
        ([0, 0, 0, 0, 0], [1, 1, 0, 0, 0], False),  # but not in most
        ([0, 1, 0], [1, 1, 1], False),
        ([100], [120], False),
        ([100], [130], True),
    ],
)
def test_a_few_stalls_and_timeouts_prove_nothing(what: str, of_a: list[int], of_b: list[int], worse: bool) -> None:
    def of(count: int) -> dict[str, Any]:
        found: dict[str, Any] = {what: {"body": count}}
        return document(**found)

    a, b = (side(*map(of, counts)) for counts in (of_a, of_b))
    assert (marks(compare(a, b))[f"{what}.body"] is Mark.WORSE) is worse


@pytest.mark.parametrize("name", ["corrupt", "excess", "eof_premature", "eof_missing"])
def test_wrong_bytes_and_missing_ends_have_no_floor(name: str) -> None:
    """Nor is a burst in one run of three hidden by a median, nor a single one of A an excuse."""
    one, two, none = (document(completed=100_000, outcomes={name: count}) for count in (1, 2, 0))
    comparison = compare(side(one, none, none), side(two, none, none))
    assert comparison.reasons == (f"outcome.{name}: 0.00333 -> 0.00667 per 1,000, 2.00 times",)
    assert compare(side(one, none), side(none, one)).verdict is Verdict.PASS


def test_a_burst_of_other_failures_is_not_hidden_by_a_median() -> None:
    one, none = document(outcomes={"reset": 1}), document()
    comparison = compare(side(one, none, none), side(document(outcomes={"reset": 30}), none, none))
    assert comparison.reasons == ("outcome.reset: 0.333 -> 10 per 1,000, 30.00 times",)


def test_one_rescued_end_is_the_founding_bug() -> None:
    ends = {"proxy-client": {"client_to_target": {"received": 1, "forwarded": 1, "confirmed": 1, "rescued": 1}}}
    assert compare(side(document()), side(document(ends=ends))).reasons == ("rescued: none -> up to 1 per 1,000",)
    assert compare(side(document(ends=ends)), side(document(ends=ends))).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("totals", "named"),
    [
        ({"scheduled": 1000, "started": 990, "dropped": 10, "completed": 990}, "dropped: none -> up to 10 per 1,000"),
        (
            {"scheduled": 1000, "started": 1000, "dropped": 0, "completed": 500},
            "not_completed: none -> up to 500 per 1,000",
        ),
        ({"scheduled": 1000, "started": 1000, "dropped": 0, "completed": 996}, None),
    ],
)
def test_what_was_offered_and_came_to_nothing(totals: dict[str, int], named: str | None) -> None:
    reasons = compare(side(document()), side(document(totals=totals))).reasons
    assert named in reasons if named else reasons == ()


@pytest.mark.parametrize(("of_a", "of_b", "worse"), [(0, 2, False), (0, 3, True), (10, 12, False), (10, 13, True)])
def test_a_slower_recovery(of_a: int, of_b: int, worse: bool) -> None:
    a, b = (side(document(**under_faults(failures))) for failures in (of_a, of_b))
    assert (marks(compare(a, b))["recovery.failed"] is Mark.WORSE) is worse


@pytest.mark.parametrize(
    ("changed", "untold"),
    [
        ({"ledger": {"balanced": None, "imbalances": []}}, "ledger.imbalances"),
        ({"ends": {}}, "rescued"),
        ({"resources": {}}, "memory.proxy-client, fds.proxy-client"),
        ({"p99": None}, "latency.p99, latency.get.p99, latency.upload.p99"),
    ],
)
def test_what_only_a_tells_cannot_be_compared(changed: dict[str, Any], untold: str) -> None:
    whole = document(ledger={"balanced": True, "imbalances": []})
    b = side(whole, whole | document(**({"ledger": whole["ledger"]} | changed)))
    comparison = compare(side(whole), b)
    assert (comparison.verdict, comparison.reasons) == (Verdict.INCONCLUSIVE, (f"B: run r does not tell {untold}",))
    assert compare(b, side(whole)).verdict is Verdict.PASS
    assert compare(side(whole), side(older(document(**changed)))).verdict is Verdict.PASS


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
        ("ledger.imbalances", {"ledger": {"balanced": False, "imbalances": [{"missing": 1, "given_up": 0}]}}),
    ],
)
def test_what_is_left_over_is_counted(name: str, field: dict[str, Any]) -> None:
    assert f"{name}: none -> up to 1" in compare(side(document()), side(document(**field))).reasons
    assert compare(side(document(**field)), side(document(**field))).verdict is Verdict.PASS


def test_an_imbalance_that_is_explained_is_none() -> None:
    """Streams that were given up are told as failures already."""
    a, b = (
        side(document(ledger={"balanced": True, "imbalances": imbalances}))
        for imbalances in ([], [{"missing": 2, "given_up": 2}])
    )
    assert compare(a, b).verdict is Verdict.PASS


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
        ({"run": {"link": "--loss 0.05"}}, "another link: A none, B --loss 0.05"),
        ({"verdict": "inconclusive"}, "B: run r is inconclusive"),
        ({"saturated": True}, "B: the generator of run r was saturated"),
    ],
)
def test_what_cannot_be_compared_is_named(changed: dict[str, Any], named: str) -> None:
    comparison = compare(side(document()), side(document(**changed, p50=500)))
    assert comparison.verdict is Verdict.INCONCLUSIVE
    assert comparison.reasons[0] == named
    assert any(reason.startswith("latency.p50") for reason in comparison.reasons)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"for_s": 30.0}, "blackhole at 5 s for 30 s, recovery 5 s"),
        ({"at_s": 9.0}, "blackhole at 9 s for 3 s, recovery 5 s"),
        ({"conditions": {"loss": 0.5}}, "blackhole at 5 s for 3 s, recovery 5 s, loss 0.5"),
        ({"recovery_s": 20.0}, "blackhole at 5 s for 3 s, recovery 20 s"),
        ({"at_s": None}, None),
    ],
)
def test_the_same_faults_at_other_times(changed: dict[str, Any], said: str | None) -> None:
    """An older document does not say when."""
    reasons = compare(side(document(**under_faults())), side(document(**under_faults(**changed)))).reasons
    planned = "blackhole at 5 s for 3 s, recovery 5 s"
    assert set(reasons) == ({f"another time of the faults: A {planned}, B {said}"} if said else set())


def test_an_older_document_does_not_say_which_link_it_had() -> None:
    assert compare(side(older(document())), side(document(run={"link": "--loss 0.05"}))).verdict is Verdict.PASS


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
    assert compare(side(without), side(document(stalls={"ttfb": 6}))).verdict is Verdict.FAIL
    assert compare(side(document(stalls={"ttfb": 6})), side(without)).verdict is Verdict.PASS


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
