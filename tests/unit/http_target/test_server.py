"""Accepting within limits, and draining without losing anything that was promised."""

import asyncio
import errno
import socket
from collections.abc import Callable
from time import monotonic
from typing import ClassVar

import pytest
from tests.unit.http_target.conftest import MakeTarget, Target

from http_target import connection, server
from http_target.session import speak_http
from servicekit import payload
from servicekit.address import Address
from servicekit.listen import listen_tcp

SLOW = b"GET /bytes?size=10&gap_ms=100&gap_every=5 HTTP/1.1\r\nHost: t\r\n\r\n"
QUICK = b"GET /bytes?size=10 HTTP/1.1\r\nHost: t\r\n\r\n"


async def test_connections_above_the_limit_wait(make_target: MakeTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PAUSE_S", 0.01)
    target = make_target(max_connections=2)
    first, second = await target.connect(), await target.connect()
    await target.counted(2, "connections_active")
    third = await target.connect()
    await third.send(QUICK)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().sock_recv(third.socket, 1), 0.05)
    assert target.server.connections == 2
    first.socket.close()
    assert "200 OK" in await third.head()
    second.socket.close()


async def test_running_out_of_descriptors_pauses(make_target: MakeTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    class Scarce(socket.socket):
        failures: ClassVar = [errno.ECONNABORTED, errno.EMFILE, errno.ENFILE]

        def accept(self) -> tuple[socket.socket, object]:
            if self.failures:
                raise OSError(self.failures.pop(0), "injected")
            return super().accept()

    monkeypatch.setattr(server, "PAUSE_S", 0.01)
    target = make_target()
    plain = listen_tcp(Address("127.0.0.1", 0))
    scarce = Scarce(fileno=plain.detach())
    scarce.setblocking(False)
    target.server.add(scarce, speak_http)
    client = await target.connect(Address.of_socket(scarce.getsockname()))
    await client.send(QUICK)
    assert "200 OK" in await client.head()
    assert Scarce.failures == []


async def test_drain_lets_a_request_finish(target: Target) -> None:
    client = await target.connect()
    await client.send(SLOW)
    await client.exactly(1)
    draining = asyncio.create_task(target.server.drain(10, target.now))
    assert (await client.to_end()).endswith(payload.body(0, 10)[5:])
    client.finish()
    assert await draining is True
    with pytest.raises(ConnectionRefusedError):
        await target.connect()


async def test_drain_says_that_the_connection_closes(target: Target) -> None:
    client = await target.connect()
    await client.send(QUICK.replace(b"size=10", b"size=10&delay_ms=100"))
    await target.counted(1, "connections_active")
    draining = asyncio.create_task(target.server.drain(10, target.now))
    assert "Connection: close\r\n" in await client.head()
    client.finish()
    assert await draining is True


async def test_drain_serves_what_was_in_the_backlog(target: Target) -> None:
    """Closing a listener resets the connections that it has not accepted."""
    loop = asyncio.get_running_loop()
    clients = [socket.create_connection((target.http.host, target.http.port)) for _ in range(100)]
    for client in clients:
        client.sendall(QUICK)
        client.setblocking(False)
    assert target.server.connections == 0
    draining = asyncio.create_task(target.server.drain(10, target.now))
    for client in clients:
        answer = b""
        while piece := await asyncio.wait_for(loop.sock_recv(client, 1000), 10):
            answer += piece
        assert answer.endswith(payload.body(0, 10))
        client.close()
    assert await draining is True


@pytest.mark.parametrize("served", [True, False])
async def test_drain_does_not_wait_for_idle_clients(
    target: Target, monkeypatch: pytest.MonkeyPatch, served: bool
) -> None:
    monkeypatch.setattr(connection, "DRAIN_PATIENCE_S", 0.05)
    client = await target.connect()
    if served:
        await client.send(QUICK)
        await client.head()
        await client.exactly(10)
    await target.counted(1, "connections_active")
    start = monotonic()
    assert await target.server.drain(10, target.now) is True
    assert monotonic() - start < 5
    assert await client.to_end() == b""


@pytest.mark.parametrize("route", ["never-answers", "half-close?size=9", "never-reads"])
async def test_drain_does_not_wait_for_misbehaviour(
    target: Target, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    monkeypatch.setattr(connection, "DRAIN_PATIENCE_S", 0.05)
    client = await target.connect()
    method = "POST" if route == "never-reads" else "GET"
    await client.send(f"{method} /{route} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
    if route.startswith("half"):
        await client.to_end()
    await target.counted(1, "connections_active")
    assert await asyncio.wait_for(target.server.drain(30, target.now), 10) is True


def _by_timeout(target: Target) -> tuple[float, Callable[[], None]]:
    return 0.05, lambda: None


def _by_second_signal(target: Target) -> tuple[float, Callable[[], None]]:
    return 30, target.now.set


@pytest.mark.parametrize("cut", [_by_timeout, _by_second_signal])
@pytest.mark.parametrize("framing", ["length", "close"])
async def test_what_is_not_finished_is_reset(
    target: Target, cut: Callable[[Target], tuple[float, Callable[[], None]]], framing: str
) -> None:
    client = await target.connect()
    await client.send(SLOW.replace(b"gap_ms=100", f"gap_ms=50000&framing={framing}".encode()))
    await client.head()
    await client.exactly(5)
    timeout_s, signal = cut(target)
    draining = asyncio.create_task(target.server.drain(timeout_s, target.now))
    await asyncio.sleep(0)
    signal()
    assert await asyncio.wait_for(draining, 10) is False
    with pytest.raises(ConnectionResetError):
        await client.to_end()
    assert target.count("requests_total", route="bytes", status="aborted") == 1
    assert target.count("ends_total", event="sent") == 0


async def test_many_at_once(target: Target) -> None:
    clients = [await target.connect() for _ in range(300)]
    await target.counted(300, "connections_active")
    for each in clients:
        await each.send(QUICK)
    for each in clients:
        await each.head()
        assert await each.exactly(10) == payload.body(0, 10)
        each.finish()
    for each in clients:
        assert await each.to_end() == b""
    await target.counted(0, "connections_active")
    assert target.count("ends_total", event="sent") == target.count("ends_total", event="received") == 300
