"""What every hop says of the ends of streams at one moment, and which hop does not add up.

The way of an end, and who counts it:

    http-target ──▶ proxy-server ──▶ proxy-client ──▶ application      target_to_client
    application ──▶ proxy-client ──▶ proxy-server ──▶ http-target      client_to_target

Rules
- Under load a count is ahead of the next one, and programs are not read at the same instant. So an end that hangs is
  not found by subtracting counts: each proxy says how many of its ends are overdue, and after which step.
- An application that has left without its end has every proxy give the stream up, and then nothing is overdue any more.
  So the application is asked too: it says how many ends it misses. (How many it got means nothing: it waits for an end
  only where a response needs one.)
- An end that is missed was lost at a step of its way at which as many ends disappear; where there is none, behind the
  proxy that says it handed them over. Where several steps could be it, all of them are named.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from loadgen.measure.ledger import WAY

DOWN = "target_to_client"
OVERDUE = "overdue"
SERVER, CLIENT, TARGET, GENERATOR = "proxy-server", "proxy-client", "http-target", "loadgen"


class Step(NamedTuple):
    """Of the way of an end; `gone` of them have not made it, or `unsure` fewer or more."""

    hop: str
    done: str
    due: str
    gone: int
    unsure: int = 0


class Imbalance(NamedTuple):
    """Ends that got lost or hang. `hop` is a program, or `FROM -> TO` for the way between two."""

    direction: str
    hop: str
    text: str


@dataclass(frozen=True, slots=True)
class Books:
    """Counts since the programs began, or over a time. None: nobody says."""

    ends: Mapping[str, Mapping[str, Mapping[str, int]]]
    """hop (proxy) -> direction -> event -> number of ends"""
    overdue: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    """hop (proxy) -> direction -> last event -> number of ends that hang there now"""
    target: Mapping[str, int] | None = None
    """http-target's ends: received, sent"""
    missed: int | None = None
    """Ends that the generator's transactions waited for in vain, or wait for now after a stall."""
    restarted: frozenset[str] = frozenset()
    """Programs that began later than the time that the counts are about."""
    unsure: int = 0
    """So many ends may have passed between the moments at which two programs were read."""
    silent: tuple[str, ...] = ()
    """Programs that did not answer."""

    @property
    def passed(self) -> int:
        """Ends that the busiest proxy has received on their way to an application."""
        return max((directions.get(DOWN, {}).get("received", 0) for directions in self.ends.values()), default=0)

    @property
    def judged(self) -> bool:
        """Whether there is anything to judge."""
        return bool(self.ends)

    def imbalances(self) -> tuple[Imbalance, ...]:
        """Every hop at which ends hang, and where those were lost that the applications miss."""
        found = tuple(imbalance for direction in WAY for imbalance in self._hanging(direction))
        missed = self.missed or 0
        if missed <= 0 or GENERATOR in self.restarted or any(one.direction == DOWN for one in found):
            return found
        return (*found, *self._missed(missed))

    def _hanging(self, direction: str) -> Iterator[Imbalance]:
        sender, receiver, way = WAY[direction]
        here, there = (self.overdue.get(proxy, {}).get(direction, {}) for proxy in (sender, receiver))
        at_receiver = sum(there.values())
        for hop, count, done, due in (
            (sender, here.get("received", 0), "received", "forwarded"),
            (f"{sender} -> {receiver}", here.get("forwarded", 0) - at_receiver, "forwarded", "received"),
            (receiver, there.get("received", 0), "received", "handed over"),
            (receiver, there.get("forwarded", 0), "handed over", "confirmed"),
        ):
            if count > 0:
                yield Imbalance(
                    direction, hop, f"{_ends(count)} {done} and not {due} yet at {hop}, {way} ({direction})"
                )

    def _missed(self, missed: int) -> Iterator[Imbalance]:
        steps = tuple(self._steps())
        suspects = [step for step in steps if step.gone + step.unsure >= missed] or [
            step for step in steps if step.gone + step.unsure > 0
        ]
        if not suspects:
            suspects = [Step(f"{CLIENT} -> application", "handed over", "received", missed)]
        perhaps = "perhaps " if len(suspects) > 1 else ""
        for step in suspects:
            text = f"{perhaps}{_ends(missed)} {step.done} and never {step.due} at {step.hop}"
            yield Imbalance(DOWN, step.hop, f"{text}, and the application misses them ({DOWN})")

    def _steps(self) -> Iterator[Step]:
        server, client = (self._known(proxy) for proxy in (SERVER, CLIENT))
        if self.target is not None and server and TARGET not in self.restarted:
            gone = self.target["sent"] - server["received"]
            yield Step(f"{TARGET} -> {SERVER}", "sent", "received", gone, self.unsure)
        if server:
            yield Step(SERVER, "received", "forwarded", server["received"] - server["forwarded"])
        if server and client:
            gone = server["forwarded"] - client["received"]
            yield Step(f"{SERVER} -> {CLIENT}", "forwarded", "received", gone, self.unsure)
        if client:
            yield Step(CLIENT, "received", "forwarded", client["received"] - client["forwarded"])

    def _known(self, proxy: str) -> Mapping[str, int]:
        return {} if proxy in self.restarted else self.ends.get(proxy, {}).get(DOWN, {})


def _ends(number: int) -> str:
    return "1 end of stream was" if number == 1 else f"{number} ends of stream were"
