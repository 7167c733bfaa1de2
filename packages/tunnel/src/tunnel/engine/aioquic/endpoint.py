"""What client and server have in common: routing, batching, and one timer for all connections.

Rules:
- Work is done a batch at a time: a GRO buffer is fed whole, then each connection that got something reports its events
  once; a flush happens when `poll_transmit` asks for it, and only for connections that were touched.
- Datagrams of equal size to one address leave as one Transmit, ready for GSO.
- A connection that has ended is in `_links` no more; it stays in the routes and timers until it has drained, then it is
  in no table at all (F20).
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

from tunnel.engine.aioquic.link import Link
from tunnel.engine.aioquic.stateless import destination_id
from tunnel.engine.aioquic.timers import Timers
from tunnel.engine.port import Address, Connected, Data, Event, Packets, Reset, Stats, Transmit

MAX_SEGMENTS = 64
"""UDP_MAX_SEGMENTS of kernels before 6.9."""

MAX_TRANSMIT_BYTES = 65_487
"""What GSO takes at once over either family: 65,535 less the headers of IPv6 and UDP."""

MAX_ANSWERS = 1024
"""To strangers, that wait for the socket; 1,200 bytes each at most."""

logger = logging.getLogger(__name__)


class Endpoint:
    """`Engine` without the ways a connection starts."""

    name = "aioquic"

    def __init__(self) -> None:
        self._links: dict[int, Link] = {}
        self._packets = Packets()
        self._routes: dict[bytes, Link] = {}
        self._unfinished: set[Link] = set()
        """Links whose handshake is neither complete nor given up."""
        self._touched: dict[Link, None] = {}
        self._timers: Timers[Link] = Timers()
        self._events: deque[tuple[int, Event]] = deque()
        self._outbox: deque[Transmit] = deque()
        self._numbers = count(1)
        self._now = 0.0

    # Datagrams, events and time.

    def receive(self, data: bytes | memoryview, segment_size: int, address: Address, now: float) -> None:
        self._now = now
        address = canonical(address)
        last_id, link = b"", None
        fed: dict[Link, None] = {}
        for datagram in split(data, segment_size):
            connection_id = destination_id(datagram)
            if link is None or connection_id != last_id:
                last_id, link = connection_id, self._routes.get(connection_id)
                if link is None:
                    link = self._guarded_stranger(datagram, address, now)
                    if link is not None:
                        fed[link] = None
                    continue
                fed[link] = None
            link.receive(datagram, address, now)
        for link in fed:
            self._report(link)
            self._touched[link] = None

    def poll_transmit(self, now: float) -> Transmit | None:
        self._now = now
        while self._touched and not self._outbox:
            link = next(iter(self._touched))
            del self._touched[link]
            self._flush(link, now)
        return self._outbox.popleft() if self._outbox else None

    def poll_event(self) -> tuple[int, Event] | None:
        return self._events.popleft() if self._events else None

    def get_timer(self) -> float | None:
        """Right now, while there is something to transmit."""
        return self._now if self._touched or self._outbox else self._timers.earliest()

    def handle_timer(self, now: float) -> None:
        self._now = now
        for link in self._timers.take_due(now):
            link.handle_timer(now)
            self._report(link)
            self._touched[link] = None

    # Calls on connections and streams.

    def connect(self, address: Address, now: float) -> int:
        raise NotImplementedError("a server does not connect")

    def accept(self, connection: int) -> None:
        if link := self._touch(connection):
            link.quic.accept()

    def use_certificate(self, certificate: bytes, private_key: bytes) -> None:
        raise NotImplementedError("a client has no certificate")

    def refuse_strangers(self) -> None:
        """A client meets none."""

    def open(self, connection: int) -> int | None:
        link = self._links.get(connection)
        return link.quic.open_stream() if link else None

    def send(self, connection: int, stream: int, data: bytes | memoryview) -> int:
        link = self._links.get(connection)
        if link is None:
            return 0
        taken = link.quic.write(stream, data)
        if taken:
            self._touched[link] = None
        return taken

    def finish(self, connection: int, stream: int) -> None:
        if link := self._touch(connection):
            link.quic.finish(stream)

    def reset(self, connection: int, stream: int, code: int) -> None:
        if link := self._touch(connection):
            link.quic.reset(stream, code)

    def stop(self, connection: int, stream: int, code: int) -> None:
        if link := self._touch(connection):
            link.quic.stop(stream, code)
            self._unreport(lambda number, event: number == connection and _stream_received(event) == stream)

    def consumed(self, connection: int, stream: int, count: int) -> None:
        link = self._links.get(connection)
        if link is not None:
            link.quic.consume(stream, count)
            if link.quic.news:
                self._touched[link] = None

    def ping(self, connection: int) -> None:
        if link := self._touch(connection):
            link.quic.ping()

    def close(self, connection: int, code: int, reason: str) -> None:
        if link := self._touch(connection):
            link.close(code, reason)
            self._unreport(lambda number, event: number == connection)
            self._report(link)

    def stats(self, connection: int) -> Stats | None:
        link = self._links.get(connection)
        return link.quic.stats() if link else None

    def packets(self) -> Packets:
        return replace(self._packets)

    # For client and server.

    def _stranger(self, datagram: bytes, address: Address, now: float) -> Link | None:
        """A datagram that belongs to no connection; the one that it starts, if it does."""
        return None

    def _add(self, link: Link) -> None:
        self._links[link.number] = link
        self._unfinished.add(link)
        self._touched[link] = None

    def _answer(self, datagram: bytes, address: Address) -> bool:
        """Sends one datagram that belongs to no connection, or, where MAX_ANSWERS wait for the socket, drops it as any
        network drops: who asks a stranger's question asks again. Whether it is sent."""
        if len(self._outbox) >= MAX_ANSWERS:
            return False
        self._outbox.append(Transmit(datagram, len(datagram), address))
        return True

    # Private.

    def _touch(self, connection: int) -> Link | None:
        link = self._links.get(connection)
        if link is not None:
            self._touched[link] = None
        return link

    def _guarded_stranger(self, datagram: bytes, address: Address, now: float) -> Link | None:
        try:
            return self._stranger(datagram, address, now)
        except Exception:
            logger.exception("a stranger's datagram could not be handled")
            return None

    def _report(self, link: Link) -> None:
        """Moves a link's events to the endpoint's queue, and the link out of the tables it has left."""
        for event in link.take_events():
            self._events.append((link.number, event))
            if type(event) is Connected:
                self._unfinished.discard(link)
        if link.closed is not None:
            self._links.pop(link.number, None)
            self._unfinished.discard(link)

    def _unreport(self, unwanted: Callable[[int, Event], bool]) -> None:
        """Takes back events that nobody has polled yet."""
        if self._events:
            self._events = deque(entry for entry in self._events if not unwanted(*entry))

    def _flush(self, link: Link, now: float) -> None:
        self._outbox.extend(coalesce(link.flush(now)))
        self._report(link)
        if link.gone:
            link.drop_routes()
            self._timers.set(link, None)
            return
        self._timers.set(link, link.get_timer())
        if link.owes_farewell:
            self._touched[link] = None


def _stream_received(event: Event) -> int | None:
    """The stream whose receiving side the event is about."""
    return event.stream if isinstance(event, Data | Reset) else None


def coalesce(datagrams: list[tuple[bytes, Address]]) -> list[Transmit]:
    """Runs of datagrams of one size to one address; the last of a run may be shorter."""
    transmits: list[Transmit] = []
    start = 0
    while start < len(datagrams):
        first, address = datagrams[start]
        size = len(first)
        limit = start + min(MAX_SEGMENTS, MAX_TRANSMIT_BYTES // size)
        stop = start + 1
        while stop < min(limit, len(datagrams)) and datagrams[stop][1] == address and len(datagrams[stop][0]) <= size:
            stop += 1
            if len(datagrams[stop - 1][0]) < size:
                break
        run = [datagram for datagram, _ in datagrams[start:stop]]
        transmits.append(Transmit(first if len(run) == 1 else b"".join(run), size, address))
        start = stop
    return transmits


def split(data: bytes | memoryview, segment_size: int) -> Iterator[bytes]:
    """The datagrams of a GRO buffer."""
    if not 0 < segment_size < len(data):
        yield bytes(data)
        return
    for start in range(0, len(data), segment_size):
        yield bytes(data[start : start + segment_size])


def canonical(address: Address) -> Address:
    """Host and port only, where flow and scope say nothing: the form in which aioquic compares addresses."""
    return address[:2] if len(address) == 4 and not any(address[2:]) else address
