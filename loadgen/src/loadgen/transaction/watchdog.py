"""Finds the phases that are open for too long: one sweep over everything in flight, no timer for each.

Rules
- A stall is a phase without progress for its stall limit S while the generator was reading: nothing waits unread in
  the kernel, and the event loop was never late by S/4 or more since the last progress. Otherwise the generator is
  blamed, and the phase gets S once more.
- Time in which the generator did not run does not count towards a timeout.
- An onset is found up to SWEEP_S late; durations are exact, because they count from the last progress.
- The sweep is also what measures the event loop: it is due every SWEEP_S, and how late it comes is the lag.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic

from loadgen.transaction.transaction import Transaction

SWEEP_S = 0.1
"""A sweep over 1,000 transactions costs 0.3 ms."""

_NOTABLE_LAG_S = 0.005
_MEMORY_S = 300.0
"""How far back lags are remembered; longer than any sensible timeout. At most 3,000 entries."""


class LagHistory:
    """The notable lags of the event loop, lately."""

    def __init__(self) -> None:
        self._lags: deque[tuple[float, float]] = deque()

    def add(self, now_s: float, lag_s: float) -> None:
        """Takes a lag that ended at `now_s`."""
        if lag_s >= _NOTABLE_LAG_S:
            self._lags.append((now_s, lag_s))
        while self._lags and self._lags[0][0] < now_s - _MEMORY_S:
            self._lags.popleft()

    def longest_s(self, since_s: float) -> float:
        """The longest lag that ended after `since_s`; zero where there is none."""
        return max((lag_s for at_s, lag_s in self._lags if at_s > since_s), default=0.0)

    def total_s(self, since_s: float) -> float:
        """The sum of the lags that ended after `since_s`."""
        return sum(lag_s for at_s, lag_s in self._lags if at_s > since_s)


class Watchdog:
    """Watches every transaction between `watch` and `release`."""

    def __init__(self, on_lag: Callable[[float], None], clock: Callable[[], float] = monotonic) -> None:
        self.lags = LagHistory()
        self._on_lag = on_lag
        self._clock = clock
        self._watched: dict[Transaction, None] = {}
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, transaction: Transaction) -> None:
        self._watched[transaction] = None

    def release(self, transaction: Transaction) -> None:
        self._watched.pop(transaction, None)

    @property
    def watched(self) -> Iterable[Transaction]:
        """Everything in flight."""
        return self._watched

    def start(self) -> None:
        """Begins to sweep in the running loop."""
        self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        self._due_s = self._clock() + SWEEP_S
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._ring)

    def _ring(self) -> None:
        now_s = self._clock()
        self.sweep(now_s, lag_s=max(now_s - self._due_s, 0.0))
        self._arm()

    def sweep(self, now_s: float, lag_s: float) -> None:
        """Looks at every transaction once; `lag_s` is how late this sweep comes."""
        self._on_lag(lag_s)
        self.lags.add(now_s, lag_s)
        for transaction in list(self._watched):
            if transaction.phase is not None and transaction.timed_out is None:
                self._look_at(transaction, now_s)

    def _look_at(self, transaction: Transaction, now_s: float) -> None:
        if not transaction.stalled and now_s - transaction.quiet_since_s >= transaction.stall_after_s:
            self._judge_quiet(transaction, now_s)
        since_s, limit_s = transaction.timeout_since_s, transaction.timeout_after_s
        if now_s - since_s < limit_s:
            return
        running_s = now_s - since_s - self.lags.total_s(since_s)
        # Unread input gets one more chance, not any number of them: every wait has a bound.
        if running_s >= 2 * limit_s or (running_s >= limit_s and not transaction.has_unread_input):
            transaction.time_out()

    def _judge_quiet(self, transaction: Transaction, now_s: float) -> None:
        lag_s = self.lags.longest_s(transaction.quiet_since_s)
        if lag_s >= transaction.stall_after_s / 4 or transaction.has_unread_input:
            transaction.excuse(now_s, lag_s)
        else:
            transaction.stall()
