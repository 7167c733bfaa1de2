"""What every hop says of the ends of streams at one moment, and which hop does not add up.

The way of an end, and who counts it:

    http-target ──▶ proxy-server ──▶ proxy-client ──▶ application      target_to_client
    application ──▶ proxy-client ──▶ proxy-server ──▶ http-target      client_to_target

Rules
- The proxies' own counts are exact; `measure.ledger` judges them.
- An application that has left without its end has every proxy give the stream up, and then nothing is open any more.
  So the application is asked too: it says how many ends it misses. (How many it got means nothing: it waits for an end
  only where a response needs one.)
- An end that is missed was lost at the first step of its way at which as many ends disappear; where there is none,
  behind the proxy that says it handed them over.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from loadgen.measure.ledger import Ends, Imbalance, diagnose

DOWN = "target_to_client"


class Step(NamedTuple):
    """Of the way of an end; `gone` of them have not made it."""

    hop: str
    done: str
    due: str
    gone: int


@dataclass(frozen=True, slots=True)
class Books:
    """Counts since the programs began, or over a time. None: nobody says."""

    ends: Ends
    """hop (proxy) -> direction -> event -> number of ends"""
    target: Mapping[str, int] | None = None
    """http-target's ends: received, sent"""
    missed: int | None = None
    """Ends that the generator's transactions waited for in vain, or wait for now after a stall."""
    restarted: frozenset[str] = frozenset()
    """Programs that began anew meanwhile: their counts say nothing."""
    silent: tuple[str, ...] = ()
    """Programs that did not answer."""

    @property
    def judged(self) -> bool:
        """Whether there is anything to judge."""
        return bool(set(self.ends) - self.restarted)

    def imbalances(self) -> tuple[Imbalance, ...]:
        """Every hop that does not add up."""
        open_or_not = diagnose(self.ends, self.restarted)
        if self.missed is None or self.missed <= 0 or any(one.is_open and one.direction == DOWN for one in open_or_not):
            return open_or_not
        server, client = (self.ends.get(proxy, {}).get(DOWN) for proxy in ("proxy-server", "proxy-client"))
        if self.restarted or server is None or client is None:
            return open_or_not
        return (*open_or_not, self._missed(server, client, self.missed))

    def _missed(self, server: Mapping[str, int], client: Mapping[str, int], missed: int) -> Imbalance:
        steps = [
            Step("proxy-server", "received", "forwarded", server["received"] - server["forwarded"]),
            Step("proxy-server -> proxy-client", "forwarded", "received", server["forwarded"] - client["received"]),
            Step("proxy-client", "received", "forwarded", client["received"] - client["forwarded"]),
            Step("proxy-client -> application", "handed over", "received", missed),
        ]
        if self.target is not None:
            sent = self.target["sent"]
            steps.insert(0, Step("http-target -> proxy-server", "sent", "received", sent - server["received"]))
        step = next(step for step in steps if step.gone >= missed)
        number = "1 end of stream was" if missed == 1 else f"{missed} ends of stream were"
        text = f"{number} {step.done} and never {step.due} at {step.hop}, and the application misses them ({DOWN})"
        return Imbalance(DOWN, step.hop, step.done, step.due, missed, 0, text)
