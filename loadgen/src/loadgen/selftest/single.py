"""One transaction against one fault, through the soak's own generator, tally and watchdog; and the judgement on it.

Rules
- The judgement is the table's, word for word: the outcome, the phase that it happened in, the stall and its recovery,
  the timeout, and nothing besides.
- A stall has to be reported no earlier than S after the last progress, and no later than S + WITHIN_S; whatever else
  goes wrong, within S + WITHIN_S too.
- A generator that was held up proves nothing, and is a miss: this machine is too busy for the test.
"""

from collections.abc import Iterator
from time import monotonic

from loadgen.load.generator import Generator
from loadgen.scenarios import SCENARIOS
from loadgen.selftest.bench import Bench
from loadgen.selftest.cases import LIMITS, WITHIN_S, Case
from loadgen.selftest.matrix import Row
from loadgen.selftest.recorder import Recorder
from loadgen.transaction.transaction import Arrival
from loadgen.transaction.watchdog import Watchdog

EARLY_S = 0.5
"""How much shorter a stall may seem than the pause that was planted: the tester's last read came so much later."""


async def run(case: Case, scenario: str, seed: int, bench: Bench) -> Row:
    """Runs one scenario of a case and judges it. A cancellation aborts the transaction."""
    recorder = Recorder((scenario,), bench.anomalies)
    watchdog = Watchdog(recorder.loop_lag)
    generator = Generator(bench.route(case.planted), LIMITS, recorder, watchdog, max_in_flight=1)
    how = SCENARIOS[scenario]
    arrival = Arrival(seed, 0.0, scenario, seed, how.size_bytes, how.requests, case.think_s)
    watchdog.start()
    try:
        generator.start(arrival, due_s=monotonic())
        await generator.settle(LIMITS.longest_transaction_s)
    finally:
        await generator.abort()
        watchdog.stop()
    return judged(case, scenario, recorder)


def judged(case: Case, scenario: str, recorder: Recorder) -> Row:
    """The row of what a transaction was reported as."""
    quiet_s = [*(stall.quiet_s for stall in recorder.onsets), *(failure.quiet_s for failure in recorder.failures)]
    return Row(
        name=case.name,
        scenario=scenario,
        is_control=case.is_control,
        expected=expected(case),
        reported=str(recorder),
        after_s=quiet_s[0] if quiet_s else None,
        misses=tuple(_misses(case, recorder)),
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


def _misses(case: Case, recorder: Recorder) -> Iterator[str]:
    if recorder.lags_s:
        yield f"the generator was held up for {max(recorder.lags_s):.2f} s: this machine is too busy for the test"
    ended = [outcome for outcome, count in recorder.outcomes.items() for _ in range(count)]
    if ended != [case.outcome]:
        yield f"came to {', '.join(ended) or 'nothing'} ({'; '.join(each.detail for each in recorder.failures)})"
    yield from _failures(case, recorder)
    yield from _stalls(case, recorder)
    timeouts = [case.phase] if case.times_out else []
    if recorder.timed_out_in != timeouts:
        yield f"timeouts of {_list(recorder.timed_out_in)}, not of {_list(timeouts)}"


def _failures(case: Case, recorder: Recorder) -> Iterator[str]:
    for failure in recorder.failures:
        if failure.phase is not case.phase:
            yield f"failed in {failure.phase}, not in {case.phase}"
        elif failure.phase:
            limit = LIMITS[failure.phase]
            bound_s = (limit.timeout_s if case.times_out else limit.stall_s) + WITHIN_S
            if failure.quiet_s > bound_s:
                yield f"{failure.outcome} was reported after {failure.quiet_s:.2f} s; the bound is {bound_s:g} s"


def _stalls(case: Case, recorder: Recorder) -> Iterator[str]:
    stalls = [case.phase] if case.stalls else []
    if (found := [stall.phase for stall in recorder.onsets]) != stalls:
        yield f"stalls of {_list(found)}, not of {_list(stalls)}"
    for stall in recorder.onsets:
        earliest_s = LIMITS[stall.phase].stall_s
        if not earliest_s <= stall.quiet_s <= earliest_s + WITHIN_S:
            yield f"the stall was reported after {stall.quiet_s:.2f} s; S is {earliest_s:g} s"
    recoveries = [case.phase] if case.recovers_after_s else []
    if (found := [recovery.phase for recovery in recorder.recoveries]) != recoveries:
        yield f"recoveries of {_list(found)}, not of {_list(recoveries)}"
    for recovery in recorder.recoveries:
        planted_s = case.recovers_after_s or 0.0
        if not planted_s - EARLY_S <= recovery.stalled_s <= planted_s + WITHIN_S:
            yield f"a stall of {recovery.stalled_s:.2f} s was reported; {planted_s:g} s was planted"


def _list(phases: object) -> str:
    assert isinstance(phases, list)
    return ", ".join(phases) or "no phase"
