"""Both proxies on virtual hosts: the real sessions, relays, TCP sockets and SOCKS handshakes, on a virtual kernel.

Rules:
- Everything of `tunnel` is real except what is beneath it: the event loop, the sockets, the clock, and, on the model
  engine, QUIC. What the two services do beyond it (a dial, the resolver's answer) is repeated here in a few lines.
- A server may be replaced: it drains, and another one is behind its name too; or its machine is gone and another one
  takes over its address.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from hashlib import sha256
from random import Random
from typing import Any, cast

from tests.sim.applications import Application, Program
from tests.sim.kernel import Host, VirtualSocket
from tests.sim.witnesses import EventOrder
from tests.sim.world import World

from proxy_client.socks import SocksConnection
from tunnel.engine.port import Address, Engine
from tunnel.errors import Cause
from tunnel.net.driver import ConnectionEvent, Driver
from tunnel.net.poller import Poller
from tunnel.net.relay import Relay
from tunnel.net.tcp import TcpSocket
from tunnel.net.udp import UdpEndpoint
from tunnel.session import events
from tunnel.session.client import ClientSession
from tunnel.session.server import ServerSession
from tunnel.session.settings import SessionSettings
from tunnel.target import Target
from tunnel.wire.codec import INSTANCE_ID_BYTES

CLIENT: Address = ("192.0.2.1", 50_000)
SERVER: Address = ("192.0.2.2", 4433)
TOKEN = b"token"
SOCKS_TIMEOUT_S = 10.0
BOUND = Target.of("198.51.100.1", 1234)


class VirtualDriver(Driver):
    """The real driver on the virtual clock."""

    host: Host

    def now(self) -> float:  # type: ignore[override]
        return self.host.time()


class Proxy:
    """What both have in common."""

    session: ClientSession | ServerSession

    def __init__(self, world: World, host: Host, session: ClientSession | ServerSession) -> None:
        self.world = world
        self.host = host
        self.session = session
        self.connection_events: list[ConnectionEvent] = []
        self.faults: list[Exception] = []
        self.loop = cast(asyncio.AbstractEventLoop, host)
        self.poller = cast(Poller, host)
        EventOrder(session)
        self.driver = VirtualDriver(
            self.loop,
            session,
            on_dial=self.on_dial,
            on_connection_event=self.on_connection_event,
            on_fault=self.faults.append,
        )
        self.driver.host = host
        self.driver.before_flush = host.run_actions
        host.listen(self.driver.on_batch)
        self.driver.start(cast(UdpEndpoint, host))

    def drain(self) -> None:
        """As a signal does it: not before the machine's next turn."""
        self.host.call_soon(self._drain)

    def _drain(self) -> None:
        self.session.drain(self.world.now)
        self.driver.wake()

    def on_dial(self, event: events.Dial) -> None:
        raise AssertionError(f"a client was asked to dial {event.target}")

    def on_connection_event(self, event: ConnectionEvent) -> None:
        self.connection_events.append(event)

    def wrap(self, sock: VirtualSocket) -> socket.socket:
        return cast(socket.socket, self.host.connect(sock))


class ProxyClient(Proxy):
    """Takes applications' connections. `resolve` gives the server's addresses, none where it has none."""

    session: ClientSession

    def __init__(
        self,
        world: World,
        host: Host,
        engine: Engine,
        settings: SessionSettings,
        rng: Random,
        resolve: Callable[[], Sequence[Address]],
    ) -> None:
        session = ClientSession(engine, settings, token=TOKEN, rng=rng, now=world.now)
        self._resolve = resolve
        self.connections = 0
        super().__init__(world, host, session)

    def accept(self, sock: VirtualSocket) -> None:
        """A connection from an application."""
        self.connections += 1
        SocksConnection(
            self.poller,
            self.wrap(sock),
            ("127.0.0.1", 0),
            driver=self.driver,
            session=self.session,
            check_credentials=None,
            timeout_s=SOCKS_TIMEOUT_S,
            observer=self,
            clock=self.host.time,
        )

    def handshake_over(
        self, peer: str, cause: Cause, detail: str, target: Target | None, seconds: float, *, answered: bool
    ) -> None:
        """See `Observer`."""

    def closed(self, connection: SocksConnection) -> None:
        """See `Observer`."""
        self.connections -= 1

    def on_connection_event(self, event: ConnectionEvent) -> None:
        super().on_connection_event(event)
        if isinstance(event, events.ConnectWanted):
            self.host.call_later(0.001, self._connect)

    def _connect(self) -> None:
        addresses = self._resolve()
        if addresses:
            self.session.connect(addresses, self.world.now)
        else:
            self.session.connect_failed(self.world.now)
        self.driver.wake()


Dial = Callable[[str], tuple[float, Cause, Program | None]]
"""What becomes of the dial of a host: seconds, and the program that answers, or why none does."""


class ProxyServer(Proxy):
    """Dials programs. `dial` is asked once for each request."""

    session: ServerSession

    def __init__(
        self, world: World, host: Host, engine: Engine, settings: SessionSettings, rng: Random, dial: Dial
    ) -> None:
        session = ServerSession(
            engine,
            {sha256(TOKEN).digest(): "sim"}.get,
            settings,
            instance_id=rng.randbytes(INSTANCE_ID_BYTES),
            rng=rng,
            now=world.now,
        )
        self._dial = dial
        self._rng = rng
        self._dialling: dict[int, Any] = {}
        super().__init__(world, host, session)

    def on_dial(self, event: events.Dial) -> None:
        seconds, cause, program = self._dial(event.target.host)
        relay = Relay(self.driver, event.stream, on_closed=lambda: self._closed(event.stream))
        self._dialling[event.stream] = self.host.call_later(seconds, self._dialled, relay, cause, program)

    def _dialled(self, relay: Relay, cause: Cause, program: Program | None) -> None:
        del self._dialling[relay.stream]
        if program is None:
            self.session.refused(relay.stream, cause, self.world.now)
            relay.close()
        else:
            self.session.dialled(relay.stream, BOUND, self.world.now)
            near, far = VirtualSocket.pair(self._rng)
            relay.attach(TcpSocket(self.poller, self.wrap(near), relay, Cause.TARGET_RESET))
            program.start(far)
        self.driver.wake()

    def _closed(self, stream: int) -> None:
        """The relay is over: with it a dial that still runs."""
        if (dialling := self._dialling.pop(stream, None)) is not None:
            dialling.cancel()


def connect_application(client: ProxyClient, application: Application, rng: Random) -> None:
    """The application makes its TCP connection to proxy-client."""
    near, far = VirtualSocket.pair(rng)
    client.accept(near)
    application.start(far)
