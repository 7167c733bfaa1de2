"""A QUIC engine for simulations: the port of tunnel.engine.port, deterministic and without cryptography.

Rules:
- All randomness comes from the `Random` that it is made with: the same seed and the same calls give the same bytes.
- It is honest where the port asks for honesty, and faulty only where `Faults` says so.
- A packet for a connection that is not known is dropped in silence (no stateless reset), as aioquic does it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.sim.model_connection import Connection, Faults, State
from tests.sim.model_packets import (
    DATA_PACKET,
    HELLO_PACKET,
    CloseFrame,
    Packet,
    decode_packet,
    encode_frame,
    encode_packet,
)

from tunnel.engine.port import Address, Connected, Event, Packets, Stats, Transmit
from tunnel.engine.settings import EngineLimits
from tunnel.errors import Cause

MAX_SEGMENTS = 10

_FLAWLESS = Faults()


class ModelEngine:
    """One endpoint. `die` makes it silent for ever, as a process does that was killed."""

    name = "model"

    def __init__(self, is_client: bool, limits: EngineLimits, rng: Random, faults: Faults = _FLAWLESS) -> None:
        self._is_client = is_client
        self._limits = limits
        self._rng = rng
        self._faults = faults
        self._dead = False
        self._packets = Packets()
        self._next_connection = 1
        self._connections: dict[int, Connection] = {}
        self._by_id: dict[bytes, Connection] = {}
        self._by_hello: dict[bytes, Connection] = {}
        self._refusals: deque[tuple[bytes, Address]] = deque()

    def die(self) -> None:
        self._dead = True

    # Datagrams and time.

    def connect(self, address: Address, now: float) -> int:
        return self._add(address, now)[0]

    def receive(self, data: bytes | memoryview, segment_size: int, address: Address, now: float) -> None:
        if self._dead:
            return
        whole = bytes(data)
        for start in range(0, len(whole), segment_size):
            packet = decode_packet(whole[start : start + segment_size])
            if packet is not None:
                self._receive_packet(packet, address, now)

    def poll_transmit(self, now: float) -> Transmit | None:
        if self._dead:
            return None
        if self._refusals:
            packet, address = self._refusals.popleft()
            return Transmit(packet, len(packet), address)
        for connection in self._connections.values():
            first = packet_built = connection.build_packet(now)
            if first is None:
                continue
            packets = [first]
            while packet_built and len(packets) < MAX_SEGMENTS and len(packets[-1]) == len(first) >= self._full_size:
                packet_built = connection.build_packet(now)
                if packet_built:
                    packets.append(packet_built)
            return Transmit(b"".join(packets), len(first), connection.address)
        return None

    def get_timer(self) -> float | None:
        if self._dead or not self._connections:
            return None
        when = min(connection.get_timer() for connection in self._connections.values())
        return None if when == float("inf") else when

    def handle_timer(self, now: float) -> None:
        if not self._dead:
            for connection in self._connections.values():
                connection.handle_timer(now)

    def poll_event(self) -> tuple[int, Event] | None:
        if self._dead:
            return None
        for number, connection in list(self._connections.items()):
            if connection.events:
                return number, self._next_event(connection)
            if connection.state is State.CLOSED:
                self._forget(number, connection)
        return None

    # Calls on one connection. One that has ended is not there any more, or ignores them itself.

    def accept(self, connection: int) -> None:
        if (found := self._connections.get(connection)) is not None:
            found.accept()

    def use_certificate(self, certificate: bytes, private_key: bytes) -> None:
        raise NotImplementedError("the model has no TLS")

    def refuse_strangers(self) -> None:
        self._limits = replace(self._limits, max_connections=0)

    def open(self, connection: int) -> int | None:
        found = self._connections.get(connection)
        return None if found is None else found.open()

    def send(self, connection: int, stream: int, data: bytes | memoryview) -> int:
        found = self._connections.get(connection)
        return 0 if found is None else found.send(stream, data)

    def finish(self, connection: int, stream: int) -> None:
        if (found := self._connections.get(connection)) is not None:
            found.finish(stream)

    def reset(self, connection: int, stream: int, code: int) -> None:
        if (found := self._connections.get(connection)) is not None:
            found.reset(stream, code)

    def stop(self, connection: int, stream: int, code: int) -> None:
        if (found := self._connections.get(connection)) is not None:
            found.stop(stream, code)

    def consumed(self, connection: int, stream: int, count: int) -> None:
        if (found := self._connections.get(connection)) is not None:
            found.consumed(stream, count)

    def ping(self, connection: int) -> None:
        if (found := self._connections.get(connection)) is not None:
            found.ping()

    def close(self, connection: int, code: int, reason: str) -> None:
        if (found := self._connections.get(connection)) is not None:
            found.close(code, reason)

    def stats(self, connection: int) -> Stats | None:
        found = self._connections.get(connection)
        return None if found is None or found.state in (State.CLOSING, State.CLOSED) else found.stats()

    def packets(self) -> Packets:
        return replace(self._packets)

    def credit_kept(self, connection: int, is_alive: Callable[[int], bool]) -> int:
        """See `Connection.credit_kept`."""
        found = self._connections.get(connection)
        return 0 if found is None or found.state is not State.OPEN else found.credit_kept(is_alive)

    # Routing.

    @property
    def _full_size(self) -> int:
        return self._limits.datagram_floor_bytes

    def _add(self, address: Address, now: float) -> tuple[int, Connection]:
        connection = Connection(self._is_client, self._limits, self._faults, self._rng, self._packets, address, now)
        number, self._next_connection = self._next_connection, self._next_connection + 1
        self._connections[number] = self._by_id[connection.own_id] = connection
        return number, connection

    def _receive_packet(self, packet: Packet, address: Address, now: float) -> None:
        connection = self._by_id.get(packet.destination)
        if packet.kind == HELLO_PACKET and not self._is_client:
            connection = self._by_hello.get(packet.source) or self._admit(packet, address, now)
        if connection is None:
            return
        if packet.kind == HELLO_PACKET:
            connection.receive_hello(packet, now)
        elif packet.kind == DATA_PACKET:
            connection.receive(packet, address, now)

    def _admit(self, packet: Packet, address: Address, now: float) -> Connection | None:
        if len(self._connections) < self._limits.max_connections:
            _, connection = self._add(address, now)
            self._by_hello[packet.source] = connection
            return connection
        close = encode_frame(CloseFrame(Cause.SERVER_BUSY.code, "too many connections"))
        self._refusals.append((encode_packet(DATA_PACKET, packet.source, packet.destination, 0, [close]), address))
        return None

    def _forget(self, number: int, connection: Connection) -> None:
        del self._connections[number]
        self._by_id.pop(connection.own_id, None)
        self._by_hello.pop(connection.peer_id, None)

    def _next_event(self, connection: Connection) -> Event:
        events = connection.events
        if not self._faults.shuffle_streams or isinstance(events[0], Connected):
            return events.popleft()
        # Any stream may come first, each in its own order; what is no stream's stays where it is.
        chosen: Event = events[0]
        first_of: dict[int, Event] = {}
        for event in events:
            stream = getattr(event, "stream", None)
            if stream is None:
                break
            first_of.setdefault(stream, event)
        if first_of:
            chosen = self._rng.choice(list(first_of.values()))
        events.remove(chosen)
        return chosen
