"""Both ends of a connection through a faulty proxy, on sockets of the test's own: they see what the kernel tells."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from loadgen.faulty.fault import Fault
from loadgen.faulty.server import serve_all
from loadgen.faulty.way import Way, reset
from loadgen.transaction.transaction import Direction
from servicekit.address import Address
from servicekit.listen import listen_tcp

WAIT_S = 10
ANYWHERE = Address("127.0.0.1", 0)

END, RESET = "end", "reset"


class Peer:
    """One end of a TCP connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(WAIT_S):
            await self._loop.sock_sendall(self.socket, data)

    async def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        data = b""
        async with asyncio.timeout(WAIT_S):
            while len(data) < count:
                more = await self._loop.sock_recv(self.socket, count - len(data))
                assert more, f"the end after {len(data)} of {count} bytes"
                data += more
        return data

    async def rest(self) -> tuple[bytes, str]:
        """What comes up to the ending, and which ending that is."""
        data = b""
        try:
            async with asyncio.timeout(WAIT_S):
                while more := await self._loop.sock_recv(self.socket, 65536):
                    data += more
        except ConnectionResetError:
            return data, RESET
        return data, END

    def end(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        reset(self.socket)

    @property
    def has_input(self) -> bool:
        """Whether bytes, an end or a reset wait to be read."""
        return bool(select.select([self.socket], [], [], 0)[0])


@dataclass
class Pair:
    """A connection through the proxy, and the ends that the proxy has dealt with."""

    client: Peer
    target: Peer
    dealt_with: dict[Direction, asyncio.Event]

    async def echo(self) -> None:
        """The way from the client to the target is open: a byte passes."""
        await self.client.send(b"?")
        assert await self.target.read(1) == b"?"


class Proxies:
    """Faulty proxies, and targets behind them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._sockets: list[socket.socket] = []
        self.dealt_with = {direction: asyncio.Event() for direction in Direction}

    def proxy(self, make: Callable[[], Fault]) -> Address:
        listener = self._listener(ANYWHERE)
        self._tasks.append(asyncio.create_task(serve_all(listener, lambda: self._watched(make()))))
        return Address.of_socket(listener.getsockname())

    async def client(self, proxy: Address) -> Peer:
        """A connection to the proxy on which nothing was said yet."""
        sock = socket.socket()
        sock.setblocking(False)
        self._sockets.append(sock)
        await self._loop.sock_connect(sock, (proxy.host, proxy.port))
        return Peer(sock)

    async def asked(self, make: Callable[[], Fault], host: str = "127.0.0.1") -> tuple[Peer, Peer]:
        """A client that has asked the proxy to connect, and has no reply yet; and the target, which has accepted."""
        listener = self._listener(Address("::1" if ":" in host else "127.0.0.1", 0))
        client = await self.client(self.proxy(make))
        await client.send(b"\x05\x01\x00")
        assert await client.read(2) == b"\x05\x00"
        await client.send(request(Address(host, listener.getsockname()[1])))
        async with asyncio.timeout(WAIT_S):
            accepted, _ = await self._loop.sock_accept(listener)
        self._sockets.append(accepted)
        return client, Peer(accepted)

    async def pair(self, make: Callable[[], Fault], host: str = "127.0.0.1") -> Pair:
        client, target = await self.asked(make, host)
        head = await client.read(4)
        assert head[:3] == b"\x05\x00\x00"
        await client.read({1: 6, 4: 18}[head[3]])
        return Pair(client, target, self.dealt_with)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        for sock in self._sockets:
            sock.close()

    def _listener(self, address: Address) -> socket.socket:
        listener = listen_tcp(address)
        self._sockets.append(listener)
        return listener

    def _watched(self, fault: Fault) -> Fault:
        on_end = fault.on_end

        async def and_tell(way: Way) -> None:
            await on_end(way)
            self.dealt_with[way.direction].set()

        fault.on_end = and_tell  # type: ignore[method-assign]
        return fault


def request(destination: Address, command: int = 1) -> bytes:
    """A SOCKS5 request."""
    try:
        address = ip_address(destination.host)
    except ValueError:
        packed = bytes((3, len(destination.host))) + destination.host.encode()
    else:
        packed = bytes((1 if address.version == 4 else 4,)) + address.packed
    return bytes((5, command, 0)) + packed + destination.port.to_bytes(2, "big")


@pytest.fixture
async def proxies() -> AsyncIterator[Proxies]:
    made = Proxies()
    yield made
    await made.close()
