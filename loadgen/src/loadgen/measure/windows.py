"""Quiet, fault, recovery: in which time a transaction belongs, so that each can be held to thresholds of its own.

Rules
- A fault window lasts from the moment a fault is announced until it has healed; a recovery window from there for the
  bound that is published for it. Everything else is quiet. Where they overlap, fault goes before recovery.
- A transaction belongs to the window of its scheduled start; but one that was under way, and not stalled or near it,
  when a fault began belongs to the fault: what happened to it after that is the fault's doing. One that was in trouble
  already stays where it was.
- A fault excuses what it touched, if that fails before its recovery is over. What fails later is late, whatever other
  fault is open by then.
- Times are seconds since the load began, as they were and not as they were planned.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from loadgen.transaction.transaction import Window


@dataclass(slots=True)
class FaultRecord:
    """One fault, as it went."""

    name: str
    kind: str
    program: str | None
    recovery_s: float
    at_s: float = 0.0
    for_s: float | None = None
    conditions: Mapping[str, float | str] = field(default_factory=dict)
    """As planned; what follows is how it was."""
    from_s: float | None = None
    to_s: float | None = None
    errors: list[str] = field(default_factory=list)
    """Why it could not be done, or not be undone."""
    misbehaved: list[str] = field(default_factory=list)
    """What the program that suffered it did not do as it should: it had to be killed, or failed as it ended."""
    touched: int = 0
    """Transactions that were due or under way in its window or its recovery."""

    @property
    def is_open(self) -> bool:
        return self.from_s is not None and self.to_s is None

    def is_recovering(self, at_s: float) -> bool:
        return self.to_s is not None and at_s < self.to_s + self.recovery_s


class Windows:
    """The faults of one run, and what they make of its time."""

    def __init__(self) -> None:
        self.faults: dict[str, FaultRecord] = {}
        self.are_planned = False
        """Whether anybody has said which faults there are."""
        self.quiet_since_last = 0
        """Transactions that were due in quiet time, since the last fault began."""

    def plan(self, faults: Iterable[FaultRecord]) -> None:
        self.faults = {fault.name: fault for fault in faults}
        self.are_planned = True

    @property
    def open(self) -> Sequence[FaultRecord]:
        """The faults that last."""
        return [fault for fault in self.faults.values() if fault.is_open]

    def began(self, name: str, at_s: float) -> None:
        self.faults[name].from_s = at_s
        self.quiet_since_last = 0

    def healed(self, name: str, at_s: float) -> None:
        self.faults[name].to_s = at_s

    def failed(self, name: str, reason: str) -> None:
        self.faults[name].errors.append(reason)

    def misbehaved(self, name: str, reason: str) -> None:
        self.faults[name].misbehaved.append(reason)

    def at(self, at_s: float) -> Window:
        """What kind of time it is now, at `at_s`."""
        if self.open:
            return Window.FAULT
        return Window.RECOVERY if any(fault.is_recovering(at_s) for fault in self.faults.values()) else Window.QUIET

    def of_due(self, due_s: float) -> Window:
        """The window of a transaction that is due now; each is asked for once, and counted."""
        for fault in self.faults.values():
            fault.touched += fault.is_open or fault.is_recovering(due_s)
        window = self.at(due_s)
        self.quiet_since_last += window is Window.QUIET
        return window

    def excuses(self, touched_s: float, failed_s: float) -> bool:
        """Whether a fault that was open, or not over yet, at `touched_s` excuses a failure at `failed_s`."""
        return any(
            fault.from_s <= touched_s and (fault.is_open or failed_s < (fault.to_s or 0.0) + fault.recovery_s)
            for fault in self.faults.values()
            if fault.from_s is not None and (fault.is_open or fault.is_recovering(touched_s))
        )

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
