"""Two engines that talk across a virtual network: what the contract tests of the port drive.

Rules:
- A `Side` notes every event and, unless told otherwise, consumes what arrives at once.
- `write` keeps what `send` does not take, and goes on when `Writable` says so: the only thing that makes it go on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.sim.network import Link, Network
from tests.sim.world import World

from tunnel.engine.port import (
    Address,
    Closed,
    Connected,
    Data,
    Engine,
    Event,
    PingAnswered,
    Reset,
    Stopped,
    StreamsAvailable,
    Transmit,
    Writable,
)

CLIENT: Address = ("192.0.2.1", 50_000)
SERVER: Address = ("192.0.2.2", 4433)


class Side:
    """One engine with one connection, as a party of a `World`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.connection = 0
        self.connected = False
        self.closed: Closed | None = None
        self.log: list[Event] = []
        self.received: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.stopped: dict[int, int] = {}
        self.pings_answered = 0
        self.streams_available = 0
        self.reading = True
        """Whether what arrives is consumed at once."""
        self.ignores_unfinished = False
        """Whether ends of connections that never were complete, which a server reports too, are nobody's business."""
        self.on_event: Callable[[Event], None] = lambda event: None
        self._outbox: dict[int, tuple[bytes, bool]] = {}
        self._unread: dict[int, int] = {}

    def connect(self, now: float) -> None:
        self.connection = self.engine.connect(SERVER, now)

    def open(self) -> int:
        """A stream, where one must be there."""
        stream = self.engine.open(self.connection)
        assert stream is not None, "no stream is left"
        return stream

    def write(self, stream: int, data: bytes, end: bool = False) -> None:
        """Sends all of it, as fast as the peer gives credit."""
        before, _ = self._outbox.pop(stream, (b"", False))
        self._push(stream, before + data, end)

    def send(self, stream: int, data: bytes) -> int:
        return self.engine.send(self.connection, stream, data)

    def finish(self, stream: int) -> None:
        self.engine.finish(self.connection, stream)

    def reset(self, stream: int, code: int) -> None:
        self.engine.reset(self.connection, stream, code)

    def stop(self, stream: int, code: int) -> None:
        self.engine.stop(self.connection, stream, code)

    def consume(self, stream: int, count: int) -> None:
        self.engine.consumed(self.connection, stream, count)

    def close(self, code: int, reason: str) -> None:
        self.engine.close(self.connection, code, reason)

    def waits(self, stream: int) -> bool:
        """Whether `write` was given more than the engine took so far."""
        return stream in self._outbox

    def consume_all(self) -> None:
        """Catches up with what arrived while nobody was reading."""
        for stream, count in self._unread.items():
            self.consume(stream, count)
        self._unread.clear()

    def events(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.log if isinstance(event, kind)]

    # A party.

    def receive(self, data: bytes, segment_size: int, address: Address, now: float) -> None:
        self.engine.receive(memoryview(data), segment_size, address, now)

    def get_timer(self) -> float | None:
        return self.engine.get_timer()

    def handle_timer(self, now: float) -> None:
        self.engine.handle_timer(now)

    def poll_transmit(self, now: float) -> Transmit | None:
        return self.engine.poll_transmit(now)

    def work(self, now: float) -> None:
        while (happened := self.engine.poll_event()) is not None:
            connection, event = happened
            if self.ignores_unfinished and isinstance(event, Closed) and connection != self.connection:
                continue
            self.connection = self.connection or connection
            assert connection == self.connection, "an event of a connection that nobody made"
            assert self.closed is None, f"{event} came after {self.closed}"
            self.log.append(event)
            self._note(event)
            self.on_event(event)

    def _note(self, event: Event) -> None:
        match event:
            case Data(stream, data, end):
                assert stream not in self.ended, f"bytes behind the end of stream {stream}"
                assert stream not in self.resets, f"bytes behind the reset of stream {stream}"
                assert data or end, "an event that says nothing"
                self.received.setdefault(stream, bytearray()).extend(data)
                if end:
                    self.ended.add(stream)
                self._take(stream, len(data))
            case Reset(stream, code):
                assert stream not in self.resets, f"stream {stream} was reset twice"
                assert stream not in self.ended, f"a reset of stream {stream} came behind its end"
                self.resets[stream] = code
            case Stopped(stream, code):
                assert stream not in self.stopped, f"stream {stream} was stopped twice"
                self.stopped[stream] = code
                self._outbox.pop(stream, None)
            case Writable(stream):
                data, end = self._outbox.pop(stream, (b"", False))
                if data:
                    self._push(stream, data, end)
            case Connected():
                self.connected = True
            case Closed():
                self.closed = event
            case PingAnswered():
                self.pings_answered += 1
            case StreamsAvailable():
                self.streams_available += 1

    def _take(self, stream: int, count: int) -> None:
        if self.reading:
            self.consume(stream, count)
        else:
            self._unread[stream] = self._unread.get(stream, 0) + count

    def _push(self, stream: int, data: bytes, end: bool) -> None:
        taken = self.send(stream, data)
        if taken < len(data):
            self._outbox[stream] = (data[taken:], end)
        elif end:
            self.finish(stream)


@dataclass
class Pair:
    """A client and a server, and the world between them."""

    client: Side
    server: Side
    world: World

    @classmethod
    def of(cls, client: Engine, server: Engine, link: Link, seed: int) -> "Pair":
        world = World(Network(Random(seed), link))
        pair = cls(Side(client), Side(server), world)
        world.add(CLIENT, pair.client)
        world.add(SERVER, pair.server)
        return pair

    def connect(self) -> "Pair":
        """Handshake, and the server's `accept`."""
        self.client.connect(self.world.now)
        self.until(lambda: self.client.connected and self.server.connected, 20)
        self.server.engine.accept(self.server.connection)
        self.run(0.2)
        return self

    def until(self, condition: Callable[[], bool], within_s: float = 10.0) -> None:
        """Runs until it holds, which it must."""
        held = self.world.run(within_s, condition)
        assert held, f"did not happen within {within_s} s"

    def until_ended(self, side: Side, stream: int, within_s: float = 10.0) -> bytes:
        """Runs until the end of `stream` is reported at `side`; gives what it carried."""
        self.until(lambda: stream in side.ended, within_s)
        return bytes(side.received.get(stream, b""))

    def until_received(self, side: Side, stream: int, size: int) -> bytes:
        """Runs until `size` bytes of `stream` are reported at `side`; gives all that are there then."""
        self.until(lambda: len(side.received.get(stream, b"")) >= size)
        return bytes(side.received.get(stream, b""))

    def run(self, for_s: float) -> None:
        self.world.run(for_s)
