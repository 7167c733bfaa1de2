"""The programs of a stack over time: memory, descriptors, and the FIN ledger of the whole run.

Rules
- A look at the start, one every LOOK_EVERY_S, one at the end. A series keeps at most POINTS of them: when it is full,
  every second one goes and only every second look is kept from there on.
- The ledger adds up increases, as Prometheus does: a program that was restarted began anew at zero. Its ledger says
  nothing then, because what it counted between the last look and its end is not known; nor does that of a program
  which did not answer the first look or the last.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from loadgen.measure.observe import EVENTS, Ledger, Resources, Snapshot, snapshot
from loadgen.stack_api import Stack

LOOK_EVERY_S = 5.0
POINTS = 300


@dataclass(slots=True)
class Series:
    """What one program used."""

    at_s: list[float] = field(default_factory=list)
    used: list[Resources] = field(default_factory=list)


class Sampler:
    """Looks at a stack. Times count from `begin`."""

    def __init__(self, stack: Stack, clock: Callable[[], float] = monotonic) -> None:
        self.ends: Ledger = {}
        self.restarted: set[str] = set()
        self.engines: dict[str, str] = {}
        """The QUIC engine of each side, as far as the programs tell."""
        self.first = self.last = Snapshot({}, {})
        """What was seen first and last."""
        self._stack = stack
        self._clock = clock
        self._began_s = clock()
        self._series: dict[str, Series] = {}
        self._looks = 0
        self._keep_every = 1
        self._seen_ends: Ledger = {}
        self._instances: dict[str, float] = {}

    def begin(self, now_s: float) -> None:
        """The load begins."""
        self._began_s = now_s

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """One look; raises nothing: what does not answer is not known."""
        seen = await snapshot(self._stack.metrics, self._stack.pids)
        self.take(self._clock() - self._began_s, seen)

    def take(self, at_s: float, seen: Snapshot) -> None:
        """Counts what was seen `at_s`."""
        self.first = self.first if self._looks else seen
        self.last = seen
        self.engines |= seen.engines
        self._add_ends(seen)
        if self._looks % self._keep_every == 0:
            for program, used in seen.resources.items():
                series = self._series.setdefault(program, Series())
                series.at_s.append(round(at_s, 1))
                series.used.append(used)
            self._thin()
        self._looks += 1

    @property
    def unjudged(self) -> frozenset[str]:
        """The programs whose ledger says nothing."""
        told = self.first.ends.keys() & self.last.ends.keys() - self.restarted
        return frozenset(self.ends.keys() - told)

    def document(self) -> dict[str, Any]:
        """The series of every program, as `timeline.json` has them."""
        return {
            program: {
                "at_s": series.at_s,
                "rss_bytes": [used.rss_bytes for used in series.used],
                "fds": [used.fds for used in series.used],
            }
            for program, series in sorted(self._series.items())
        }

    def _thin(self) -> None:
        if max((len(series.at_s) for series in self._series.values()), default=0) < POINTS:
            return
        for series in self._series.values():
            del series.at_s[1::2], series.used[1::2]
        self._keep_every *= 2

    def _add_ends(self, seen: Snapshot) -> None:
        for program, instance in seen.instances.items():
            if self._instances.setdefault(program, instance) != instance:
                self._instances[program] = instance
                self.restarted.add(program)
                self._seen_ends[program] = {}
        for hop, directions in seen.ends.items():
            known = hop in self._seen_ends
            old = self._seen_ends.setdefault(hop, {})
            for direction, events in directions.items():
                total = self.ends.setdefault(hop, {}).setdefault(direction, dict.fromkeys(EVENTS, 0))
                for event, number in events.items():
                    if known:  # what there was before the first look is not of this run
                        total[event] += number - old.get(direction, {}).get(event, 0)
            self._seen_ends[hop] = directions


async def stop(task: "asyncio.Task[None]") -> None:
    """Ends a task that runs until it is cancelled. Raises what it raised itself."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
