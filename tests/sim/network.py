"""A virtual network on virtual time: what a path does to datagrams, from a seed.

Rules:
- Nothing here looks at a clock or at the global random generator: the same seed and the same sends give the same
  deliveries.
- Faults are decided for each datagram; datagrams of one `Transmit` that meet none arrive together, as from GRO.
- Parties know their own address. A rebind changes how others see it; what is sent to the old one is lost, as when a
  NAT has forgotten a mapping.
"""

from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

from tunnel.engine.port import Address, Transmit


@dataclass(frozen=True, slots=True)
class Link:
    """A path, the same in both directions. Probabilities are for each datagram."""

    delay_s: float = 0.02
    jitter_s: float = 0.0
    """Each delivery takes up to this much longer; a train of datagrams stays together."""
    loss: float = 0.0
    reorder: float = 0.0
    reorder_by_s: float = 0.03
    duplicate: float = 0.0
    corrupt: float = 0.0
    """One byte is not what it was."""
    mtu_bytes: int = 65_535
    """Longer datagrams disappear, and nobody is told."""


class Delivery(NamedTuple):
    """What arrives at `destination` (a party's own address) from `source` (as it is seen there)."""

    data: bytes
    segment_size: int
    source: Address
    destination: Address


class Network:
    """Takes `Transmit`s, gives `Delivery`s when their time has come. `link` may be changed at any time."""

    def __init__(self, rng: Random, link: Link) -> None:
        self.link = link
        self.unreachable: set[Address] = set()
        """Own addresses of parties that nothing arrives at now: a blackhole, in the direction towards them."""
        self._rng = rng
        self._public: dict[Address, Address] = {}
        self._own: dict[Address, Address] = {}
        self._queue: list[tuple[float, int, Delivery]] = []
        self._count = 0

    def attach(self, own: Address) -> None:
        """An address that is seen by others as it is, until it is rebound."""
        self.rebind(own, own)

    def rebind(self, own: Address, public: Address) -> None:
        """From now on others see `own` as `public`, and reach it there only."""
        self._own.pop(self._public.get(own, own), None)
        self._public[own] = public
        self._own[public] = own

    def send(self, transmit: Transmit, own: Address, now: float) -> None:
        """Decides the fate of each datagram of `transmit`."""
        link, rng, size = self.link, self._rng, transmit.segment_size
        source = self._public[own]
        arrives_at = now + link.delay_s + link.jitter_s * rng.random()
        train = []
        for start in range(0, len(transmit.data), size):
            datagram = transmit.data[start : start + size]
            if len(datagram) > link.mtu_bytes or _happens(rng, link.loss):
                continue
            if _happens(rng, link.corrupt):
                datagram = _with_a_wrong_byte(datagram, rng)
            if _happens(rng, link.duplicate):
                later = arrives_at + link.reorder_by_s * rng.random()
                self._put(later, Delivery(datagram, len(datagram), source, transmit.address))
            if _happens(rng, link.reorder):
                later = arrives_at + link.reorder_by_s * rng.random()
                self._put(later, Delivery(datagram, len(datagram), source, transmit.address))
            else:
                train.append(datagram)
        # Only the last of a GRO buffer may be shorter, and only the last of a `Transmit` is.
        if train:
            self._put(arrives_at, Delivery(b"".join(train), len(train[0]), source, transmit.address))

    def next_at(self) -> float | None:
        """When the next delivery is due."""
        return self._queue[0][0] if self._queue else None

    def receive(self, now: float) -> Delivery | None:
        """The next delivery that is due, None where there is none or where it got lost on the way."""
        while self._queue and self._queue[0][0] <= now:
            delivery = heappop(self._queue)[2]
            own = self._own.get(delivery.destination)
            if own is not None and own not in self.unreachable:
                return delivery._replace(destination=own)
        return None

    def _put(self, arrives_at: float, delivery: Delivery) -> None:
        self._count += 1
        heappush(self._queue, (arrives_at, self._count, delivery))


def _happens(rng: Random, probability: float) -> bool:
    return probability > 0 and rng.random() < probability


def _with_a_wrong_byte(datagram: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(datagram))
    return datagram[:at] + bytes((datagram[at] ^ rng.randrange(1, 256),)) + datagram[at + 1 :]
