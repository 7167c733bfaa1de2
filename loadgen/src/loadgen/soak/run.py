"""One run, from the load to the verdict.

Rules
- Load, settle, drain, verdict, in that order. A first signal ends the load early; a second one also what is in
  flight, and the waiting. There is a verdict in either case.
- What is in flight at the end of the load ends by its own timeouts; nobody waits longer than all of them together.
- The proxies' gauges are looked at only when nothing of ours is in flight.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

from loadgen.load import schedule
from loadgen.load.generator import Generator
from loadgen.measure.anomalies import Anomalies
from loadgen.measure.drain import Drain, watch_gauges
from loadgen.measure.metrics import SoakMetrics
from loadgen.measure.observe import snapshot
from loadgen.measure.tally import Tally
from loadgen.report import directory as report_directory
from loadgen.soak.progress import Progress
from loadgen.soak.settings import SoakSettings
from loadgen.stack_api import Stack
from loadgen.transaction import real_client
from loadgen.transaction.phases import Phase
from loadgen.transaction.route import Route
from loadgen.transaction.watchdog import Watchdog
from loadgen.verdict.verdict import Result, Run
from servicekit.logs import get_logger
from servicekit.metrics import MetricsServer, registry
from servicekit.run import Stop

log = get_logger()


class SoakRun:
    """A run against a stack. `state` is what it is doing, in a word or two."""

    def __init__(
        self, settings: SoakSettings, stop: Stop, directory: Path, started_at: datetime, revision: str
    ) -> None:
        self.state = "starting"
        self._settings = settings
        self._stop = stop
        self._directory = directory
        self._started_at = started_at
        self._revision = revision
        self._mix = settings.the_mix()
        self._limits = settings.limits()
        self._series = registry()
        self._metrics = SoakMetrics(self._series, self._mix.scenarios)
        self._metrics.describe_run(report_directory.run_id(started_at), settings.seed, revision)

    def serve_metrics(self) -> MetricsServer:
        """The metrics port, to be entered before the stack: it tells that the stack is starting."""
        return MetricsServer(self._settings.metrics_listen, self._series, self._not_ready)

    async def run(self, stack: Stack) -> Result:
        """Loads `stack` and returns what came of it. Raises what a scenario should not have raised."""
        real_client.warm_up()
        with Anomalies(self._directory / "anomalies.jsonl") as anomalies:
            tally = Tally(tuple(self._mix.scenarios), self._metrics, anomalies)
            watchdog = Watchdog(tally.loop_lag)
            duration_s = None if self._settings.continuous else self._settings.duration
            shown = asyncio.create_task(Progress(tally, duration_s, lambda: self.state).show())
            watchdog.start()
            try:
                return await self._run(stack, tally, watchdog, duration_s)
            finally:
                watchdog.stop()
                shown.cancel()
                with suppress(asyncio.CancelledError):
                    await shown

    async def _run(self, stack: Stack, tally: Tally, watchdog: Watchdog, duration_s: float | None) -> Result:
        settings = self._settings
        before = await snapshot(stack.metrics, stack.pids)
        route = Route(stack.proxy, stack.target, stack.server_first, settings.credentials())
        generator = Generator(route, self._limits, tally, watchdog, settings.max_in_flight)
        rate_per_s = settings.rate or self._mix.rate_per_s

        self.state = "load"
        log.info("ready", proxy=str(stack.proxy), target=str(stack.target), rate_per_s=rate_per_s)
        load_began_s = monotonic()
        arrivals = schedule.arrivals(self._mix, rate_per_s=rate_per_s, seed=settings.seed)
        await _first(generator.offer(arrivals, duration_s), self._stop.draining.wait(), generator.crashed())
        load_ended_s = monotonic()

        self.state = "drain"
        log.info("draining", in_flight=tally.in_flight)
        drain = await self._drain(stack, generator, tally, load_ended_s)
        self.state = "over"
        after = await snapshot(stack.metrics, stack.pids)
        log.info("stopped")
        run = Run(
            id=report_directory.run_id(self._started_at),
            seed=settings.seed,
            revision=self._revision,
            stack=settings.stack_label or settings.stack,
            engine=stack.engine,
            started_at=self._started_at,
            duration_s=load_ended_s - load_began_s,
        )
        return Result(run, tally, drain, before, after, settings.thresholds())

    async def _drain(self, stack: Stack, generator: Generator, tally: Tally, load_ended_s: float) -> Drain:
        within_s = self._limits.longest_transaction_s
        await _first(generator.settle(within_s), self._stop.now.wait(), generator.crashed())
        pending: tuple[Any, ...] = ()
        if aborted := await generator.abort():
            pending = ({"program": "loadgen", "what": "transactions in flight", "value": aborted},)
        gauges_within_s = 0.0 if self._stop.now.is_set() else self._limits[Phase.DRAIN].timeout_s
        watched = await watch_gauges(stack.metrics, gauges_within_s)
        pending += watched.pending
        seconds = monotonic() - load_ended_s
        if pending:
            tally.run_timed_out(Phase.DRAIN)
        else:
            tally.drained(seconds)
        return Drain(seconds, pending, watched.observed)

    def _not_ready(self) -> str | None:
        return None if self.state == "load" else f"not under load: {self.state}"


async def _first(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Runs them until the first one ends, and cancels the others. Raises what that first one raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
