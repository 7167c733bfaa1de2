"""Quiet, fault, recovery: in which time a transaction belongs, so that each can be held to thresholds of its own.

Rules
- A fault window lasts from the moment a fault is announced until it has healed; a recovery window from there for the
  bound that is published for it. Everything else is quiet. Where they overlap, fault goes before recovery.
- A transaction belongs to the window of its scheduled start; but one that was under way, and not stalled, when a
  fault began belongs to the fault: what happened to it after that is the fault's doing. One that was stalled already
  stays where it was.
- Times are seconds since the load began, as they were and not as they were planned.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from loadgen.transaction.transaction import Window


@dataclass(slots=True)
class FaultRecord:
    """One fault, as it went."""

    name: str
    kind: str
    program: str | None
    recovery_s: float
    from_s: float | None = None
    to_s: float | None = None
    errors: list[str] = field(default_factory=list)
    touched: int = 0
    """Transactions that were due or under way in its window."""

    @property
    def is_open(self) -> bool:
        return self.from_s is not None and self.to_s is None

    def is_recovering(self, at_s: float) -> bool:
        return self.to_s is not None and at_s < self.to_s + self.recovery_s


class Windows:
    """The faults of one run, and what they make of its time."""

    def __init__(self) -> None:
        self.faults: dict[str, FaultRecord] = {}

    def plan(self, faults: Iterable[FaultRecord]) -> None:
        self.faults = {fault.name: fault for fault in faults}

    @property
    def open(self) -> Sequence[FaultRecord]:
        """The faults that last."""
        return [fault for fault in self.faults.values() if fault.is_open]

    def began(self, name: str, at_s: float) -> None:
        self.faults[name].from_s = at_s

    def healed(self, name: str, at_s: float) -> None:
        self.faults[name].to_s = at_s

    def failed(self, name: str, reason: str) -> None:
        self.faults[name].errors.append(reason)

    def at(self, at_s: float) -> Window:
        """The window of a transaction that is due now, at `at_s`; counted as touched by every fault that is open."""
        is_open = False
        for fault in self.faults.values():
            if fault.is_open:
                fault.touched += 1
                is_open = True
        if is_open:
            return Window.FAULT
        return Window.RECOVERY if any(fault.is_recovering(at_s) for fault in self.faults.values()) else Window.QUIET

    def seconds(self, until_s: float) -> dict[Window, float]:
        """How long each kind of time lasted, up to `until_s`."""
        begun = [fault for fault in self.faults.values() if fault.from_s is not None]
        faults = [(fault.from_s or 0.0, _or(fault.to_s, until_s)) for fault in begun]
        disturbed = [
            (fault.from_s or 0.0, until_s if fault.to_s is None else fault.to_s + fault.recovery_s) for fault in begun
        ]
        in_fault_s, disturbed_s = _covered_s(faults, until_s), _covered_s(disturbed, until_s)
        return {
            Window.QUIET: until_s - disturbed_s,
            Window.FAULT: in_fault_s,
            Window.RECOVERY: disturbed_s - in_fault_s,
        }


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _covered_s(stretches: Iterable[tuple[float, float]], until_s: float) -> float:
    """The length of the union of stretches, up to `until_s`."""
    total_s, reached_s = 0.0, 0.0
    for from_s, to_s in sorted(stretches):
        total_s += max(min(to_s, until_s) - max(from_s, reached_s), 0.0)
        reached_s = max(reached_s, min(to_s, until_s))
    return total_s
