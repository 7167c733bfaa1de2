"""What the FIN ledger says: which ends of stream got lost, on which hop, in which direction.

A clean end is counted at each program: received, forwarded, confirmed (the far application has it), or abandoned
(the stream was given up before that); some only by the rescue. At rest

    received = confirmed + abandoned                      within a program
    forwarded here = received there                       between the proxies

Rules
- One lost end is one imbalance, told where it happened: what never arrived there, or is kept there, cannot be confirmed
  here.
- An end that is missing between the proxies and was given up is named, but is no open question: an application that
  leaves and a connection that dies leave the same mark as an end that was lost. What the application saw decides.
- An end that only the rescue brought through is received like any other.
- A program that was restarted has forgotten what it counted: neither it nor the hop next to it is judged.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Ends = Mapping[str, Mapping[str, Mapping[str, int]]]
"""hop (program) -> direction -> event -> number of ends"""

WAY = {
    "client_to_target": ("proxy-client", "proxy-server", "from client to server"),
    "target_to_client": ("proxy-server", "proxy-client", "from server to client"),
}
"""direction -> who sends it through the tunnel, who receives it there, and how to say it"""


@dataclass(frozen=True, slots=True)
class Imbalance:
    """Ends that one count has and the next one has not; `missing` is negative where the next one has more."""

    direction: str
    hop: str
    """A program, or `FROM -> TO` for the way between two."""
    from_event: str
    to_event: str
    missing: int
    given_up: int
    """So many of them nobody waits for any more."""
    text: str

    @property
    def is_open(self) -> bool:
        """Whether it cannot come from streams that were given up: then a count is wrong, or an end is forgotten."""
        return self.missing != self.given_up


@dataclass(frozen=True, slots=True)
class Count:
    """What one program counted in one direction, and what follows from it."""

    received: int = 0
    forwarded: int = 0
    confirmed: int = 0
    rescued: int = 0
    abandoned: int = 0

    @property
    def stuck(self) -> int:
        """Received, not forwarded, and not given up either."""
        gap = self.received - self.forwarded
        return gap - min(max(gap, 0), self.abandoned)

    @property
    def abandoned_later(self) -> int:
        """Forwarded first, then given up."""
        return self.abandoned - min(max(self.received - self.forwarded, 0), self.abandoned)

    @property
    def unconfirmed(self) -> int:
        """Forwarded, not confirmed, and not given up either."""
        return self.forwarded - self.confirmed - self.abandoned_later


def diagnose(ends: Ends, restarted: frozenset[str] = frozenset()) -> tuple[Imbalance, ...]:
    """Every imbalance; a program that was restarted during the run is not judged."""
    counts = {
        (hop, direction): Count(**events)
        for hop, directions in ends.items()
        if hop not in restarted
        for direction, events in directions.items()
    }
    return tuple(imbalance for direction in WAY for imbalance in _diagnose(direction, counts))


def _diagnose(direction: str, counts: Mapping[tuple[str, str], Count]) -> Iterator[Imbalance]:
    sender, receiver, _ = WAY[direction]
    here, there = counts.get((sender, direction)), counts.get((receiver, direction))
    lost = _between(direction, here, there) if here is not None and there is not None else None
    if lost is not None:
        yield lost
    never_arrived = max(lost.missing - lost.given_up, 0) if lost is not None else 0
    kept_there = max(there.received - there.confirmed - there.abandoned, 0) if there is not None else 0
    for (hop, way), count in counts.items():
        if way == direction:
            yield from _within(direction, hop, count, never_arrived + kept_there if hop == sender else 0)


def _between(direction: str, here: Count, there: Count) -> Imbalance | None:
    sender, receiver, way = WAY[direction]
    missing = here.forwarded - there.received
    if missing == 0:
        return None
    given_up = min(max(missing, 0), max(here.abandoned_later, 0))
    text = (
        f"{_ends(missing)} lost between {sender} and {receiver}, on the way {way} ({direction})"
        + _waiting(missing, given_up)
        if missing > 0
        else f"{_ends(-missing)} received by {receiver} that {sender} did not send ({direction})"
    )
    return Imbalance(direction, f"{sender} -> {receiver}", "forwarded", "received", missing, given_up, text)


def _waiting(missing: int, given_up: int) -> str:
    if given_up == 0:
        return ""
    return "; nobody waits for them any more" if given_up == missing else f"; {missing - given_up} are still waited for"


def _within(direction: str, hop: str, count: Count, explained: int) -> Iterator[Imbalance]:
    """`explained` ends are not confirmed because of what is told of elsewhere."""
    _, _, way = WAY[direction]
    for from_event, to_event, missing in (
        ("received", "forwarded", count.stuck),
        ("forwarded", "confirmed", count.unconfirmed - min(max(count.unconfirmed, 0), explained)),
    ):
        if missing:
            done, due = (from_event, to_event) if missing > 0 else (to_event, from_event)
            text = f"{_ends(abs(missing))} {done} and never {due} at {hop}, on the way {way} ({direction})"
            yield Imbalance(direction, hop, from_event, to_event, missing, 0, text)


def _ends(number: int) -> str:
    return "1 end of stream was" if number == 1 else f"{number} ends of stream were"
