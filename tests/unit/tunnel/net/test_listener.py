"""tunnel.net.listener: batches, shortages of descriptors, and connections that break before they are accepted."""

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tunnel.net import listener as module
from tunnel.net.bind import bound_socket
from tunnel.net.listener import ACCEPTS_A_TURN_MAX, TcpListener
from tunnel.net.tcp import KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES


class ShortSocket(socket.socket):
    """A listening socket whose accept fails as often as told."""

    errors: list[int]

    def accept(self) -> Any:
        if self.errors:
            raise OSError(self.errors.pop(0), "planted")
        return super().accept()


class Door:
    def __init__(self, sock: socket.socket) -> None:
        self.inside: list[socket.socket] = []
        self.shortages: list[int | None] = []
        self._changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.listener = TcpListener(loop, sock, self._enter, lambda error: self.shortages.append(error.errno))

    def _enter(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        assert connection.gettimeout() == 0, "non-blocking"
        assert address == connection.getpeername()
        self.inside.append(connection)
        self._changed.set()

    async def until(self, count: int) -> None:
        while len(self.inside) < count:
            self._changed.clear()
            await self._changed.wait()


MakeDoor = Callable[..., Door]


@pytest.fixture
async def doors() -> AsyncIterator[MakeDoor]:
    made: list[Door] = []

    def make(*errors: int) -> Door:
        sock = ShortSocket(socket.AF_INET, socket.SOCK_STREAM)
        sock.errors = list(errors)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        made.append(Door(sock))
        return made[-1]

    yield make
    for door in made:
        door.listener.close()
        for connection in door.inside:
            connection.close()


@pytest.fixture
def knock() -> Iterator[Callable[[Door], None]]:
    knocking: list[socket.socket] = []
    yield lambda door: knocking.append(socket.create_connection(door.listener.address))
    for sock in knocking:
        sock.close()


Knock = Callable[[Door], None]


async def test_connections_come_in(doors: MakeDoor, knock: Knock) -> None:
    door = doors()
    for _ in range(3):
        knock(door)
    await door.until(3)


async def test_one_turn_accepts_a_bounded_number(doors: MakeDoor, knock: Knock) -> None:
    door = doors()
    for _ in range(ACCEPTS_A_TURN_MAX + 5):
        knock(door)
    await door.until(1)
    assert len(door.inside) == ACCEPTS_A_TURN_MAX
    await door.until(ACCEPTS_A_TURN_MAX + 5)


async def test_a_pause_leaves_clients_in_the_backlog(doors: MakeDoor, knock: Knock) -> None:
    door = doors()
    door.listener.pause()
    door.listener.pause()
    knock(door)
    for _ in range(5):
        await asyncio.sleep(0)
    assert door.inside == []
    door.listener.resume()
    door.listener.resume()
    await door.until(1)


async def test_a_connection_that_broke_before_is_passed_over(doors: MakeDoor, knock: Knock) -> None:
    door = doors(errno.ECONNABORTED, errno.EPERM)
    knock(door)
    await door.until(1)
    assert door.shortages == []


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL])
async def test_a_shortage_is_waited_out_and_told_once(
    doors: MakeDoor, knock: Knock, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACK_OFF_MIN_S", 0.001)
    door = doors(code, code, code)
    knock(door)
    await door.until(1)
    assert door.shortages == [code]
    sock = door.listener._socket
    assert isinstance(sock, ShortSocket)
    sock.errors.append(code)
    knock(door)
    await door.until(2)
    assert door.shortages == [code, code], "another shortage is told again"


async def test_the_wait_grows_to_its_bound(doors: MakeDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    door = doors()
    waits = []
    for _ in range(10):
        door.listener._back_off(OSError(errno.EMFILE, "planted"))
        waits.append(door.listener._back_off_s)
    assert waits[:3] == [0.05, 0.1, 0.2]
    assert waits[-1] == module.BACK_OFF_MAX_S
    assert door.shortages == [errno.EMFILE]


async def test_close_ends_a_wait_too(doors: MakeDoor) -> None:
    door = doors()
    door.listener._back_off(OSError(errno.EMFILE, "planted"))
    door.listener.close()
    door.listener.resume()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(door.listener.address)


async def test_a_failing_owner_costs_one_connection(knock: Knock) -> None:
    loop = asyncio.get_running_loop()
    reported = asyncio.Event()
    loop.set_exception_handler(lambda *_: reported.set())
    served: asyncio.Queue[socket.socket] = asyncio.Queue()

    def serve(connection: socket.socket, address: tuple[Any, ...]) -> None:
        if not reported.is_set():
            raise ValueError("planted")
        served.put_nowait(connection)

    listener = TcpListener(loop, bound_socket("127.0.0.1", 0, socket.SOCK_STREAM), serve)
    with socket.create_connection(listener.address) as first:
        await reported.wait()
        first.settimeout(5)
        with pytest.raises(ConnectionResetError):  # Not left hanging, and no clean end either.
            first.recv(1)
        with socket.create_connection(listener.address):
            (await served.get()).close()
    listener.close()


async def test_connections_inherit_the_options(knock: Knock) -> None:
    """Linux hands them down, which saves the system calls for each connection."""
    served: asyncio.Queue[socket.socket] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    listener = TcpListener(
        loop, bound_socket("127.0.0.1", 0, socket.SOCK_STREAM), lambda connection, _: served.put_nowait(connection)
    )
    with socket.create_connection(listener.address), await served.get() as connection:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE_S
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == KEEPALIVE_INTERVAL_S
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == KEEPALIVE_PROBES
        assert struct.unpack("ii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, 0)
    listener.close()


async def test_a_restarted_listener_does_not_wait_for_old_connections() -> None:
    first = bound_socket("127.0.0.1", 0, socket.SOCK_STREAM)
    first.listen()
    with socket.create_connection(first.getsockname()):
        first.setblocking(True)
        first.accept()[0].close()
    port = first.getsockname()[1]
    first.close()
    bound_socket("127.0.0.1", port, socket.SOCK_STREAM).close()
