"""Packet numbers of the model engine, out and in: loss detection, acknowledgements (RFC 9002; RFC 9000 section 13.2).

Rules:
- Lost is a packet with three acknowledged behind it, and everything in flight when the probe timeout fires.
- A lost packet's record stays for a while: its acknowledgement may only be late.
- An acknowledgement is due with every second packet that asks for one, or 10 ms after the first.
"""

from dataclasses import dataclass, field

from tests.sim.model_packets import AckFrame
from tests.sim.model_streams import Ranges

from tunnel.engine.port import Packets

INITIAL_RTT_S = 0.1
ACK_DELAY_S = 0.01
ACK_EVERY = 2
REORDER_PACKETS = 3
LATE_PACKETS = 1000
MAX_ACK_RANGES = 24

NEVER = float("inf")

Key = tuple[str, int]
"""A control frame that is owed: its kind and, where it has one, its stream."""
Piece = tuple[int, int, int, bool]
"""Of a stream: its number, from, to, and whether the end was with it."""


@dataclass(slots=True)
class Sent:
    """What a packet carried that asks for an acknowledgement."""

    at: float
    size: int = 0
    in_flight: bool = True
    keys: list[Key] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)


class Recovery:
    """The packets that were sent."""

    def __init__(self, packets: Packets) -> None:
        self.in_flight_bytes = 0
        self._packets = packets
        self.rtt_s = INITIAL_RTT_S
        self._variation_s = INITIAL_RTT_S / 2
        self._sent: dict[int, Sent] = {}
        self._largest_acked = -1
        self._last_at = 0.0
        self._timeouts = 0

    def on_sent(self, number: int, sent: Sent) -> None:
        self._sent[number] = sent
        self._last_at = sent.at
        self.in_flight_bytes += sent.size

    def on_ack(self, ranges: tuple[tuple[int, int], ...], now: float) -> tuple[list[Sent], list[Sent]]:
        """What arrived, and what counts as lost now."""
        newest = ranges[-1][1] - 1
        if newest in self._sent:
            self._note_rtt(now - self._sent[newest].at)
        self._largest_acked = max(self._largest_acked, newest)
        arrived = [self._take(number) for number in self._numbers_in(ranges)]
        if arrived:
            self._timeouts = 0
        lost = []
        for number in list(self._sent):
            if number > self._largest_acked - REORDER_PACKETS:
                break
            if self._sent[number].in_flight:
                lost.append(self._lose(self._sent[number]))
            elif number < self._largest_acked - LATE_PACKETS:
                del self._sent[number]
        return arrived, lost

    def on_probe(self) -> list[Sent]:
        """The probe timeout fired: all that is in flight counts as lost."""
        self._timeouts += 1
        return [self._lose(sent) for sent in self._sent.values() if sent.in_flight]

    def probe_at(self) -> float:
        if not self.in_flight_bytes:
            return NEVER
        backoff: int = 2**self._timeouts
        return self._last_at + (self.rtt_s + 4 * self._variation_s + ACK_DELAY_S) * backoff

    def _numbers_in(self, ranges: tuple[tuple[int, int], ...]) -> list[int]:
        found, at = [], 0
        for number in self._sent:
            while at < len(ranges) and ranges[at][1] <= number:
                at += 1
            if at == len(ranges):
                break
            if ranges[at][0] <= number:
                found.append(number)
        return found

    def _take(self, number: int) -> Sent:
        sent = self._sent.pop(number)
        if sent.in_flight:
            self.in_flight_bytes -= sent.size
        return sent

    def _lose(self, sent: Sent) -> Sent:
        sent.in_flight = False
        self.in_flight_bytes -= sent.size
        self._packets.lost += 1
        return sent

    def _note_rtt(self, sample_s: float) -> None:
        self._variation_s = 0.75 * self._variation_s + 0.25 * abs(self.rtt_s - sample_s)
        self.rtt_s = 0.875 * self.rtt_s + 0.125 * sample_s


class Acknowledger:
    """The packets that came in."""

    def __init__(self) -> None:
        self.due_at = NEVER
        self._numbers = Ranges()
        self._floor = 0
        self._waiting = 0

    @property
    def largest(self) -> int:
        return self._numbers.items[-1][1] - 1 if self._numbers else -1

    def is_new(self, number: int) -> bool:
        return number >= self._floor and number not in self._numbers

    def note(self, number: int) -> None:
        self._numbers.add(number, number + 1)
        while len(self._numbers.items) > 4 * MAX_ACK_RANGES:
            self._floor = self._numbers.items.pop(0)[1]

    def ask(self, now: float) -> None:
        """A packet that came in wants an acknowledgement."""
        self._waiting += 1
        self.due_at = min(self.due_at, now if self._waiting >= ACK_EVERY else now + ACK_DELAY_S)

    def take(self) -> AckFrame | None:
        """The frame to send along with whatever is being sent."""
        if not self._waiting:
            return None
        self._waiting = 0
        self.due_at = NEVER
        return AckFrame(tuple(self._numbers.items[-MAX_ACK_RANGES:]))
