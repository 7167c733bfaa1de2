"""Servers come and go behind one name: who drains is left for another address, and nothing is lost.

The name is the test's own; its addresses are of the loopback network.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from tests.integration.conftest import PATIENCE_S, Log, Target, Tunnel, eventually
from tests.pairings import every_pairing

from proxy_client import app
from servicekit.address import Address
from tunnel.engine.port import Address as SocketAddress

MakeTunnel = Callable[..., Awaitable[Tunnel]]
NAME = Address("tunnel.test", 4433)


class Resolver:
    """What NAME resolves to: a draining server may well be the first."""

    def __init__(self) -> None:
        self.servers: list[Address] = []
        self.asked = 0
        self.silent = False

    async def resolve(self, sock: socket.socket, host: str, port: int, timeout_s: float) -> list[SocketAddress]:
        assert Address(host, port) == NAME
        self.asked += 1
        if self.silent:
            raise TimeoutError
        if not self.servers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(f"::ffff:{server.host}", server.port, 0, 0) for server in self.servers]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    made = Resolver()
    monkeypatch.setattr(app, "resolve", made.resolve)
    return made


async def up(tunnel: Tunnel, log: Log, address: Address) -> None:
    """Waits until the last connection that came up is one to this address."""

    def is_last() -> bool:
        ups = [line for line in log if line["event"] == "connection_up" and "server" in line]
        return bool(ups) and ups[-1]["peer"] == str(address)

    await eventually(is_last, f"connected to {address}")
    assert tunnel.client._session.is_up


@every_pairing
async def test_three_rolling_restarts_lose_nothing(
    make_tunnel: MakeTunnel, resolver: Resolver, target: Target, log: Log
) -> None:
    tunnel = await make_tunnel(client_server=NAME)
    assert tunnel.server.address.host == "127.0.0.1"
    current = tunnel.server.address
    resolver.servers = [current]
    await up(tunnel, log, current)
    for turn in range(3):
        reader, writer = await tunnel.connect(target.address)
        far_reader, far_writer = await target.connection()
        old, stopping = len(tunnel.tasks) - 1 if turn else 0, current
        new = await tunnel.start_server(Address(f"127.0.0.{turn + 2}", 0))
        resolver.servers = [stopping, new.address]
        tunnel.stops[old].request()  # SIGTERM
        await up(tunnel, log, new.address)
        fresh_reader, fresh_writer = await tunnel.connect(target.address)
        _, fresh_far_writer = await target.connection()
        fresh_far_writer.write(b"new")
        fresh_far_writer.write_eof()
        writer.write(b"from before")
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            assert await fresh_reader.read(-1) == b"new"
            assert await far_reader.read(-1) == b"from before"
            far_writer.write(b"to the end")
            far_writer.write_eof()
            assert await reader.read(-1) == b"to the end"
            fresh_writer.write_eof()
            assert await tunnel.tasks[old] == 0, "the old server has ended by itself"
        current = new.address
        tunnel.server = new
    assert not [line for line in log if line["event"] in ("connection_failed", "connection_lost", "request_failed")]


async def test_a_silent_resolver_does_not_keep_the_client_from_its_server(
    make_tunnel: MakeTunnel, resolver: Resolver, target: Target, log: Log
) -> None:
    """The server restarts where it was: the address from before is as good as ever."""
    tunnel = await make_tunnel(client_server=NAME)
    resolver.servers = [tunnel.server.address]
    await up(tunnel, log, tunnel.server.address)
    resolver.silent = True
    for _ in range(2):
        tunnel.stops[0].request()
    await tunnel.tasks[0]
    await eventually(lambda: not tunnel.client._session.is_up, "the client knows")
    tunnel.server = await tunnel.start_server(tunnel.server.address)
    await tunnel.connect(target.address)
    await target.connection()
    line = next(line for line in log if line["event"] == "server_not_found" and "addresses_from_before" in line)
    assert line["detail"] == "the resolver did not answer in time"
    assert line["addresses_from_before"] == 1


async def test_a_server_that_moved_while_the_resolver_was_silent(
    make_tunnel: MakeTunnel, resolver: Resolver, target: Target, log: Log
) -> None:
    """The old address is tried in vain, and the name asked again each time."""
    tunnel = await make_tunnel(client_server=NAME)
    resolver.servers = [tunnel.server.address]
    await up(tunnel, log, tunnel.server.address)
    resolver.silent = True
    moved = await tunnel.start_server(Address("127.0.0.2", 0))
    tunnel.stops[0].request()
    await tunnel.tasks[0]
    asked = resolver.asked
    await eventually(lambda: resolver.asked > asked + 1, "the name is asked again")
    resolver.silent, resolver.servers = False, [moved.address]
    tunnel.server = moved
    await tunnel.connect(target.address)
    await target.connection()
