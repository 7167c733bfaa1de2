"""Two sessions on the model engine and virtual time, with an edge that does what it is told and notes everything."""

from collections.abc import Callable
from hashlib import sha256
from random import Random

import pytest
from tests.sim.model_connection import Faults
from tests.sim.model_engine import ModelEngine
from tests.sim.network import Link, Network
from tests.sim.world import World

from tunnel.engine.port import Address, Transmit
from tunnel.engine.settings import EngineLimits
from tunnel.errors import Cause
from tunnel.session import events
from tunnel.session.base import Session
from tunnel.session.client import ClientSession
from tunnel.session.server import ServerSession
from tunnel.session.settings import SessionSettings
from tunnel.target import Target

CLIENT: Address = ("192.0.2.1", 50_000)
SERVER: Address = ("192.0.2.2", 4433)
OTHER: Address = ("192.0.2.3", 4433)
TARGET = Target.of("target.test", 80)
TOKEN = b"unmistakable-7f3a"


class Edge:
    """A session as a party of a `World`. Takes every byte at once and hands every end over, unless told otherwise."""

    def __init__(self, world: World, session: Session) -> None:
        self.world = world
        self.session = session
        self.log: list[events.Event] = []
        self.received: dict[int, bytes] = {}
        self.endings: dict[int, tuple[events.Ending, Cause]] = {}
        self.takes_bytes = True
        self.hands_over = True
        self.alive = True
        self.addresses = [SERVER]
        """What the server's name resolves to."""
        self.on_event: Callable[[events.Event], None] = lambda event: None

    def of(self, kind: type[events.Event]) -> list[events.Event]:
        return [event for event in self.log if isinstance(event, kind)]

    def receive(self, data: bytes, segment_size: int, address: Address, now: float) -> None:
        if self.alive:
            self.session.receive(data, segment_size, address, now)

    def get_timer(self) -> float | None:
        return self.session.get_timer() if self.alive else None

    def handle_timer(self, now: float) -> None:
        if self.alive:
            self.session.handle_timer(now)

    def poll_transmit(self, now: float) -> Transmit | None:
        return self.session.poll_transmit(now) if self.alive else None

    def work(self, now: float) -> None:
        while self.alive and (event := self.session.poll_event()) is not None:
            self.log.append(event)
            match event:
                case events.Data(stream, data):
                    self.received[stream] = self.received.get(stream, b"") + data
                    if self.takes_bytes:
                        self.session.delivered(stream, len(data), now)
                case events.Ended(stream, ending, cause):
                    assert stream not in self.endings, "a direction ended twice"
                    self.endings[stream] = (ending, cause)
                    if self.hands_over:
                        self.session.ended(stream, now)
                case events.ConnectWanted():
                    assert isinstance(self.session, ClientSession)
                    self.session.connect(self.addresses, now)
                case events.Dial(stream):
                    assert isinstance(self.session, ServerSession)
                    self.session.dialled(stream, None, now)
                case _:
                    pass
            self.on_event(event)


class Pair:
    """A client, a server, and what lies between them."""

    def __init__(self, settings: SessionSettings, faults: Faults, limits: EngineLimits) -> None:
        self.settings, self.faults, self.limits = settings, faults, limits
        self.network = Network(Random(1), Link(delay_s=0.01))
        self.world = World(self.network)
        self.servers = 0
        self.client = Edge(self.world, self.make_client())
        self.server = Edge(self.world, self.make_server())
        self.world.add(CLIENT, self.client)
        self.world.add(SERVER, self.server)

    def make_client(self) -> ClientSession:
        engine = ModelEngine(True, self.limits, Random(2), self.faults)
        return ClientSession(engine, self.settings, token=TOKEN, rng=Random(3), now=self.world.now)

    def make_server(self) -> ServerSession:
        self.servers += 1
        return ServerSession(
            ModelEngine(False, self.limits, Random(4 + self.servers), self.faults),
            {sha256(TOKEN).digest(): "tester"}.get,
            self.settings,
            instance_id=bytes([self.servers] * 16),
            rng=Random(5),
            now=self.world.now,
        )

    def restart_server(self) -> None:
        """A new process at the same address, which knows nothing."""
        self.server.alive = False
        self.server = Edge(self.world, self.make_server())
        self.world.add(SERVER, self.server)

    def add_server(self, address: Address) -> Edge:
        """One more behind the same name."""
        server = Edge(self.world, self.make_server())
        self.world.add(address, server)
        self.client.addresses = [*self.client.addresses, address]
        return server

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        return self.world.run(seconds, until)

    def open(self) -> tuple[int, int]:
        """A stream that was answered: its numbers at the client and at the server."""
        assert isinstance(self.client.session, ClientSession)
        known = len(self.server.of(events.Dial))
        stream = self.client.session.open(TARGET, b"", self.world.now)
        assert self.run(5, lambda: events.Replied(stream, Cause.NONE) in self.client.log)
        dial = self.server.of(events.Dial)[known]
        assert isinstance(dial, events.Dial)
        return stream, dial.stream


@pytest.fixture
def make_pair() -> Callable[..., Pair]:
    def make(
        settings: SessionSettings | None = None, faults: Faults | None = None, limits: EngineLimits | None = None
    ) -> Pair:
        return Pair(settings or SessionSettings(), faults or Faults(), limits or EngineLimits())

    return make


@pytest.fixture
def pair(make_pair: Callable[..., Pair]) -> Pair:
    made = make_pair()
    assert made.run(5, lambda: made.client.session.connection_count == 1)
    return made
