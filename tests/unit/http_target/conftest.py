"""http-target's server inside the test's own event loop, and clients that speak bytes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from http_target.metrics import Metrics
from http_target.server import Server
from http_target.session import Service, speak_first, speak_http
from http_target.settings import HttpTargetSettings
from servicekit.address import Address
from servicekit.listen import listen_tcp
from servicekit.logs import configure

WAIT_S = 10


class Client:
    """A TCP client without a transport: what it reads is what arrived, and it ends only when told to."""

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await asyncio.wait_for(self._loop.sock_sendall(self.socket, data), WAIT_S)

    async def receive(self) -> bytes:
        return await asyncio.wait_for(self._loop.sock_recv(self.socket, 65536), WAIT_S)

    async def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = await asyncio.wait_for(self._loop.sock_recv(self.socket, size - len(data)), WAIT_S)
            assert piece, f"the end came after {data!r}"
            data += piece
        return data

    async def to_end(self) -> bytes:
        """Everything up to the end of stream. A reset raises ConnectionResetError."""
        data = b""
        while piece := await self.receive():
            data += piece
        return data

    async def head(self) -> str:
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += await self.exactly(1)
        return data.decode()

    def finish(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


@dataclass
class Target:
    """A running server: where it listens, what it counts."""

    settings: HttpTargetSettings
    registry: CollectorRegistry
    server: Server
    http: Address
    first: Address
    now: asyncio.Event = field(default_factory=asyncio.Event)
    clients: list[Client] = field(default_factory=list)

    async def connect(self, address: Address | None = None, receive_buffer_bytes: int | None = None) -> Client:
        address = address or self.http
        client = socket.socket()
        if receive_buffer_bytes is not None:  # before the connect, since it sets the window
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        client.setblocking(False)
        self.clients.append(Client(client))
        await asyncio.get_running_loop().sock_connect(client, (address.host, address.port))
        return self.clients[-1]

    async def ask(self, request: str | bytes) -> bytes:
        """What one request brings, up to the end of stream."""
        client = await self.connect()
        await client.send(request if isinstance(request, bytes) else request.encode())
        answer = await client.to_end()
        client.socket.close()
        return answer

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"http_target_{name}", labels) or 0

    async def counted(self, value: float, name: str, **labels: str) -> None:
        """Waits until the counter has the value: it is the server's task that counts, after the client's has seen."""
        async with asyncio.timeout(WAIT_S):
            while self.count(name, **labels) != value:  # noqa: ASYNC110 (a counter sets no event)
                await asyncio.sleep(0.005)


MakeTarget = Callable[..., Target]


@pytest.fixture
async def make_target(capsys: pytest.CaptureFixture[str]) -> AsyncIterator[MakeTarget]:
    """Makes a server with the settings given. Afterwards: everything has ended, and no exception is in the log."""
    configure("json", "debug", "http-target")
    made: list[Target] = []

    def make(**settings: Any) -> Target:
        anywhere = Address("127.0.0.1", 0)
        values = HttpTargetSettings(metrics_listen=anywhere, **settings)
        registry = CollectorRegistry()
        server = Server(Service(values, Metrics(registry), asyncio.Event()))
        http, first = listen_tcp(anywhere), listen_tcp(anywhere)
        server.add(http, speak_http)
        server.add(first, speak_first)
        server.add(http, speak_http)
        server.add(first, speak_first)
        where, where_first = (Address.of_socket(listener.getsockname()) for listener in (http, first))
        made.append(Target(values, registry, server, where, where_first))
        return made[-1]

    yield make
    for target in made:
        for client in target.clients:
            client.socket.close()
        target.now.set()
        await target.server.drain(0, target.now)
        assert target.server.connections == 0
        assert target.count("connections_active") == 0
    log = capsys.readouterr().err
    assert "internal_error" not in log
    assert "exception" not in log


@pytest.fixture
async def target(make_target: MakeTarget) -> Target:
    return make_target()
