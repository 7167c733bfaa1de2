"""The two controls that are loads: nothing of what they do to a transaction may be reported as the proxy's stall.

Rules
- `loss`: the real tunnel through a link that loses 5 % at 20 ms round trip, and 10 small transactions a second. All of
  them are ok. It counts only when the link has lost something.
- `saturated`: an event loop that is held up in bursts longer than S/4 of any phase, while the proxy is perfectly fine.
  The generator is blamed (`generator_lag`), and the verdict is inconclusive, because it was saturated. It runs alone,
  as it holds up everything else in this process too.
"""

import asyncio
import time
from collections.abc import Iterator

from loadgen.load import mix as mixes
from loadgen.load.generator import Generator
from loadgen.load.schedule import arrivals
from loadgen.measure.scrape import scrape
from loadgen.selftest.bench import Bench
from loadgen.selftest.cases import LOSS, SATURATED
from loadgen.selftest.matrix import Row
from loadgen.selftest.recorder import Recorder
from loadgen.stack_api import Stack, StackSettings
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Limits
from loadgen.transaction.route import Route
from loadgen.transaction.watchdog import Watchdog
from loadgen.verdict.verdict import Verdict

MIX = "small"
LOSSY_LINK = ("--delay-ms", "10", "--loss", "0.05")
LOSS_RATE_PER_S, LOSS_S = 10.0, 15.0

SATURATED_RATE_PER_S, SATURATED_S = 20.0, 5.0
HOLD_S, BREATH_S = 1.5, 0.02
"""Bursts, and what is between them. S/4 of body, the longest, is 1.25 s."""

LOSSY = StackSettings(link=LOSSY_LINK)
"""The stack of `loss`."""

_LIMITS = Limits.default()


async def loss(stack: Stack, bench: Bench) -> Row:
    """Loads the lossy tunnel."""
    route = Route(stack.proxy, stack.target, stack.server_first)
    recorder = await _load(route, bench, LOSS_RATE_PER_S, LOSS_S)
    lost = await _lost(stack)
    misses = list(_failures(recorder))
    if recorder.lags_s:
        misses.append(f"the generator was held up for {max(recorder.lags_s):.2f} s: this machine is too busy")
    result = recorder.result(LOSS_S)
    if result.verdict is not Verdict.PASS:
        misses.append(f"the verdict is {result.verdict}, not pass: {result.reasons}")
    if not lost:
        misses.append("the link has lost nothing, so nothing is proved")
    reported = f"{recorder}; {lost} datagrams were lost"
    expected = "all ok, no stall, pass"
    is_busy = bool(misses) and recorder.was_held_up
    return Row(LOSS, f"mix {MIX}", True, expected, f"{reported}; {result.verdict}", None, tuple(misses), is_busy)


async def saturated(bench: Bench, listener: str) -> Row:
    """Loads a proxy that is fine, from an event loop that is not."""
    holding = asyncio.create_task(_hold_up())
    try:
        recorder = await _load(bench.route(listener), bench, SATURATED_RATE_PER_S, SATURATED_S, holding)
    finally:
        holding.cancel()
    misses = list(_failures(recorder))
    if not recorder.lags_s:
        misses.append("the generator was not blamed: no generator_lag")
    result = recorder.result(SATURATED_S)
    own = [reason for reason in result.reasons if "saturated" in reason]
    if result.verdict is not Verdict.INCONCLUSIVE or not own:
        misses.append(f"the verdict is {result.verdict}, not inconclusive for a saturated generator: {result.reasons}")
    expected = "generator_lag, inconclusive (saturated), no stall"
    return Row(SATURATED, f"mix {MIX}", True, expected, f"{recorder}; {result.verdict}", None, tuple(misses))


async def _load(
    route: Route, bench: Bench, rate_per_s: float, duration_s: float, until_over: asyncio.Task[None] | None = None
) -> Recorder:
    """A small soak; `until_over` is cancelled when its load is over, before what is in flight has ended."""
    mix = mixes.read(MIX)
    recorder = Recorder(tuple(mix.scenarios), bench.anomalies)
    watchdog = Watchdog(recorder.loop_lag)
    generator = Generator(route, _LIMITS, recorder, watchdog, max_in_flight=1000)
    watchdog.start()
    try:
        await generator.offer(arrivals(mix, rate_per_s=rate_per_s, seed=1), duration_s)
        if until_over is not None:
            until_over.cancel()
        await generator.settle(_LIMITS.longest_transaction_s)
    finally:
        await generator.abort()
        watchdog.stop()
    return recorder


async def _hold_up() -> None:
    while True:
        _block(HOLD_S)
        await asyncio.sleep(BREATH_S)


def _block(seconds: float) -> None:
    time.sleep(seconds)


def _failures(recorder: Recorder) -> Iterator[str]:
    """What is wrong with a load in which nothing may go wrong."""
    if not recorder.outcomes[Outcome.OK]:
        yield "no transaction was ok"
    for failure in recorder.failures:
        yield f"{failure.outcome} in {failure.phase}: {failure.detail}"
    for stall in recorder.onsets:
        yield f"a stall of {stall.phase} was reported"
    for phase in recorder.timed_out_in:
        yield f"a timeout of {phase} was reported"


async def _lost(stack: Stack) -> int:
    """How many datagrams the link has lost."""
    found = await scrape(stack.metrics["link"])
    series = found.series("link_datagrams_total") if found else {}
    return int(sum(count for labels, count in series.items() if ("event", "lost") in labels))
