"""tunnel.net.tcp where its owner raises: that connection ends, the others and the event loop go on."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tunnel.errors import Cause
from tunnel.net.poller import Poller
from tunnel.net.tcp import TcpSocket

SOON_S = 5.0


class Owner:
    """Raises in the callback that it is told to."""

    def __init__(self, raises_in: str = "") -> None:
        self.raises_in = raises_in
        self.heard: list[str] = []
        self.causes: list[Cause] = []

    def _hear(self, call: str) -> None:
        self.heard.append(call)
        if call == self.raises_in:
            raise ValueError(f"a bug in {call}")

    def on_data(self, data: bytes) -> None:
        self._hear("on_data")

    def on_eof(self) -> None:
        self._hear("on_eof")

    def on_taken(self, count: int) -> None:
        self._hear("on_taken")

    def on_finished(self) -> None:
        self._hear("on_finished")

    def on_write_error(self, cause: Cause) -> None:
        self._hear("on_write_error")

    def on_error(self, cause: Cause) -> None:
        self.causes.append(cause)
        self._hear("on_error")


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[Owner], tuple[TcpSocket, socket.socket]]]:
    """A connection and its other end."""
    poller = Poller(asyncio.get_running_loop())
    peers: list[socket.socket] = []

    def make(owner: Owner) -> tuple[TcpSocket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            peer, _ = server.accept()
        for sock in (ours, peer):
            sock.setblocking(False)
        peers.append(peer)
        return TcpSocket(poller, ours, owner, Cause.TARGET_RESET), peer

    yield make
    poller.close()
    for peer in peers:
        peer.close()


@pytest.mark.failure("F21")
@pytest.mark.parametrize("callback", ["on_data", "on_eof", "on_taken", "on_finished"])
async def test_f21_owner_that_raises_loses_its_own_connection(
    connect: Callable[[Owner], tuple[TcpSocket, socket.socket]], callback: str
) -> None:
    """Bytes may have been lost between two lines of its: what follows them must not be taken for the whole."""
    loop = asyncio.get_running_loop()
    faults: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: faults.append(context))
    broken, well = Owner(callback), Owner()
    tcp, peer = connect(broken)
    other, other_peer = connect(well)
    for sock in (tcp, other):
        sock.resume_reading()
    await loop.sock_sendall(other_peer, b"z")
    match callback:
        case "on_data":
            await loop.sock_sendall(peer, b"y")
        case "on_eof":
            peer.shutdown(socket.SHUT_WR)
        case "on_taken":
            tcp.write(b"x")
        case "on_finished":
            tcp.finish()
    async with asyncio.timeout(SOON_S):
        while not (broken.causes and well.heard):  # noqa: ASYNC110 -- both are calls, and no event tells of them
            await asyncio.sleep(0.001)
        if callback in ("on_data", "on_taken"):
            with pytest.raises(ConnectionResetError):
                await read_to_the_end(loop, peer)
    assert broken.causes == [Cause.INTERNAL]
    assert broken.heard[-2:] == [callback, "on_error"]
    assert tcp.closed
    assert [str(fault["exception"]) for fault in faults] == [f"a bug in {callback}"]
    assert well.heard == ["on_data"]
    assert not other.closed


async def read_to_the_end(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    while await loop.sock_recv(sock, 1000):
        pass
