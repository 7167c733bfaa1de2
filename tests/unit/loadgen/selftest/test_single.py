"""The judgement on one transaction: exact, and a miss for whatever the table does not say."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic

import pytest
from tests.unit.loadgen.conftest import Target
from tests.unit.loadgen.faulty.conftest import Proxies
from tests.unit.loadgen.selftest.bench import bench_of

from loadgen.measure.anomalies import Anomalies
from loadgen.selftest import single
from loadgen.selftest.bench import Bench
from loadgen.selftest.cases import Case
from loadgen.selftest.command import report
from loadgen.selftest.matrix import Row
from loadgen.selftest.recorder import Failure, Recorder, Recovery, Stall
from loadgen.selftest.single import expected, judged, run
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Limits, Phase

SCENARIO = "close_delimited"

TIMES_OUT = Case("silence", (SCENARIO,), Outcome.TIMEOUT, Phase.TTFB, stalls=True)
RECOVERS = Case("body_stall", (SCENARIO,), Outcome.OK, Phase.BODY, stalls=True, recovers_after_s=6.5)
RESETS = Case("reset_mid_body", (SCENARIO,), Outcome.RESET, Phase.BODY)
EOF_SWALLOWED = Case("eof_swallowed", (SCENARIO,), Outcome.EOF_MISSING, Phase.EOF_WAIT, stalls=True)
FINE = Case("none", (SCENARIO,), Outcome.OK, is_control=True)

Report = Callable[[Recorder], None]


@pytest.fixture
async def anomalies(tmp_path: Path) -> AsyncIterator[Anomalies]:
    with Anomalies(tmp_path / "anomalies.jsonl") as file:
        yield file


@pytest.fixture
async def proxies() -> AsyncIterator[Proxies]:
    made = Proxies()
    yield made
    await made.close()


@pytest.fixture
async def bench(target: Target, proxies: Proxies, anomalies: Anomalies) -> Bench:
    """Both programs in this process; only the faults that need no waiting."""
    return bench_of(("none", "byte_flipped", "eof_swallowed"), proxies, target, anomalies)


STRUCK_S = 1000.0


def ended(outcome: Outcome, phase: Phase | None = None, after_s: float = 0.0) -> Report:
    def tell(recorder: Recorder) -> None:
        recorder.scenarios[SCENARIO].outcomes[outcome] += 1
        if outcome is not Outcome.OK:
            recorder.failures.append(Failure(outcome, phase, STRUCK_S + after_s, "the detail"))
        if outcome in (Outcome.TIMEOUT, Outcome.EOF_MISSING) and phase:
            recorder.timeouts[phase] += 1

    return tell


def stalled(phase: Phase, after_s: float) -> Report:
    return lambda recorder: recorder.onsets.append(Stall(phase, STRUCK_S + after_s))


def recovered(phase: Phase, stalled_s: float) -> Report:
    return lambda recorder: recorder.recoveries.append(Recovery(phase, stalled_s))


def timed_out(phase: Phase) -> Report:
    def tell(recorder: Recorder) -> None:
        recorder.timeouts[phase] += 1

    return tell


def blamed(recorder: Recorder) -> None:
    recorder.lags_s.append(0.8)


def late_start(recorder: Recorder) -> None:
    recorder.loop_lag(0.3)


def row_of(anomalies: Anomalies, case: Case, reports: Sequence[Report], strikes: Sequence[float] | None = None) -> Row:
    recorder = Recorder((SCENARIO,), anomalies)
    for tell in reports:
        tell(recorder)
    if strikes is None:
        strikes = [] if case.is_control else [STRUCK_S]
    return judged(case, SCENARIO, recorder, strikes)


def misses(anomalies: Anomalies, case: Case, *reports: Report) -> str:
    return "; ".join(row_of(anomalies, case, reports).misses)


OK = ended(Outcome.OK)
SILENT = (ended(Outcome.TIMEOUT, Phase.TTFB, 7.05), stalled(Phase.TTFB, 3.05))
PAUSED = (OK, stalled(Phase.BODY, 5.05), recovered(Phase.BODY, 6.5))
RESET = ended(Outcome.RESET, Phase.BODY)


@pytest.mark.parametrize(
    ("case", "reports"), [(FINE, [OK]), (TIMES_OUT, SILENT), (RECOVERS, PAUSED), (RESETS, [RESET])]
)
async def test_as_expected(anomalies: Anomalies, case: Case, reports: list[Report]) -> None:
    assert misses(anomalies, case, *reports) == ""


@pytest.mark.parametrize(
    ("case", "reports", "says"),
    [
        (FINE, [], "came to nothing"),
        (FINE, [RESET], "came to reset (the detail)"),
        (FINE, [OK, OK], "came to ok, ok"),
        (FINE, [OK, stalled(Phase.TTFB, 3.05)], "stalls of ttfb, not of no phase"),
        (FINE, [OK, timed_out(Phase.BODY)], "timeouts of body, not of no phase"),
        (FINE, [OK, blamed], "held up for 0.80 s"),
        (FINE, [RESET], "the verdict is fail, not pass: ['outcome.reset == 0: was 1']"),
        (RESETS, [OK], "the verdict is pass, not fail: []"),
        (RESETS, [ended(Outcome.CORRUPT, Phase.BODY)], "no reason of the verdict names reset"),
        (RESETS, [OK], "came to ok"),
        (RESETS, [ended(Outcome.RESET, Phase.TTFB)], "failed in ttfb, not in body"),
        (
            RESETS,
            [ended(Outcome.RESET, Phase.BODY, 6.1)],
            "reset was reported 6.10 s after the fault struck",
        ),
        (RESETS, [RESET, stalled(Phase.BODY, 5.05)], "stalls of body"),
        (TIMES_OUT, [SILENT[0]], "stalls of no phase, not of ttfb"),
        (TIMES_OUT, [SILENT[0], stalled(Phase.BODY, 5.05)], "stalls of body, not of ttfb"),
        (TIMES_OUT, [*SILENT, SILENT[1]], "stalls of ttfb, ttfb"),
        (TIMES_OUT, [SILENT[0], stalled(Phase.TTFB, 2.7)], "reported 2.70 s after the fault struck; S is 3 s"),
        (TIMES_OUT, [SILENT[0], stalled(Phase.TTFB, 4.1)], "reported 4.10 s after the fault struck; S is 3 s"),
        (
            TIMES_OUT,
            [ended(Outcome.TIMEOUT, Phase.TTFB, 8.1), SILENT[1]],
            "reported 8.10 s after the fault struck",
        ),
        (TIMES_OUT, [ended(Outcome.TIMEOUT, Phase.TTFB, 6.7), SILENT[1]], "timeout was reported 6.70 s after"),
        (TIMES_OUT, [*SILENT, recovered(Phase.TTFB, 3.1)], "recoveries of ttfb, not of no phase"),
        (RECOVERS, PAUSED[:2], "recoveries of no phase, not of body"),
        (RECOVERS, [*PAUSED[:2], recovered(Phase.BODY, 5.9)], "a stall of 5.90 s was reported"),
        (RECOVERS, [*PAUSED[:2], recovered(Phase.BODY, 7.6)], "a stall of 7.60 s was reported"),
    ],
)
async def test_a_miss(anomalies: Anomalies, case: Case, reports: list[Report], says: str) -> None:
    assert says in misses(anomalies, case, *reports)


async def test_a_fault_that_did_not_strike_is_a_miss(anomalies: Anomalies) -> None:
    row = row_of(anomalies, RESETS, [RESET], strikes=[])
    assert row.misses == ("the fault did not strike", "something was reported before the fault struck")
    assert row_of(anomalies, RESETS, [RESET], [STRUCK_S + 1]).misses == (
        "something was reported before the fault struck",
    )


async def test_the_last_strike_before_a_report_counts(anomalies: Anomalies) -> None:
    """A silent proxy swallows one thing after the other, and at last the end of a client that gives up."""
    strikes = [STRUCK_S - 2, STRUCK_S, STRUCK_S + 7]
    assert row_of(anomalies, TIMES_OUT, SILENT, strikes).misses == ()


async def test_a_busy_machine_excuses_misses_and_makes_none(anomalies: Anomalies) -> None:
    assert row_of(anomalies, FINE, [OK, late_start]).ok
    assert row_of(anomalies, FINE, [OK, blamed]).is_busy
    assert row_of(anomalies, RESETS, [ended(Outcome.RESET, Phase.BODY, 6.1), late_start]).is_busy
    assert not row_of(anomalies, RESETS, [ended(Outcome.RESET, Phase.BODY, 6.1)]).is_busy


async def test_the_row_says_when_it_was_reported(anomalies: Anomalies) -> None:
    row = row_of(anomalies, TIMES_OUT, SILENT)
    assert (row.expected, row.reported) == (expected(TIMES_OUT), expected(TIMES_OUT))
    assert row.after_s == pytest.approx(3.05)


async def test_a_fault_that_is_planted_is_detected(bench: Bench) -> None:
    case = Case("byte_flipped", (SCENARIO,), Outcome.CORRUPT, Phase.BODY)
    row = await run(case, SCENARIO, 1, bench, "byte_flipped")
    assert (row.misses, row.reported) == ((), "corrupt in body")


@pytest.mark.parametrize("slow", [False, True])
async def test_a_tester_whose_own_clock_is_slow_is_a_miss(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    """All is well by its own clock, which needs 8 s for a second."""
    stall_s = {Phase.EOF_WAIT: 0.3}
    monkeypatch.setattr(single, "LIMITS", Limits.default(stall_s, {Phase.EOF_WAIT: 0.5}))
    if slow:
        for part in ("Generator", "Watchdog"):
            monkeypatch.setattr(single, part, partial(getattr(single, part), clock=lambda: monotonic() / 8))
    row = await run(EOF_SWALLOWED, SCENARIO, 1, bench, "eof_swallowed")
    assert not row.is_busy
    said = "; ".join(row.misses)
    assert ("the stall was reported" in said) is ("eof_missing was reported" in said) is bool(row.misses) is slow


@pytest.mark.parametrize("wrong", [{"outcome": Outcome.OK}, {"phase": Phase.TTFB}, {"stalls": True}])
async def test_a_wrong_expectation_is_a_miss_and_exit_code_1(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: dict[str, object]
) -> None:
    case = replace(Case("byte_flipped", (SCENARIO,), Outcome.CORRUPT, Phase.BODY), **wrong)  # type: ignore[arg-type]
    rows = [await run(FINE, SCENARIO, 1, bench, "none"), await run(case, SCENARIO, 2, bench, "byte_flipped")]
    assert [row.ok for row in rows] == [True, False]

    assert report(rows, 1.0, tmp_path / "matrix.json") == 1
    shown = capsys.readouterr().out
    assert "MISS byte_flipped, close_delimited: " in shown
    assert "0 of 1 failure classes detected, 0 false alarms in 1 controls" in shown
    written = json.loads((tmp_path / "matrix.json").read_text())
    assert written["ok"] is False
    assert [row["ok"] for row in written["matrix"]] == [True, False]


async def test_no_miss_is_exit_code_0(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert report([await run(FINE, SCENARIO, 1, bench, "none")], 1.0, None) == 0
    assert "MISS" not in capsys.readouterr().out
