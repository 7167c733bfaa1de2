"""A whole tunnel inside the test's process: both programs on one loop, real sockets, every port a free one."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.pairings import AUTO, Pairing, need_quinn

from proxy_client.app import ProxyClient
from proxy_client.settings import ProxyClientSettings
from proxy_server import dev_certificate
from proxy_server.app import ProxyServer
from proxy_server.settings import ProxyServerSettings
from servicekit.address import Address
from servicekit.run import Stop

LOOPBACK = Address("127.0.0.1", 0)
PATIENCE_S = 25.0
"""The bound of every wait in these tests: far above what is expected, far below the test's own timeout."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Log = list[MutableMapping[str, Any]]
"""Events as structlog has them: `event` is the name, `log_level` the level."""


async def eventually(holds: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
    """For what no event tells of from outside: gauges that return to zero."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.01)


def reset(writer: asyncio.StreamWriter) -> None:
    """Closes with a TCP reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@dataclass
class Target:
    """A TCP server whose connections a test takes one by one."""

    address: Address
    accepted: asyncio.Queue[Streams]

    async def connection(self) -> Streams:
        async with asyncio.timeout(PATIENCE_S):
            return await self.accepted.get()


@dataclass
class Tunnel:
    """Both programs, and a way through them."""

    certificates: Path
    server_flags: dict[str, object] = field(default_factory=dict)
    client_flags: dict[str, object] = field(default_factory=dict)
    stops: list[Stop] = field(default_factory=list)
    tasks: list[asyncio.Task[int]] = field(default_factory=list)
    applications: list[asyncio.StreamWriter] = field(default_factory=list)
    server: ProxyServer = field(init=False)
    client: ProxyClient = field(init=False)

    async def start(self) -> None:
        self.server = await self.start_server(LOOPBACK)
        settings = ProxyClientSettings(
            listen=LOOPBACK,
            server_name="proxy-server",
            ca_file=self.certificates / "ca.pem",
            token_file=self.certificates / "token",
            metrics_listen=LOOPBACK,
            **({"server": self.server.address} | self.client_flags),  # type: ignore[arg-type]
        )
        self.client = ProxyClient(settings)
        self._run(self.client.run)
        await eventually(lambda: self.client.address.port != 0, "proxy-client listens")

    async def start_server(self, listen: Address) -> ProxyServer:
        settings = ProxyServerSettings(
            listen=listen,
            dev_certificate=self.certificates,
            metrics_listen=LOOPBACK,
            **({"egress_allow": ("own",)} | self.server_flags),  # type: ignore[arg-type]
        )
        server = ProxyServer(settings)
        self._run(server.run)
        await eventually(lambda: server.address.port != 0, "proxy-server listens")
        return server

    def _run(self, run: Callable[[Stop], Awaitable[int]]) -> None:
        stop = Stop()
        self.stops.append(stop)
        self.tasks.append(asyncio.ensure_future(run(stop)))

    async def stop(self) -> None:
        """The client first, as an operator would; at once, because tests leave connections open."""
        for stop, task in zip(reversed(self.stops), reversed(self.tasks), strict=True):
            stop.request()
            stop.request()
            async with asyncio.timeout(PATIENCE_S):
                await task
        for writer in self.applications:
            writer.transport.abort()

    async def connect(self, target: Address, early: bytes = b"") -> Streams:
        """A connection through the tunnel; `early` goes out with the request."""
        reader, writer = await self.socks()
        writer.write(b"\x05\x01\x00")
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.readexactly(2) == b"\x05\x00"
            writer.write(b"\x05\x01\x00\x01" + socket.inet_aton(target.host) + target.port.to_bytes(2, "big") + early)
            head = await reader.readexactly(10)
        if head[1]:
            writer.close()
            raise ConnectionRefusedError(head[1], f"SOCKS reply {head[1]}")
        return reader, writer

    async def socks(self) -> Streams:
        """A connection to the SOCKS listener on which nothing was said yet."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.client.address.port)
        self.applications.append(writer)
        return reader, writer

    def at_client(self, metric: str, **labels: str) -> float:
        """The value of one series of proxy-client's."""
        return _value(self.client, metric, labels)

    def at_server(self, metric: str, **labels: str) -> float:
        return _value(self.server, metric, labels)

    async def quiet(self) -> None:
        """Nothing is left of any stream, on either side."""
        for session in (self.client._session, self.server._session):
            await eventually(lambda session=session: session.stream_count == 0, "no streams")  # type: ignore[misc]
            assert session.ledger.undelivered_bytes == 0
            assert set(session.ledger.half_closed.values()) == {0}
        assert not self.client._driver.handlers
        assert not self.server._driver.handlers


def _value(program: ProxyClient | ProxyServer, metric: str, labels: dict[str, str]) -> float:
    value = program._registry.get_sample_value(metric, labels)
    assert value is not None, f"there is no {metric}{labels}"
    return value


@pytest.fixture
def log() -> Iterator[Log]:
    """What both programs log, as it happens. At the end nothing of it may be an error."""
    with capture_logs() as events:
        yield events
    assert [event for event in events if event["log_level"] in ("error", "critical")] == []


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    dev_certificate.ensure(directory)
    return directory


@pytest.fixture
def pairing(request: pytest.FixtureRequest) -> Pairing:
    """The engines of the tunnel: what `auto` stands for, unless a test is for `every_pairing`."""
    found: Pairing = getattr(request, "param", AUTO)
    if "quinn" in found:
        need_quinn()
    return found


@pytest.fixture
async def make_tunnel(
    certificates: Path, log: Log, pairing: Pairing
) -> AsyncIterator[Callable[..., Awaitable[Tunnel]]]:
    """Makes tunnels with settings of the test's own; `server_` and `client_` in front say whose."""
    made: list[Tunnel] = []
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))

    async def make(**flags: object) -> Tunnel:
        tunnel = Tunnel(
            certificates,
            {"engine": pairing.server} | _with_prefix("server_", flags),
            {"engine": pairing.client} | _with_prefix("client_", flags),
        )
        made.append(tunnel)
        await tunnel.start()
        return tunnel

    yield make
    for tunnel in made:
        await tunnel.stop()
    assert faults == []


def _with_prefix(prefix: str, flags: dict[str, object]) -> dict[str, object]:
    return {name.removeprefix(prefix): value for name, value in flags.items() if name.startswith(prefix)}


@pytest.fixture
async def tunnel(make_tunnel: Callable[..., Awaitable[Tunnel]]) -> Tunnel:
    return await make_tunnel()


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    accepted: asyncio.Queue[Streams] = asyncio.Queue()
    writers: list[asyncio.StreamWriter] = []

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        accepted.put_nowait((reader, writer))

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    async with server:
        yield Target(Address.of_socket(server.sockets[0].getsockname()), accepted)
    for writer in writers:
        writer.transport.abort()  # close() would wait for a peer that does not read
