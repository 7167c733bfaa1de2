"""A transaction as the measurement sees it: which phase is open, since when, and when something last moved.

Rules
- Whoever talks (raw, real_client) calls `enter` at the border of two phases, `progress` whenever the socket moved, and
  `finish` at the end. A phase that is not left by `enter` or `finish` failed, and its duration is not counted.
- Whoever watches (watchdog) calls `stall`, `excuse` and `time_out`. Whoever counts is told through `Observer`.
- A stall is counted at its onset; progress makes it a recovered one. Its duration counts from the last progress, or
  from the moment when the generator was blamed for the quiet instead.
- All times are seconds on the clock that was given (time.monotonic unless in a test).
"""

import asyncio
import select
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, unique
from time import monotonic
from typing import Protocol

from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Limits, Phase


@dataclass(frozen=True, slots=True)
class Arrival:
    """One transaction of the schedule. `due_s` counts from the start of the load."""

    number: int
    due_s: float
    scenario: str
    seed: int
    size_bytes: int
    requests: int = 1
    think_s: float = 0.0


@unique
class Direction(StrEnum):
    """Which way payload goes; the value is the metric label."""

    CLIENT_TO_TARGET = "client_to_target"
    TARGET_TO_CLIENT = "target_to_client"


@unique
class Window(StrEnum):
    """What kind of time a transaction belongs to; `measure.windows` tells which."""

    QUIET = "quiet"
    FAULT = "fault"
    RECOVERY = "recovery"


class Observer(Protocol):
    """Is told what happens to transactions, while it happens."""

    def phase_ended(self, phase: Phase, duration_s: float) -> None: ...
    def stalled(self, transaction: "Transaction", phase: Phase) -> None: ...
    def stall_ended(self, transaction: "Transaction", phase: Phase, duration_s: float, recovered: bool) -> None: ...
    def generator_lagged(self, transaction: "Transaction", phase: Phase, lag_s: float) -> None: ...
    def timed_out(self, transaction: "Transaction", phase: Phase) -> None: ...
    def moved(self, direction: Direction, payload_bytes: int) -> None: ...


class Transaction:
    """State of one transaction in flight."""

    __slots__ = (
        "_descriptor",
        "_gap_s",
        "_observer",
        "_poll_for",
        "application",
        "arrival",
        "clock",
        "excused_at_s",
        "expected_bytes",
        "limits",
        "phase",
        "phase_since_s",
        "progress_at_s",
        "quiet_since_s",
        "received_bytes",
        "scheduled_at_s",
        "sent_bytes",
        "stall_after_s",
        "stalled",
        "stalls",
        "task",
        "timed_out",
        "timeout_after_s",
        "window",
    )

    def __init__(
        self,
        arrival: Arrival,
        limits: Limits,
        observer: Observer,
        scheduled_at_s: float,
        clock: Callable[[], float] = monotonic,
        window: Window = Window.QUIET,
    ) -> None:
        self.arrival = arrival
        self.window = window
        self.limits = limits
        self.scheduled_at_s = scheduled_at_s
        self.clock = clock
        self.excused_at_s = clock()
        """When a fault touched it last, where its window is not quiet: it began, or a fault did while it was well."""
        self.task: asyncio.Task[Outcome] | None = None
        self.application = ""
        """The address of its TCP connection, as the proxy sees it; empty before there is one."""
        self.expected_bytes = 0
        self.received_bytes = 0
        self.sent_bytes = 0

        self.phase: Phase | None = None
        self.phase_since_s = 0.0
        self.progress_at_s = 0.0
        self.quiet_since_s = 0.0
        """What the stall limit counts from: the last progress, or the moment when the generator was blamed instead."""
        self.stall_after_s = 0.0
        self.timeout_after_s = 0.0
        self.stalled = False
        self.stalls = 0
        self.timed_out: Phase | None = None

        self._observer = observer
        self._gap_s = 0.0
        self._descriptor = -1
        self._poll_for = 0

    # ---- called by whoever talks

    def enter(self, phase: Phase, allowance_s: float = 0.0) -> None:
        """Ends the open phase, if there is one, and opens `phase`. `allowance_s` comes on top of both its limits."""
        now_s = self.clock()
        self._leave(now_s)
        limit = self.limits[phase]
        self.phase = phase
        self.phase_since_s = self.progress_at_s = self.quiet_since_s = now_s
        self.stall_after_s = limit.stall_s + allowance_s
        self.timeout_after_s = limit.timeout_s + allowance_s
        self._gap_s = 0.0

    def progress(self) -> None:
        """Something moved at the socket."""
        now_s = self.clock()
        self._gap_s = max(self._gap_s, now_s - self.progress_at_s)
        if self.stalled:
            self._end_stall(now_s, recovered=True)
        self.progress_at_s = self.quiet_since_s = now_s

    def finish(self) -> None:
        """Ends the open phase, with success."""
        self._leave(self.clock())
        self.phase = None

    def received(self, payload_bytes: int) -> None:
        """Counts payload from the target that was as expected."""
        self.received_bytes += payload_bytes
        self._observer.moved(Direction.TARGET_TO_CLIENT, payload_bytes)

    def sent(self, payload_bytes: int) -> None:
        """Counts payload that the kernel took."""
        self.sent_bytes += payload_bytes
        self._observer.moved(Direction.CLIENT_TO_TARGET, payload_bytes)

    def waits_for(self, descriptor: int, poll_for: int) -> None:
        """Says which socket the transaction waits for, and for what (select.POLLIN, POLLOUT); -1: for none."""
        self._descriptor, self._poll_for = descriptor, poll_for

    # ---- called by whoever watches

    @property
    def waits(self) -> bool:
        """Whether the transaction waits for its socket."""
        return self._descriptor >= 0

    @property
    def timeout_since_s(self) -> float:
        """What the timeout of the open phase counts from."""
        return self.progress_at_s if self.phase is Phase.BODY else self.phase_since_s

    @property
    def is_near_stall(self) -> bool:
        """Whether more than half of the stall limit has gone by in silence; an allowance does not count."""
        if self.phase is None:
            return False
        return self.clock() - self.quiet_since_s > self.stall_after_s - self.limits[self.phase].stall_s / 2

    @property
    def has_unread_input(self) -> bool:
        """Whether the kernel has what the transaction waits for, so that it is the generator that is behind."""
        if not self.waits:
            return False
        poll = select.poll()
        poll.register(self._descriptor, self._poll_for)
        return bool(poll.poll(0))

    def stall(self) -> None:
        """The onset of a stall."""
        assert self.phase is not None
        self.stalled = True
        self.stalls += 1
        self._observer.stalled(self, self.phase)

    def excuse(self, now_s: float, lag_s: float) -> None:
        """The phase was quiet because the generator did not run: it gets its stall limit once more."""
        assert self.phase is not None
        self.quiet_since_s = now_s
        self._observer.generator_lagged(self, self.phase, lag_s)

    def time_out(self) -> None:
        """Ends the transaction: its task is cancelled, and `timed_out` says why."""
        assert self.phase is not None
        self.timed_out = self.phase
        self._observer.timed_out(self, self.phase)
        if self.task is not None:
            self.task.cancel()

    def close(self) -> None:
        """Ends the bookkeeping of a transaction that is over, however it ended. An open stall stays unrecovered."""
        if self.stalled:
            self._end_stall(self.clock(), recovered=False)

    # ----

    def _leave(self, now_s: float) -> None:
        if self.phase is None:
            return
        if self.stalled:
            self._end_stall(now_s, recovered=True)
        duration_s = now_s - self.phase_since_s
        if self.phase is Phase.BODY:
            duration_s = max(self._gap_s, now_s - self.progress_at_s)
        self._observer.phase_ended(self.phase, duration_s)

    def _end_stall(self, now_s: float, recovered: bool) -> None:
        assert self.phase is not None
        self.stalled = False
        self._observer.stall_ended(self, self.phase, now_s - self.quiet_since_s, recovered)
