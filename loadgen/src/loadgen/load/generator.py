"""Starts transactions when they are due, whatever became of the earlier ones, and owns every one of them.

Rules
- Open loop: an arrival is started at its time, or at once when that has passed.
- It is dropped, and counted, when `max_in_flight` are under way, and when the load has been over for OVERTIME_S: a
  generator that cannot keep up does not make the load longer.
- Each transaction is a task; the generator is the owner of all of them, and a scenario's unexpected exception is the
  run's.
- A transaction always ends with exactly one outcome: `timed_out` in eof_wait is eof_missing, anywhere else timeout; a
  cancellation by anybody else is aborted.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic

from loadgen.measure.tally import Tally
from loadgen.scenarios import SCENARIOS
from loadgen.transaction.outcomes import Failed, Outcome
from loadgen.transaction.phases import Limits, Phase
from loadgen.transaction.route import Route
from loadgen.transaction.transaction import Arrival, Transaction
from loadgen.transaction.watchdog import Watchdog
from loadgen.waiting import sleep_until

OVERTIME_S = 1.0


class Generator:
    """The load of one run."""

    def __init__(
        self,
        route: Route,
        limits: Limits,
        tally: Tally,
        watchdog: Watchdog,
        max_in_flight: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._route = route
        self._limits = limits
        self._tally = tally
        self._watchdog = watchdog
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._tasks: set[asyncio.Task[Outcome]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._crash: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def offer(self, arrivals: Iterator[Arrival], duration_s: float | None) -> None:
        """Starts arrivals for `duration_s`; None: until cancelled, which leaves alone what is in flight."""
        begins_s = self._clock()
        self._tally.load_begins(begins_s)
        for arrival in arrivals:
            ends = duration_s is not None and arrival.due_s >= duration_s
            due_s = begins_s + (duration_s if duration_s is not None and ends else arrival.due_s)
            # Also where it is late already: what is in flight has to have its turn.
            await asyncio.sleep(max(due_s - self._clock(), 0.0))
            if ends:
                await sleep_until(due_s, self._clock)
                return
            if duration_s is not None and self._clock() > begins_s + duration_s + OVERTIME_S:
                self._drop(arrival)
            else:
                self.start(arrival, due_s)

    async def settle(self, within_s: float) -> None:
        """Waits until nothing is in flight, at most `within_s`; `abort` then tells what is left."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            pass

    async def abort(self) -> int:
        """Ends everything in flight as `aborted`; returns how many that were."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(tasks)

    async def crashed(self) -> None:
        """Waits for an exception that no scenario should raise, and raises it."""
        await asyncio.shield(self._crash)

    def start(self, arrival: Arrival, due_s: float) -> Transaction | None:
        """Starts one arrival now, or drops it (None). Latency and lag count from `due_s`."""
        if len(self._tasks) >= self._max_in_flight:
            self._drop(arrival)
            return None
        self._tally.scheduled(arrival)
        window = self._tally.window_of(due_s)
        transaction = Transaction(arrival, self._limits, self._tally, due_s, self._clock, window)
        self._tally.started(arrival, lag_s=max(self._clock() - due_s, 0.0))
        self._watchdog.watch(transaction)  # Now: a fault that begins before its task runs touches it too.
        task = asyncio.create_task(self._run(transaction))
        transaction.task = task
        self._tasks.add(task)
        self._idle.clear()
        task.add_done_callback(partial(self._done, transaction))
        return transaction

    def _drop(self, arrival: Arrival) -> None:
        self._tally.scheduled(arrival)
        self._tally.dropped(arrival)

    async def _run(self, transaction: Transaction) -> Outcome:
        outcome, detail = Outcome.ABORTED, "the generator failed"
        try:
            await SCENARIOS[transaction.arrival.scenario].run(transaction, self._route)
            outcome, detail = Outcome.OK, ""
        except Failed as failure:
            outcome, detail = failure.outcome, failure.detail
        except asyncio.CancelledError:
            outcome, detail = _of_cancellation(transaction)
        finally:
            self._watchdog.release(transaction)
            transaction.close()
            self._tally.ended(transaction, outcome, detail)
        return outcome

    def _done(self, transaction: Transaction, task: asyncio.Task[Outcome]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # before it could begin
            self._watchdog.release(transaction)
            self._tally.ended(transaction, *_of_cancellation(transaction))
        if not self._tasks:
            self._idle.set()
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._crash.done():
            self._crash.set_exception(error)


def _of_cancellation(transaction: Transaction) -> tuple[Outcome, str]:
    match transaction.timed_out:
        case None:
            return Outcome.ABORTED, "ended by the generator"
        case Phase.EOF_WAIT:
            return Outcome.EOF_MISSING, f"no end of stream {transaction.timeout_after_s:g} s after the last byte"
        case phase:
            return Outcome.TIMEOUT, f"{phase} took longer than {transaction.timeout_after_s:g} s"
