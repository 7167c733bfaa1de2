"""The verdict: what passes, what fails, what is nobody's proof; and the document that other programs read."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from loadgen.compare.reading import Report
from loadgen.measure.anomalies import Anomalies
from loadgen.measure.drain import Drain
from loadgen.measure.ledger import Imbalance
from loadgen.measure.metrics import SoakMetrics
from loadgen.measure.observe import Ledger, Resources
from loadgen.measure.tally import Tally
from loadgen.measure.windows import FaultRecord
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Limits, Phase
from loadgen.transaction.transaction import Arrival, Transaction, Window
from loadgen.verdict import verdict as verdict_module
from loadgen.verdict.document import document as document_of
from loadgen.verdict.document import timeline
from loadgen.verdict.thresholds import Threshold, defaults, parse, with_defaults
from loadgen.verdict.verdict import Programs, Result, Run, Verdict

RUN = Run("2026-01-01T00-00-00Z", 1, "abc", "local", {"client": "aioquic"}, datetime(2026, 1, 1, tzinfo=UTC), 10.0)
DRAINED = Drain(seconds=0.4)


@dataclass
class Story:
    """A tally that is told what happened."""

    tally: Tally
    now_s: float = 0.0

    def begins(self, scenario: str, lag_s: float = 0.0) -> Transaction:
        arrival = Arrival(number=0, due_s=0.0, scenario=scenario, seed=1, size_bytes=1)
        window = self.tally.window_of(self.now_s)
        transaction = Transaction(arrival, Limits.default(), self.tally, self.now_s, lambda: self.now_s, window)
        self.tally.scheduled(arrival)
        self.tally.started(arrival, lag_s)
        return transaction

    def ends(self, scenario: str, outcome: Outcome = Outcome.OK, latency_s: float = 0.05, lag_s: float = 0.0) -> None:
        transaction = self.begins(scenario, lag_s)
        self.now_s += latency_s
        self.tally.ended(transaction, outcome, "as told")

    def dropped(self, scenario: str) -> None:
        arrival = Arrival(number=0, due_s=0.0, scenario=scenario, seed=1, size_bytes=1)
        self.tally.scheduled(arrival)
        self.tally.dropped(arrival)


@pytest.fixture
def story(tmp_path: Path) -> Iterable[Story]:
    names = ("get", "upload")
    with Anomalies(tmp_path / "anomalies.jsonl") as anomalies:
        tally = Tally(names, SoakMetrics(CollectorRegistry(), names), anomalies)
        tally.load_begins(0.0)
        yield Story(tally)


def result(
    story: Story,
    thresholds: Iterable[Threshold] = (),
    drain: Drain = DRAINED,
    ends: Ledger | None = None,
    programs: Programs | None = None,
    **further: Any,
) -> Result:
    held_to = with_defaults(thresholds, faults=story.tally.windows.are_planned)
    return Result(RUN, story.tally, drain, programs or Programs(ends=ends or {}), held_to, **further)


def test_pass(story: Story) -> None:
    for _ in range(10):
        story.ends("get")
        story.ends("upload")
    judged = result(story)
    assert (judged.verdict, judged.reasons) == (Verdict.PASS, [])
    assert all(threshold.ok for threshold in judged.judged)


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.OK])
def test_any_other_outcome_fails(story: Story, outcome: Outcome) -> None:
    story.ends("get")
    story.ends("upload")
    story.ends("get", outcome)
    judged = result(story)
    assert judged.verdict is Verdict.FAIL
    assert judged.reasons == [f"outcome.{outcome} == 0: was 1"]


def test_a_drain_that_is_not_complete_fails(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    story.tally.run_timed_out(Phase.DRAIN)
    judged = result(
        story, drain=Drain(30.0, ({"program": "proxy-server", "what": "tunnel_streams_active", "value": 1},))
    )
    assert judged.verdict is Verdict.FAIL
    assert judged.reasons == ["timeouts.drain == 0: was 1", "drain.pending == 0: was 1"]


def test_what_was_asked_for(story: Story) -> None:
    story.ends("get", latency_s=0.2)
    story.ends("upload", latency_s=0.4)
    assert result(story, [parse("latency.get.max < 210ms"), parse("latency.p50 <= 205ms")]).verdict is Verdict.PASS
    slow = result(story, [parse("latency.max < 300ms")])
    assert slow.verdict is Verdict.FAIL
    assert "latency.max < 300ms: was 0.4" in slow.reasons[0]


def test_a_tolerated_failure_passes(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    story.ends("get", Outcome.RESET)
    assert result(story, [parse("outcome.reset <= 1")]).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("happened", "reason"),
    [
        (lambda story: None, "nothing was measured"),
        (lambda story: story.ends("get"), "never completed, though asked for: upload"),
        (
            lambda story: (story.ends("get"), story.ends("upload"), story.dropped("get")),
            "1 transactions were not started",
        ),
    ],
)
def test_inconclusive(story: Story, happened: Callable[[Story], None], reason: str) -> None:
    happened(story)
    judged = result(story)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert reason in judged.reasons[0]


def test_a_threshold_on_what_is_not_known_is_inconclusive(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    assert result(story, [parse("rescued == 0")]).verdict is Verdict.INCONCLUSIVE
    ledger = {"proxy-client": {"target_to_client": {"received": 2, "forwarded": 2, "confirmed": 2, "rescued": 0}}}
    assert result(story, [parse("rescued == 0")], ends=ledger).verdict is Verdict.PASS
    ledger["proxy-client"]["target_to_client"]["rescued"] = 1
    assert result(story, [parse("rescued == 0")], ends=ledger).verdict is Verdict.FAIL


def saturate(story: Story) -> None:
    for number in range(100):
        story.ends("get" if number % 2 else "upload", lag_s=0.5 if number < 3 else 0.0)


def test_a_saturated_generator_proves_nothing_about_speed(story: Story) -> None:
    saturate(story)
    story.ends("get", Outcome.TIMEOUT)
    judged = result(story)
    assert judged.saturated
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "the generator was saturated" in judged.reasons[0]
    assert judged.reasons[1:] == ["outcome.timeout == 0: was 1"]


def test_a_saturated_generator_does_not_excuse_wrong_bytes(story: Story) -> None:
    saturate(story)
    story.ends("get", Outcome.CORRUPT)
    assert result(story).verdict is Verdict.FAIL


def test_a_late_start_now_and_then_is_no_saturation(story: Story) -> None:
    for number in range(1000):
        story.ends("get" if number % 2 else "upload", lag_s=0.5 if number < 5 else 0.0)
    judged = result(story)
    assert not judged.saturated
    assert judged.verdict is Verdict.PASS


def with_fault(story: Story, **happened: float | None) -> FaultRecord:
    fault = FaultRecord("hole", "blackhole", None, recovery_s=5.0, **happened)  # type: ignore[arg-type]
    story.tally.windows.plan([fault])
    return fault


def test_failures_in_a_fault_window_are_excused(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    fault = with_fault(story, from_s=0.0)
    story.ends("get", Outcome.RESET)
    fault.to_s = story.now_s
    story.ends("get", Outcome.TIMEOUT)
    story.now_s += 5.0
    story.ends("get")
    judged = result(story, [parse("late == 0")])
    assert (judged.verdict, judged.reasons) == (Verdict.PASS, [])
    windows = {window: dict(+count.outcomes) for window, count in judged.tally.by_window.items()}
    assert windows == {"quiet": {"ok": 3}, "fault": {"reset": 1}, "recovery": {"timeout": 1}}


@pytest.mark.parametrize("outcome", [Outcome.CORRUPT, Outcome.EXCESS, Outcome.EOF_PREMATURE])
def test_what_no_fault_excuses(story: Story, outcome: Outcome) -> None:
    story.ends("get")
    story.ends("upload")
    with_fault(story, from_s=0.0)
    story.ends("get", outcome)
    story.tally.windows.healed("hole", story.now_s)
    assert f"outcome.{outcome} == 0: was 1" in result(story).reasons
    assert result(story).verdict is Verdict.FAIL


def test_a_failure_that_comes_after_every_recovery_is_not_excused(story: Story) -> None:
    """The founding bug under a fault: what was due in its time hangs, and ends long after all is well again."""
    with_fault(story, from_s=0.0)
    late, in_time = story.begins("get"), story.begins("get")
    story.tally.windows.healed("hole", 1.0)
    story.now_s = 5.9
    story.tally.ended(in_time, Outcome.TIMEOUT, "as told")
    story.now_s = 6.1
    story.tally.ended(late, Outcome.EOF_MISSING, "as told")
    story.ends("get")
    story.ends("upload")
    judged = result(story)
    assert (judged.verdict, judged.reasons) == (Verdict.FAIL, ["late == 0: was 1"])


def test_another_fault_does_not_excuse_what_the_first_one_left_hanging(story: Story) -> None:
    windows = story.tally.windows
    windows.plan([FaultRecord(name, "loss", None, recovery_s=5.0) for name in ("first", "second")])
    windows.began("first", 0.0)
    hung = story.begins("get")
    windows.healed("first", 1.0)
    story.now_s = 15.0
    windows.began("second", 15.0)
    of_second = story.begins("get")
    story.now_s = 16.0
    story.tally.ended(of_second, Outcome.TIMEOUT, "as told")
    assert story.tally.late == 0
    story.tally.ended(hung, Outcome.TIMEOUT, "as told")
    assert story.tally.late == 1


def test_a_drain_that_nobody_observed_meets_no_threshold_that_was_asked_for(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    unseen = Drain(0.1, observed=False)
    assert result(story, drain=unseen).verdict is Verdict.PASS
    judged = result(story, [parse("drain.pending == 0")], drain=unseen)
    assert judged.reasons == ["drain.pending == 0: nothing was measured"]


def test_a_failure_in_quiet_time_is_not_excused_by_a_fault_elsewhere(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    with_fault(story, from_s=0.0, to_s=0.05)
    story.ends("get", Outcome.RESET)
    story.now_s += 5.0
    story.ends("get", Outcome.RESET)
    assert "quiet.outcome.reset == 0: was 1" in result(story).reasons
    assert result(story).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("happened", "error", "verdict", "reason"),
    [
        ({}, None, Verdict.INCONCLUSIVE, "fault hole never happened"),
        ({"from_s": 0.0, "to_s": 1.0}, "no link", Verdict.INCONCLUSIVE, "fault hole could not be done: no link"),
        ({"from_s": 0.0, "to_s": 1.0}, None, Verdict.INCONCLUSIVE, "fault hole touched no transaction"),
        ({"from_s": 0.0}, "not ready", Verdict.FAIL, "fault hole did not heal: not ready"),
        ({"from_s": 0.0}, None, Verdict.FAIL, "fault hole did not heal: nobody said that it had"),
    ],
)
def test_a_fault_that_did_not_go_as_planned(
    story: Story, happened: dict[str, float], error: str | None, verdict: Verdict, reason: str
) -> None:
    story.ends("get")
    story.ends("upload")
    fault = with_fault(story, **happened)
    fault.errors += [error] if error else []
    judged = result(story)
    assert judged.verdict is verdict
    assert reason in judged.reasons


def test_a_run_without_quiet_time_behind_its_last_fault_proves_nothing(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    with_fault(story)
    story.tally.windows.began("hole", story.now_s)
    story.ends("get")
    story.tally.windows.healed("hole", story.now_s)
    judged = result(story)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "there was no quiet time behind the last fault" in judged.reasons[0]
    story.now_s += 5.1
    story.ends("get")
    assert result(story).verdict is Verdict.PASS


def test_an_interrupted_run_does_not_blame_anybody_for_the_fault_that_was_open(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    with_fault(story, from_s=0.0)
    judged = result(story, interrupted=True)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "fault hole was open when the run was interrupted" in judged.reasons


def test_a_program_that_misbehaves_under_a_fault_fails(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    fault = with_fault(story, from_s=0.0, to_s=1.0)
    fault.misbehaved.append("its drain did not end")
    judged = result(story)
    assert judged.verdict is Verdict.FAIL
    assert judged.reasons == ["fault hole: its drain did not end"]
    assert document_of(judged)["faults"][0]["error"] == "its drain did not end"


def test_a_program_that_was_restarted_by_nobody_fails(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    judged = result(story, programs=Programs(restarted=frozenset({"proxy-client"})))
    assert judged.reasons == ["proxy-client was restarted, and no fault did that"]
    assert judged.verdict is Verdict.FAIL
    fault = FaultRecord("kill", "kill", "proxy-client", 0.0, from_s=0.0, to_s=0.0, touched=1)
    story.tally.windows.plan([fault])
    story.ends("get")
    assert result(story, programs=Programs(restarted=frozenset({"proxy-client"}))).verdict is Verdict.PASS
    fault.kind = "pause"
    assert result(story, programs=Programs(restarted=frozenset({"proxy-client"}))).verdict is Verdict.FAIL


def test_faults_that_nobody_told_of_prove_nothing(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    judged = result(story, faults_expected=True)
    assert (judged.verdict, judged.reasons) == (Verdict.INCONCLUSIVE, ["nobody said which faults there were"])


def test_what_was_asked_for_is_not_left_out_where_the_default_is(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    for expression in ("ledger.imbalances == 0", "fault.failed == 0", "recovery.outcome.reset == 0"):
        judged = result(story, [parse(expression)])
        assert judged.verdict is Verdict.INCONCLUSIVE
        assert judged.reasons == [f"{expression}: nothing was measured"]


def test_a_ledger_that_cannot_be_judged_is_neither_balanced_nor_not(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    ends = {"proxy-client": {"target_to_client": {"received": 9, "forwarded": 9, "confirmed": 2, "rescued": 0}}}
    judged = result(story, programs=Programs(ends=ends, unjudged=frozenset(ends)))
    assert judged.verdict is Verdict.PASS
    assert document_of(judged)["ledger"] == {"balanced": None, "unjudged": ["proxy-client"], "imbalances": []}
    assert result(story, ends=ends).verdict is Verdict.FAIL


def test_a_threshold_on_a_phase_that_never_happened_is_inconclusive(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    judged = result(story, [parse("stalls.eof_wait == 0")])
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.reasons == ["stalls.eof_wait == 0: phase eof_wait never happened"]
    story.tally.phase_ended(Phase.EOF_WAIT, 0.1)
    assert result(story, [parse("stalls.eof_wait == 0")]).verdict is Verdict.PASS


def test_what_is_not_supported_is_no_failure_unless_it_was_asked_for(story: Story) -> None:
    story.ends("get")
    story.ends("upload")
    lacks = {"eof_gated": "half-close is treated as a full close"}
    assert result(story, unsupported=lacks).verdict is Verdict.PASS
    judged = result(story, unsupported=lacks, asked_for=frozenset({"eof_gated"}))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.reasons == ["eof_gated was asked for, and is not supported: half-close is treated as a full close"]


def test_a_run_that_could_not_begin_says_why(story: Story) -> None:
    judged = result(story, fatal="the proxy does not let us in")
    assert (judged.verdict, judged.reasons) == (Verdict.INCONCLUSIVE, ["the proxy does not let us in"])


def test_an_unbalanced_ledger_fails_and_names_the_hop(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Imbalance("target_to_client", "proxy-server", "forwarded", "received", 3, 0, "3 ends were lost on the way")
    monkeypatch.setattr(verdict_module, "diagnose", lambda ends, restarted: (lost,))
    story.ends("get")
    story.ends("upload")
    assert result(story).verdict is Verdict.PASS, "nobody keeps a ledger"
    judged = result(story, ends={"proxy-client": {}, "proxy-server": {}})
    assert judged.verdict is Verdict.FAIL
    assert judged.reasons == ["ledger.imbalances == 0: was 1", "3 ends were lost on the way"]
    assert document_of(judged)["ledger"]["imbalances"][0]["missing"] == 3


def test_the_timeline_stands_at_the_scheduled_start(story: Story) -> None:
    story.ends("get", latency_s=0.2)
    story.now_s = 3.0
    story.ends("get", Outcome.EOF_MISSING, latency_s=10.0)
    found = timeline(result(story), {})
    bucket = int(3.0 / found["bucket_s"])
    assert found["outcomes"]["eof_missing"][bucket] == sum(found["outcomes"]["eof_missing"]) == 1
    assert found["latency_ms"]["p50"][0] == pytest.approx(200, rel=0.06)
    assert found["latency_ms"]["p50"][1] is None


def test_windows_are_those_of_the_transactions(story: Story) -> None:
    with_fault(story, from_s=0.0)
    assert story.begins("get").window is Window.FAULT


def test_exit_codes() -> None:
    assert {verdict: verdict.exit_code for verdict in Verdict} == {"pass": 0, "fail": 1, "inconclusive": 3}


def test_the_document(story: Story) -> None:
    """Every field of DESIGN section 7, and nothing else."""
    story.ends("get", latency_s=0.1)
    story.ends("upload", Outcome.EOF_MISSING, latency_s=10.0)
    story.dropped("get")
    ends = {"proxy-client": {"client_to_target": {"received": 4, "forwarded": 4, "confirmed": 4, "rescued": 0}}}
    first = {"loadgen": Resources(1000, 10)}
    last = {"loadgen": Resources(2000, 11), "link": Resources()}
    judged = Result(RUN, story.tally, DRAINED, Programs(first, last, ends), defaults(), {"eof_gated": "half-close"})
    document = json.loads(json.dumps(document_of(judged)))
    assert Report.model_validate(document).windows is not None, "loadgen compare reads it"

    assert list(document) == [
        "schema", "verdict", "reasons", "run", "totals", "offered_per_s", "outcomes", "scenarios", "unsupported",
        "phases", "stalls", "timeouts", "windows", "late", "faults", "ends", "ledger", "drain", "generator",
        "thresholds", "resources",
    ]  # fmt: skip
    assert document["schema"] == 1
    assert document["verdict"] == "fail"
    assert document["run"] == {
        "id": "2026-01-01T00-00-00Z",
        "seed": 1,
        "revision": "abc",
        "stack": "local",
        "engine": {"client": "aioquic", "server": "unknown"},
        "started_at": "2026-01-01T00:00:00+00:00",
        "duration_s": 10.0,
        "mix": "unknown",
        "arrivals": "constant",
        "rate_per_s": 0.0,
        "link": None,
        "command": None,
        "interrupted": False,
    }
    assert document["unsupported"] == {"eof_gated": "half-close"}
    assert document["totals"] == {"scheduled": 3, "started": 2, "dropped": 1, "completed": 2}
    assert document["offered_per_s"] == 0.3
    assert document["outcomes"].keys() == set(Outcome)
    assert document["outcomes"]["eof_missing"] == 1
    assert document["scenarios"]["get"]["latency_ms"] == pytest.approx(
        {"p50": 100, "p90": 100, "p99": 100, "max": 100}, rel=0.01
    )
    assert document["scenarios"]["upload"]["outcomes"]["eof_missing"] == 1
    assert document["stalls"].keys() == document["timeouts"].keys() == set(Phase)
    assert document["stalls"]["body"] == {"count": 0, "recovered": 0, "longest_s": 0.0}
    assert document["phases"].keys() == set(Phase)
    assert document["windows"].keys() == {"quiet", "fault", "recovery"}
    assert document["windows"]["quiet"]["seconds"] == 10.0
    assert document["windows"]["quiet"]["outcomes"]["eof_missing"] == 1
    assert document["windows"]["fault"]["completed"] == 0
    assert document["ends"] == ends
    assert document["drain"] == {"complete": True, "observed": True, "seconds": 0.4, "pending": []}
    assert document["generator"] == {"lag_max_s": 0.0, "lag_p99_s": 0.0, "saturated": False, "blamed": 0}
    assert {"expression": "outcome.eof_missing == 0", "value": 1, "ok": False} in document["thresholds"]
    assert document["faults"] == []
    assert document["resources"]["loadgen"] == {
        "rss_start_bytes": 1000, "rss_end_bytes": 2000, "fds_start": 10, "fds_end": 11,
    }  # fmt: skip
    assert set(document["resources"]["link"].values()) == {None}
