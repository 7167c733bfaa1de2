"""http_target.connection: what it promises about one socket, apart from any protocol."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from http_target.connection import Connection, StalledError, bounded
from http_target.metrics import Metrics


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected TCP sockets: the server's and the client's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()[:2]) as client,
        listener.accept()[0] as server,
    ):
        yield server, client


async def test_a_send_that_need_not_wait_lets_others_run(pair: tuple[socket.socket, socket.socket]) -> None:
    connection = Connection(pair[0], Metrics(CollectorRegistry()), asyncio.Event())
    turn = asyncio.Event()
    asyncio.get_running_loop().call_soon(turn.set)
    await connection.send(b"x", 1)
    assert turn.is_set()


async def test_ends_are_counted_once(pair: tuple[socket.socket, socket.socket]) -> None:
    registry = CollectorRegistry()
    connection = Connection(pair[0], Metrics(registry), asyncio.Event())
    pair[1].sendall(b"x")
    pair[1].shutdown(socket.SHUT_WR)
    assert [await connection.receive(1) for _ in range(3)] == [b"x", b"", b""]
    connection.finish()
    connection.finish()
    assert registry.get_sample_value("http_target_ends_total", {"event": "received"}) == 1
    assert registry.get_sample_value("http_target_ends_total", {"event": "sent"}) == 1


async def test_closing_twice_is_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    connection = Connection(pair[0], Metrics(CollectorRegistry()), asyncio.Event())
    assert not connection.closed
    connection.close()
    connection.reset()
    connection.close()
    assert connection.closed


async def test_the_kernels_timeout_is_not_ours() -> None:
    with pytest.raises(TimeoutError):
        async with bounded(10):
            raise TimeoutError(110, "Connection timed out")
    with pytest.raises(StalledError):
        async with bounded(0):
            await asyncio.Event().wait()
