"""What the generator makes of marks: windows, the gauge of active faults, and which transactions were touched."""

from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic

from loadgen.faults.plan import Fault
from loadgen.measure.metrics import SoakMetrics
from loadgen.measure.tally import Tally
from loadgen.measure.windows import FaultRecord, Windows
from loadgen.transaction.transaction import Window
from loadgen.transaction.watchdog import Watchdog


class FaultWatch:
    """A listener of `loadgen.faults.marks`."""

    def __init__(
        self, tally: Tally, metrics: SoakMetrics, watchdog: Watchdog, clock: Callable[[], float] = monotonic
    ) -> None:
        self._tally = tally
        self._metrics = metrics
        self._watchdog = watchdog
        self._clock = clock

    @property
    def _windows(self) -> Windows:
        return self._tally.windows

    @property
    def is_over(self) -> bool:
        """Whether every fault has begun and ended, or could not."""
        faults = self._windows.faults.values()
        return all(fault.to_s is not None or (fault.errors and not fault.is_open) for fault in faults)

    @property
    def is_calm(self) -> bool:
        """Whether nothing is broken now."""
        return not self._windows.open

    def planned(self, faults: Sequence[Fault]) -> None:
        self._windows.plan(
            FaultRecord(
                fault.name,
                fault.kind,
                fault.program,
                fault.recovery_s or 0.0,
                fault.at_s,
                fault.for_s,
                fault.conditions(),
            )
            for fault in faults
        )

    def began(self, name: str) -> None:
        self._windows.began(name, self._now_s())
        fault = self._windows.faults[name]
        for transaction in self._watchdog.watched:
            fault.touched += 1
            if not (transaction.stalled or transaction.is_near_stall):
                transaction.window, transaction.excused_at_s = Window.FAULT, self._clock()
        self._show()

    def healed(self, name: str) -> None:
        self._windows.healed(name, self._now_s())
        self._show()

    def failed(self, name: str, reason: str) -> None:
        self._windows.failed(name, reason)

    def misbehaved(self, name: str, reason: str) -> None:
        self._windows.misbehaved(name, reason)

    def _now_s(self) -> float:
        return self._tally.since_begin_s(self._clock())

    def _show(self) -> None:
        active = Counter(fault.kind for fault in self._windows.open)
        for kind, gauge in self._metrics.fault_active.items():
            gauge.set(active[kind])
