"""One run, from the preflight to what it came to.

Rules
- Preflight (of somebody else's proxy), load with its faults, settle, drain, in that order. A first signal ends the load
  early; a second one also what is in flight, and the waiting. There is a result in either case.
- Nothing is waited for before every fault is healed: what is judged after the load is a stack in order.
- What is in flight at the end of the load ends by its own timeouts; nobody waits longer than all of them together.
- The proxies' gauges are looked at only when nothing of ours is in flight.
"""

import asyncio
import gc
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

from loadgen.faults.driver import HEAL_WITHIN_S, Driver
from loadgen.faults.marks import LOOK_EVERY_S, MarksError, follow
from loadgen.load import schedule
from loadgen.load.generator import Generator
from loadgen.measure.anomalies import Anomalies
from loadgen.measure.drain import Drain, watch_gauges
from loadgen.measure.inquiry import Inquiry
from loadgen.measure.metrics import SoakMetrics
from loadgen.measure.sampler import Sampler, stop
from loadgen.measure.tally import Tally
from loadgen.report import directory as report_directory
from loadgen.soak.fault_watch import FaultWatch
from loadgen.soak.live import Progress
from loadgen.soak.preflight import Preflight, preflight
from loadgen.soak.settings import SoakSettings
from loadgen.stack_api import Stack
from loadgen.transaction import real_client
from loadgen.transaction.phases import Phase
from loadgen.transaction.route import Route
from loadgen.transaction.transaction import Transaction, Window
from loadgen.transaction.watchdog import Watchdog
from loadgen.verdict.verdict import Programs, Result, Run
from servicekit.logs import get_logger
from servicekit.metrics import MetricsServer, registry
from servicekit.run import Stop

GC_THRESHOLDS = (10_000, 5, 5)
"""httpx leaves cycles behind that outlive a look or two. All are looked for every half a minute or so, where it would
be every ten minutes (`servicekit.run.settle`): what there is of them at most, memory grows to."""

SETTLE_S = 3.0
"""How long a run waits for streams of others to end: their ends, counted in the middle, would look like lost ones."""

CALM_WITHIN_S = 2 * HEAL_WITHIN_S + 5.0
"""How long the end of a load waits to hear that somebody else's faults are healed: as long as they take to do it."""

log = get_logger()


class SoakRun:
    """A run against a stack. `state` is what it is doing, in a word or two."""

    def __init__(
        self,
        settings: SoakSettings,
        stop: Stop,
        directory: Path,
        started_at: datetime,
        revision: str,
        command: str | None = None,
    ) -> None:
        self.state = "starting"
        self.used: dict[str, Any] = {}
        """What the programs used over time, for `timeline.json`; there when the run is over."""
        self._settings = settings
        self._stop = stop
        self._directory = directory
        self._started_at = started_at
        self._revision = revision
        self._command = command
        self._mix = settings.the_mix()
        self._limits = settings.limits()
        self._duration_s = None if settings.continuous else settings.duration_s()
        self._series = registry()
        self._metrics = SoakMetrics(self._series, self._mix.scenarios)
        self._metrics.describe_run(report_directory.run_id(started_at), settings.seed, revision)

    def serve_metrics(self) -> MetricsServer:
        """The metrics port, to be entered before the stack: it tells that the stack is starting."""
        return MetricsServer(self._settings.metrics_listen, self._series, self._not_ready)

    async def run(self, stack: Stack) -> Result:
        """Loads `stack` and returns what came of it. Raises what a scenario should not have raised."""
        real_client.warm_up()
        route = Route(stack.proxy, stack.target, stack.server_first, self._settings.credentials())
        found = await self._look_ahead(route)
        with Anomalies(self._directory / "anomalies.jsonl") as anomalies:
            inquiry = Inquiry(stack.metrics)

            def inquire(about: Transaction) -> None:
                inquiry.about(about.application, planned=about.window is Window.FAULT)

            tally = Tally(
                tuple(self._mix.scenarios),
                self._metrics,
                anomalies,
                duration_s=self._duration_s,
                inquire=inquire,
            )
            watchdog = Watchdog(tally.loop_lag)
            shown = asyncio.create_task(Progress(tally, self._duration_s, lambda: self.state).show())
            try:
                async with inquiry:
                    return await self._run(stack, route, tally, watchdog, found)
            finally:
                watchdog.stop()
                await stop(shown)
                if inquiry.left_out:
                    log.info("stalls_not_asked_about", count=inquiry.left_out)

    async def _look_ahead(self, route: Route) -> Preflight:
        """What the proxy does not support goes out of the mix."""
        if not self._settings.looks_ahead:
            return Preflight()
        self.state = "preflight"
        found = Preflight(fatal="the run was ended before its load began")

        async def look() -> None:
            nonlocal found
            found = await preflight(self._mix, route, self._limits)

        await _first(look(), self._stop.draining.wait())
        for scenario, reason in found.unsupported.items():
            log.warning("unsupported", scenario=scenario, reason=reason)
        if found.fatal is None and found.unsupported:
            self._mix = self._mix.only([name for name in self._mix.scenarios if name not in found.unsupported])
        return found

    async def _run(self, stack: Stack, route: Route, tally: Tally, watchdog: Watchdog, found: Preflight) -> Result:
        generator = Generator(route, self._limits, tally, watchdog, self._settings.max_in_flight)
        sampler = Sampler(stack)
        before = await watch_gauges(stack.metrics, SETTLE_S)
        await sampler.look()
        began_s = ended_s = monotonic()
        fatal = found.fatal
        if fatal is None:
            try:
                began_s, ended_s = await self._load(stack, generator, tally, watchdog, sampler)
            except MarksError as error:
                fatal, ended_s = str(error), monotonic()

        self.state = "drain"
        log.info("draining", in_flight=tally.in_flight)
        drain = await self._drain(stack, generator, tally, monotonic())
        self.state = "over"
        await sampler.look()
        self.used = sampler.document()
        log.info("stopped")
        if before.pending:
            log.warning("ledger_not_judged", reason="somebody else's streams were open when the load began")
        unjudged = frozenset(sampler.ends) if before.pending else sampler.unjudged
        programs = Programs(
            sampler.first.resources,
            sampler.last.resources,
            sampler.ends,
            frozenset(sampler.restarted),
            unjudged,
            sampler.engines,
        )
        return self._result(stack, tally, drain, programs, replace(found, fatal=fatal), ended_s - began_s)

    async def _load(
        self, stack: Stack, generator: Generator, tally: Tally, watchdog: Watchdog, sampler: Sampler
    ) -> tuple[float, float]:
        """The load and its faults; returns when it began and when it ended. Leaves when all faults are healed."""
        settings = self._settings
        rate_per_s = settings.rate or self._mix.rate_per_s
        arrivals = schedule.arrivals(self._mix, rate_per_s=rate_per_s, seed=settings.seed)
        gc.collect()
        gc.freeze()  # What is there now stays: looking through it again and again held the load up by 50 ms.
        gc.set_threshold(*GC_THRESHOLDS)
        self.state = "load"
        log.info("ready", proxy=str(stack.proxy), target=str(stack.target), rate_per_s=rate_per_s)
        watchdog.start()
        began_s = monotonic()
        sampler.begin(began_s)
        watch = FaultWatch(tally, self._metrics, watchdog)
        sampling = asyncio.create_task(sampler.run())
        breaking = asyncio.create_task(self._break(stack, watch, began_s))
        try:
            load = generator.offer(arrivals, self._duration_s)
            await _first(load, self._stop.draining.wait(), generator.crashed(), _failure_of(breaking))
            ended_s = monotonic()
            self.state = "healing"
            if not watch.is_over:
                log.info("healing")
            await self._until_calm(watch, breaking)
        finally:
            await stop(breaking)
            await stop(sampling)
        return began_s, ended_s

    async def _break(self, stack: Stack, watch: FaultWatch, began_s: float) -> None:
        """Breaks the stack as planned, or follows somebody who does. A cancellation heals what is broken here."""
        plan, marks = self._settings.fault_plan(), self._settings.marks
        if marks is not None:
            await follow(marks, watch)
        elif plan is not None:
            assert stack.faults is not None, "settings check it"
            watch.planned(plan.faults)
            await Driver(plan, stack.faults, watch).run(began_s)

    async def _until_calm(self, watch: FaultWatch, breaking: "asyncio.Task[None]") -> None:
        """Waits until every fault has healed; where the load was interrupted, those that are open."""
        interrupted = self._stop.draining
        if self._settings.marks is None:
            if not interrupted.is_set():
                await _first(_end_of(breaking), interrupted.wait())
            return  # Whoever ends the task heals.
        with suppress(TimeoutError):
            async with asyncio.timeout(CALM_WITHIN_S):
                while not (watch.is_calm if interrupted.is_set() else watch.is_over) and not self._stop.now.is_set():
                    await _first(_failure_of(breaking), asyncio.sleep(LOOK_EVERY_S))

    async def _drain(self, stack: Stack, generator: Generator, tally: Tally, load_ended_s: float) -> Drain:
        within_s = self._limits.longest_transaction_s + self._mix.longest_think_s
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

    def _result(
        self, stack: Stack, tally: Tally, drain: Drain, programs: Programs, found: Preflight, duration_s: float
    ) -> Result:
        settings = self._settings
        said = settings.engines() if settings.stack == "external" else {}
        run = Run(
            id=report_directory.run_id(self._started_at),
            seed=settings.seed,
            revision=self._revision,
            stack=settings.stack_label or settings.stack,
            engine={**said, **programs.engines},
            started_at=self._started_at,
            duration_s=duration_s,
            mix=settings.mix_name(),
            arrivals=self._mix.pattern,
            rate_per_s=settings.rate or self._mix.rate_per_s,
            link=settings.link_said(),
            command=self._command,
        )
        return Result(
            run,
            tally,
            drain,
            programs,
            settings.thresholds(),
            unsupported=found.unsupported,
            asked_for=frozenset(settings.scenario),
            fatal=found.fatal,
            interrupted=self._stop.draining.is_set() and not settings.continuous,
            faults_expected=settings.marks is not None,
        )

    def _not_ready(self) -> str | None:
        return None if self.state == "load" else f"not under load: {self.state}"


async def _end_of(task: "asyncio.Task[None]") -> None:
    """Waits for a task that goes on when the waiting is cancelled. Raises what it raised."""
    await asyncio.shield(task)


async def _failure_of(task: "asyncio.Task[None]") -> None:
    """The same, but a task that ends well is no reason to wait no longer."""
    await _end_of(task)
    await asyncio.Event().wait()


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
