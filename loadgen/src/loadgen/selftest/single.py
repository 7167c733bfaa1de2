"""One transaction against one fault, through the soak's own generator, tally and watchdog; and the judgement on it.

Rules
- The judgement is the table's, word for word: the outcome, the phase that it happened in, the stall and its recovery,
  the timeout, and nothing besides; and the verdict that a soak would come to.
- Times count from the moment when the faulty proxy struck to the report, both on the machine's clock: the tester's own
  may be what is wrong. A stall has to be reported no earlier than S after that, and no later than S + WITHIN_S; a
  timeout likewise with T; whatever else goes wrong, within S + WITHIN_S.
- A fault that did not strike is a miss.
- A miss of a generator that was held up proves nothing: this machine is too busy for the test.
"""

from collections.abc import Iterator, Sequence
from time import monotonic

from loadgen.load.generator import Generator
from loadgen.scenarios import SCENARIOS
from loadgen.selftest.bench import Bench
from loadgen.selftest.cases import LIMITS, WITHIN_S, Case
from loadgen.selftest.matrix import Row
from loadgen.selftest.recorder import Recorder
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.transaction import Arrival
from loadgen.transaction.watchdog import Watchdog
from loadgen.verdict.verdict import Verdict

AHEAD_S = 0.25
"""How much sooner than the proxy the tester may have seen what it counts from: its last byte, before the proxy found
that there is nothing behind it."""

EARLY_S = 0.5
"""How much shorter a stall may seem than the pause that was planted: the tester's last read came so much later."""


async def run(case: Case, scenario: str, seed: int, bench: Bench, listener: str) -> Row:
    """Runs one scenario of a case through a listener of its own and judges it. A cancellation aborts it."""
    recorder = Recorder((scenario,), bench.anomalies)
    watchdog = Watchdog(recorder.loop_lag)
    generator = Generator(bench.route(listener), LIMITS, recorder, watchdog, max_in_flight=1)
    how = SCENARIOS[scenario]
    arrival = Arrival(seed, 0.0, scenario, seed, how.size_bytes, how.requests, case.think_s)
    watchdog.start()
    try:
        generator.start(arrival, due_s=monotonic())
        await generator.settle(LIMITS.longest_transaction_s)
    finally:
        await generator.abort()
        watchdog.stop()
    return judged(case, scenario, recorder, bench.strikes(listener))


def judged(case: Case, scenario: str, recorder: Recorder, strikes: Sequence[float]) -> Row:
    """The row of what a transaction was reported as, whose fault struck at these times."""
    reports_s = [*(stall.at_s for stall in recorder.onsets), *(failure.at_s for failure in recorder.failures)]
    reported_s = min(reports_s, default=None)
    # The last one: what went through before the silence. A client that gives up is one strike more.
    struck_s = None if reported_s is None else max((at_s for at_s in strikes if at_s <= reported_s), default=None)
    misses = tuple(_misses(case, recorder, strikes, struck_s))
    return Row(
        name=case.name,
        scenario=scenario,
        is_control=case.is_control,
        expected=expected(case),
        reported=str(recorder),
        after_s=None if reported_s is None or struck_s is None else reported_s - struck_s,
        misses=misses,
        is_busy=bool(misses) and recorder.was_held_up,
    )


def expected(case: Case) -> str:
    """A row of the table, in a line."""
    parts = [f"{case.outcome}"]
    if case.phase and not case.recovers_after_s:
        parts[0] += f" in {case.phase}"
    if case.stalls:
        parts.append(f"stall {case.phase}")
    if case.recovers_after_s:
        parts.append(f"recovered after {case.recovers_after_s:g} s")
    return ", ".join(parts)


def _misses(case: Case, recorder: Recorder, strikes: Sequence[float], struck_s: float | None) -> Iterator[str]:
    if not case.is_control and not strikes:
        yield "the fault did not strike"
    if recorder.lags_s:
        yield f"the generator was held up for {max(recorder.lags_s):.2f} s: this machine is too busy for the test"
    ended = [outcome for outcome, count in recorder.outcomes.items() for _ in range(count)]
    if ended != [case.outcome]:
        yield f"came to {', '.join(ended) or 'nothing'} ({'; '.join(each.detail for each in recorder.failures)})"
    yield from _failures(case, recorder)
    yield from _stalls(case, recorder)
    if struck_s is not None:
        yield from _times(case, recorder, struck_s)
    elif not case.is_control and (recorder.onsets or recorder.failures):
        yield "something was reported before the fault struck"
    timeouts = [case.phase] if case.times_out else []
    if recorder.timed_out_in != timeouts:
        yield f"timeouts of {_list(recorder.timed_out_in)}, not of {_list(timeouts)}"
    yield from _verdict(case, recorder)


def _failures(case: Case, recorder: Recorder) -> Iterator[str]:
    for failure in recorder.failures:
        if failure.phase is not case.phase:
            yield f"failed in {failure.phase}, not in {case.phase}"


def _stalls(case: Case, recorder: Recorder) -> Iterator[str]:
    stalls = [case.phase] if case.stalls else []
    if (found := [stall.phase for stall in recorder.onsets]) != stalls:
        yield f"stalls of {_list(found)}, not of {_list(stalls)}"
    recoveries = [case.phase] if case.recovers_after_s else []
    if (found := [recovery.phase for recovery in recorder.recoveries]) != recoveries:
        yield f"recoveries of {_list(found)}, not of {_list(recoveries)}"
    for recovery in recorder.recoveries:
        planted_s = case.recovers_after_s or 0.0
        if not planted_s - EARLY_S <= recovery.stalled_s <= planted_s + WITHIN_S:
            yield f"a stall of {recovery.stalled_s:.2f} s was reported; {planted_s:g} s was planted"


def _times(case: Case, recorder: Recorder, struck_s: float) -> Iterator[str]:
    for stall in recorder.onsets:
        limit_s = LIMITS[stall.phase].stall_s
        if not limit_s - AHEAD_S <= (after_s := stall.at_s - struck_s) <= limit_s + WITHIN_S:
            yield f"the stall was reported {after_s:.2f} s after the fault struck; S is {limit_s:g} s"
    for failure in recorder.failures:
        if failure.phase is None:
            continue
        limit = LIMITS[failure.phase]
        least_s, limit_s = (limit.timeout_s - AHEAD_S, limit.timeout_s) if case.times_out else (0.0, limit.stall_s)
        if not least_s <= (after_s := failure.at_s - struck_s) <= limit_s + WITHIN_S:
            yield f"{failure.outcome} was reported {after_s:.2f} s after the fault struck; the limit is {limit_s:g} s"


def _verdict(case: Case, recorder: Recorder) -> Iterator[str]:
    """What a soak of this one transaction would come to: a stall alone is no failure."""
    expected = Verdict.PASS if case.outcome is Outcome.OK else Verdict.FAIL
    result = recorder.result(LIMITS.longest_transaction_s)
    if result.verdict is not expected:
        yield f"the verdict is {result.verdict}, not {expected}: {result.reasons}"
    elif expected is Verdict.FAIL and not any(f"outcome.{case.outcome} " in reason for reason in result.reasons):
        yield f"no reason of the verdict names {case.outcome}: {result.reasons}"


def _list(phases: object) -> str:
    assert isinstance(phases, list)
    return ", ".join(phases) or "no phase"
