"""Fault plans: what is broken when, as a TOML file. One plan fits both stacks, the local one and the one in containers.

    recovery_s = 5                # so long after a fault has healed, failures are still excused: the published bound

    [[fault]]
    kind = "blackhole"            # nothing gets through the link
    at_s = 5                      # from the begin of the load
    for_s = 3

    [[fault]]
    kind = "kill"                 # SIGKILL; started again after for_s
    program = "proxy-server"
    at_s = 20
    for_s = 1
    recovery_s = 10               # of this fault

Rules
- `KINDS` is the table of what there is: whether the link does it or a program suffers it, and which fields it takes.
- A fault has a name of its own: the one it is given, or its kind, numbered from the second one on.
- A fault that changes nothing (a loss of 0) is refused: it would pass for one that did no harm.
- Faults of the link may overlap: where they say different things of one field, the one that began last wins. A program
  suffers one fault at a time.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from functools import cached_property
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from loadgen import toml_file
from loadgen.link.plan import Conditions, Direction, Window
from loadgen.stack_api import PROGRAMS

RECOVERY_S = 5.0

LINK = "link"


@unique
class Kind(StrEnum):
    """What can be broken. The value is the metric label."""

    DELAY = "delay"
    JITTER = "jitter"
    LOSS = "loss"
    REORDER = "reorder"
    DUPLICATE = "duplicate"
    BLACKHOLE = "blackhole"
    THROTTLE = "throttle"
    REBIND = "rebind"
    PAUSE = "pause"
    KILL = "kill"
    RESTART = "restart"
    DRAIN = "drain"
    DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a kind of fault takes besides `at_s`, `name` and `recovery_s`."""

    summary: str
    conditions: tuple[str, ...] = ()
    """Fields of the link's conditions: the first is needed, the others may be there."""
    of_program: bool = False
    lasts: bool = True
    """Whether `for_s` says how long. Otherwise the fault is over when it is done."""

    @property
    def of_link(self) -> bool:
        return not self.of_program


KINDS: Mapping[Kind, Shape] = {
    Kind.DELAY: Shape("the link takes longer", ("delay_ms",)),
    Kind.JITTER: Shape("the link's delay varies", ("jitter_ms",)),
    Kind.LOSS: Shape("the link loses datagrams", ("loss",)),
    Kind.REORDER: Shape("datagrams overtake each other", ("reorder", "reorder_ms")),
    Kind.DUPLICATE: Shape("datagrams arrive twice", ("duplicate",)),
    Kind.BLACKHOLE: Shape("nothing gets through the link"),
    Kind.THROTTLE: Shape("the link is slow", ("rate_mbit_s", "queue_ms")),
    Kind.REBIND: Shape("the client's address changes, as behind a NAT that forgot", lasts=False),
    Kind.PAUSE: Shape("a program stands still (SIGSTOP, SIGCONT)", of_program=True),
    Kind.KILL: Shape("a program dies (SIGKILL) and is started again", of_program=True),
    Kind.RESTART: Shape("a program is stopped at once and started again", of_program=True, lasts=False),
    Kind.DRAIN: Shape("a program drains (SIGTERM), ends by itself, and is started again", of_program=True, lasts=False),
    Kind.DISCONNECT: Shape("a container leaves the network (stack compose)", of_program=True),
}


class Fault(Conditions):
    """One fault. `for_s` counts from `at_s`; what has to be started again is healed when it is ready again."""

    kind: Kind
    at_s: float = Field(ge=0, le=1e6)
    for_s: float | None = Field(None, gt=0, le=1e6)
    name: str = Field("", max_length=60, pattern=r"^[A-Za-z0-9 _.-]*$")
    program: str | None = None
    direction: Direction | None = None
    recovery_s: float | None = Field(None, ge=0, le=3600)

    @model_validator(mode="after")
    def _takes_what_its_kind_takes(self) -> Self:
        shape = KINDS[self.kind]
        given = {name for name in Conditions.model_fields if getattr(self, name) is not None}
        if shape.conditions and shape.conditions[0] not in given:
            raise ValueError(f"{self.kind} needs {shape.conditions[0]}")
        if strange := given - set(shape.conditions):
            raise ValueError(f"{self.kind} does not take {', '.join(sorted(strange))}")
        if shape.of_program and self.program not in PROGRAMS:
            raise ValueError(f"{self.kind} needs program, one of {', '.join(PROGRAMS)}; it is {self.program!r}")
        if shape.of_link and self.program is not None:
            raise ValueError(f"{self.kind} is of the link and takes no program")
        if self.direction is not None and (shape.of_program or self.kind is Kind.REBIND):
            raise ValueError(f"{self.kind} takes no direction")
        if nothing := [name for name in given if not 0 < getattr(self, name) < math.inf]:
            raise ValueError(f"{self.kind} with {nothing[0]} = {getattr(self, nothing[0]):g} changes nothing")
        if (self.for_s is not None) is not shape.lasts:
            raise ValueError(f"{self.kind} {'needs' if shape.lasts else 'does not take'} for_s")
        return self

    @property
    def ends_s(self) -> float:
        """When it is over, as planned."""
        return self.at_s + (self.for_s or 0.0)

    @property
    def suffers(self) -> str:
        """The program that it is about."""
        return self.program or LINK

    def conditions(self) -> dict[str, float | str]:
        """How strong it is, and in which direction: what was said of it."""
        said = {name: getattr(self, name) for name in (*Conditions.model_fields, "direction")}
        return {name: value for name, value in said.items() if value is not None}

    def window(self) -> Window:
        """What the link does while it lasts."""
        blackhole = True if self.kind is Kind.BLACKHOLE else None
        return Window.model_validate({"from_s": 0, "blackhole": blackhole, **self.conditions()})


class FaultPlan(BaseModel):
    """All faults of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recovery_s: float = Field(RECOVERY_S, ge=0, le=3600)
    fault: tuple[Fault, ...] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _one_fault_a_program_at_a_time(self) -> Self:
        for fault in self.fault:
            for other in self.fault:
                if other is not fault and _meets(other, fault) and fault.at_s <= other.at_s <= fault.ends_s:
                    raise ValueError(
                        f"{other.kind} of {other.suffers} at {other.at_s:g} s begins before the {fault.kind} of"
                        f" {fault.suffers} is over"
                    )
        names = [fault.name for fault in self.faults]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two faults have the name {sorted(twice)[0]}")
        return self

    @cached_property
    def faults(self) -> tuple[Fault, ...]:
        """In order of time, each with a name and a bound of its recovery."""
        named = []
        seen: dict[str, int] = {}
        for fault in sorted(self.fault, key=lambda fault: fault.at_s):
            seen[fault.kind] = number = seen.get(fault.kind, 0) + 1
            name = fault.name or (fault.kind if number == 1 else f"{fault.kind} {number}")
            recovery_s = self.recovery_s if fault.recovery_s is None else fault.recovery_s
            named.append(fault.model_copy(update={"name": str(name), "recovery_s": recovery_s}))
        return tuple(named)

    @property
    def lasts_s(self) -> float:
        """From the begin of the load until the last planned recovery is over."""
        return max(fault.ends_s + (fault.recovery_s or 0.0) for fault in self.faults)

    @property
    def needs_link(self) -> bool:
        return any(fault.suffers == LINK for fault in self.fault)


def _meets(one: Fault, other: Fault) -> bool:
    """Whether two faults must not be open together: of one program; but what the link does adds up."""
    return one.suffers == other.suffers and (one.program is not None or other.program is not None)


def read(path: Path) -> FaultPlan:
    """Reads a plan from a TOML file. Raises UnusableFileError."""
    return toml_file.read(path, FaultPlan)
