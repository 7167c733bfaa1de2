"""The plan of a link: what happens to a datagram, as a function of the time of its arrival.

Rules
- Times count in seconds from the moment the link listens.
- A plan is a base and windows `[[at]]`. A window overrides only the fields it names; where windows overlap, the later
  in the file wins, field by field.
- What holds is decided at arrival: a datagram that is already under way is not touched by a window that opens.
- `rate_mbit_s` is a throttle of each direction, in megabits of payload a second; `inf` in a window lifts the base's.
- `queue_ms` is how much may wait in front of the throttle, besides the datagram that is being sent, told as the time
  that it takes at the rate: at 100 Mbit/s, 8 ms are 100,000 bytes. A shallow queue is less than the path's round trip.
- `rebind_at_s` are moments at which every flow gets a new source port towards the server, as behind a NAT that forgot.
- A plan read again while the link runs replaces the one before; its times count from the same moment.
- A new kind of impairment is a field of `Conditions` (what can be written) and of `Impairment` (what holds).

A plan file:

    delay_ms = 10
    rebind_at_s = [12.5]

    [[at]]
    from_s = 5
    to_s = 8
    loss = 0.05
    rate_mbit_s = 2

    [[at]]
    from_s = 20
    to_s = 22
    direction = "server_to_client"
    blackhole = true
"""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from loadgen import toml_file


class Direction(StrEnum):
    """Which way a datagram goes; `client` is whoever sends to the link, `server` is its upstream."""

    CLIENT_TO_SERVER = "client_to_server"
    SERVER_TO_CLIENT = "server_to_client"


@dataclass(frozen=True, slots=True)
class Impairment:
    """What holds between two edges of the plan: times one way, probabilities (0 to 1) of each segment."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.005
    duplicate: float = 0.0
    rate_mbit_s: float = math.inf
    queue_s: float = 0.2
    """The queue in front of a throttle, in time: a few round trips, as the buffer of a router has it."""
    blackhole: bool = False

    @property
    def splits(self) -> bool:
        """Whether segments of one buffer can meet different fates."""
        return self.loss > 0 or self.reorder > 0 or self.duplicate > 0

    @property
    def throttles(self) -> bool:
        return self.rate_mbit_s < math.inf


class Conditions(BaseModel):
    """What can be written in a plan or given by flags; None leaves what holds already."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delay_ms: float | None = Field(None, ge=0, le=60_000, description="delay one way, in milliseconds")
    jitter_ms: float | None = Field(
        None, ge=0, le=60_000, description="the delay varies by up to this much, in milliseconds; order is kept"
    )
    loss: float | None = Field(None, ge=0, le=1, description="probability that a datagram is lost")
    reorder: float | None = Field(None, ge=0, le=1, description="probability that later datagrams overtake one")
    reorder_ms: float | None = Field(
        None, gt=0, le=60_000, description="how much later an overtaken datagram arrives, in milliseconds (5)"
    )
    duplicate: float | None = Field(None, ge=0, le=1, description="probability that a datagram arrives twice")
    rate_mbit_s: float | None = Field(
        None, ge=0.01, description="throttle of each direction, in megabits of payload a second (none)"
    )
    queue_ms: float | None = Field(
        None, gt=0, le=60_000, description="what waits for the throttle for longer is dropped, in milliseconds (200)"
    )

    def over(self, below: Impairment) -> Impairment:
        """Returns what holds when these conditions are laid over `below`."""
        return Impairment(
            delay_s=below.delay_s if self.delay_ms is None else self.delay_ms / 1000,
            jitter_s=below.jitter_s if self.jitter_ms is None else self.jitter_ms / 1000,
            loss=below.loss if self.loss is None else self.loss,
            reorder=below.reorder if self.reorder is None else self.reorder,
            reorder_s=below.reorder_s if self.reorder_ms is None else self.reorder_ms / 1000,
            duplicate=below.duplicate if self.duplicate is None else self.duplicate,
            rate_mbit_s=below.rate_mbit_s if self.rate_mbit_s is None else self.rate_mbit_s,
            queue_s=below.queue_s if self.queue_ms is None else self.queue_ms / 1000,
            blackhole=below.blackhole,
        )


class Window(Conditions):
    """Conditions that hold from `from_s` (inclusive) to `to_s` (exclusive; for ever by default)."""

    from_s: float = Field(ge=0)
    to_s: float = Field(math.inf, gt=0)
    direction: Direction | None = Field(None, description="both by default")
    blackhole: bool | None = Field(None, description="nothing arrives")

    def over(self, below: Impairment) -> Impairment:
        return replace(
            Conditions.over(self, below), blackhole=below.blackhole if self.blackhole is None else self.blackhole
        )

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if self.to_s <= self.from_s:
            raise ValueError(f"to_s is {self.to_s:g}; it has to be later than from_s ({self.from_s:g})")
        return self


class Plan(Conditions):
    """The whole plan: base conditions, windows, and moments of a NAT rebind."""

    at: tuple[Window, ...] = ()
    rebind_at_s: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] = ()

    def overridden(self, flags: Conditions, windows: Iterable[Window] = ()) -> "Plan":
        """Returns this plan with a base changed by flags, and more windows behind its own."""
        base = {name: getattr(self, name) for name in Conditions.model_fields}
        given = {name: value for name in base if (value := getattr(flags, name)) is not None}
        return Plan(**{**base, **given}, at=(*self.at, *windows), rebind_at_s=self.rebind_at_s)


def read(path: Path) -> Plan:
    """Reads a plan from a TOML file. Raises UnusableFileError."""
    return toml_file.read(path, Plan)


class Timeline:
    """The plan of one direction, cut into stretches in which one impairment holds."""

    def __init__(self, plan: Plan, direction: Direction) -> None:
        windows = [window for window in plan.at if window.direction in (None, direction)]
        edges = {0.0, *(window.from_s for window in windows), *(window.to_s for window in windows)} - {math.inf}
        self._edges_s = sorted(edges)
        self._stretches = [_impairment(plan, windows, start_s) for start_s in self._edges_s]

    def at(self, now_s: float) -> tuple[Impairment, float]:
        """Returns what holds at `now_s`, and until when (infinity after the last edge)."""
        index = max(bisect_right(self._edges_s, now_s) - 1, 0)
        until_s = self._edges_s[index + 1] if index + 1 < len(self._edges_s) else math.inf
        return self._stretches[index], until_s


def _impairment(plan: Plan, windows: list[Window], at_s: float) -> Impairment:
    holds = plan.over(Impairment())
    for window in windows:
        if window.from_s <= at_s < window.to_s:
            holds = window.over(holds)
    return holds
