"""What one client may have of a proxy-server, and that others are served meanwhile: the real programs, both engines."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration import test_programs
from tests.integration.conftest import Target
from tests.integration.test_programs import WAIT_S, Program, Stack, Start, start_client, start_server
from tests.pairings import Pairing, every_pairing
from tests.unit.tunnel.engine.harness import first_flight

from tunnel.engine.aioquic import client_engine
from tunnel.engine.settings import ClientTls, EngineLimits

start = test_programs.start  # The fixture.

pytestmark = pytest.mark.failure("F26")

SERVER_ENGINES = pytest.mark.parametrize(
    "pairing", [Pairing("auto", "aioquic"), Pairing("auto", "quinn")], indirect=True, ids=str
)

SECRETS = {"laptop": "laptops-token", "phone": "phones-token"}
MakeServer = Callable[..., Awaitable[Program]]


@pytest.fixture
def make_server(start: Start, certificates: Path, tmp_path: Path, pairing: Pairing) -> MakeServer:
    (tmp_path / "tokens").write_text("".join(f"{name}:{secret}\n" for name, secret in SECRETS.items()))

    async def make(*flags: object) -> Program:
        tokens = ("--tokens-file", tmp_path / "tokens")
        return await start_server(start, certificates, f"--engine={pairing.server}", *tokens, *flags)

    return make


@pytest.fixture
def make_client(start: Start, certificates: Path, tmp_path: Path) -> Callable[..., Awaitable[Stack]]:
    async def make(server: Program, name: str) -> Stack:
        file = tmp_path / f"{name}.token"
        file.write_text(SECRETS[name])
        client = await start_client(start, certificates, await server.address("quic"), "--token-file", file)
        return Stack(start, certificates, server, client)

    return make


MakeClient = Callable[[Program, str], Awaitable[Stack]]


@dataclass
class Served:
    """A request that was: both of its ends."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter

    def close(self) -> None:
        self.near.close()
        self.far.close()


async def works(stack: Stack, target: Target) -> Served:
    reply, reader, writer = await stack.request(target.address)
    assert reply == 0
    _, far_writer = await target.connection()
    far_writer.write(b"served")
    async with asyncio.timeout(WAIT_S):
        assert await reader.readexactly(6) == b"served"
    return Served(writer, far_writer)


@SERVER_ENGINES
async def test_f26_requests_beyond_a_clients_share_are_refused_and_those_of_others_are_not(
    make_server: MakeServer, make_client: MakeClient, target: Target
) -> None:
    server = await make_server("--max-streams-per-token=3")
    laptop, phone = await make_client(server, "laptop"), await make_client(server, "phone")
    served = [await works(laptop, target) for _ in range(3)]
    for _ in range(20):
        reply, reader, writer = await laptop.request(target.address)
        assert reply == 1
        async with asyncio.timeout(WAIT_S):
            assert await reader.read(-1) == b""
        writer.close()
    others = [await works(phone, target) for _ in range(3)]
    assert await server.metric("tunnel_limits_reached_total", limit="streams_of_token") == 20
    assert await laptop.client.metric("socks_failures_total", cause="limit_reached") == 20
    lines = server.events("limit_reached")
    assert lines[0] | {"limit": "streams_of_token", "most": 3, "name": "laptop", "level": "warning"} == lines[0]
    assert len(lines) < 10, "thinned out"
    served.pop().close()
    await server.until("tunnel_streams_active", 5, role="server")
    others.append(await works(laptop, target))
    for one in (*served, *others):
        one.close()


@SERVER_ENGINES
@pytest.mark.parametrize("of", ["token", "address"])
async def test_f26_a_connection_beyond_a_clients_share_is_refused_and_its_others_go_on(
    make_server: MakeServer, make_client: MakeClient, target: Target, of: str
) -> None:
    server = await make_server(f"--max-connections-per-{of}=1")
    first = await make_client(server, "laptop")
    before = await works(first, target)
    second = await make_client(server, "laptop" if of == "token" else "phone")
    failed = await second.client.event("connection_failed", cause="too_many_connections")
    assert "as many connections as the server allows it" in failed["detail"]
    line = await server.event("limit_reached", limit=f"connections_of_{of}")
    assert line["most"] == 1
    assert await server.metric("tunnel_limits_reached_total", limit=f"connections_of_{of}") >= 1
    assert "too_many_connections" in await second.client.until_ready(False)
    again = await works(first, target)
    if of == "token":
        other = await works(await make_client(server, "phone"), target)
        other.close()
    for one in (before, again):
        one.close()
    first.client.signal()
    assert await first.client.ended() == 0
    (await works_at_last(second, target)).close()


@every_pairing
async def test_f26_a_client_that_has_to_prove_its_address_gets_through(
    start: Start, certificates: Path, target: Target, pairing: Pairing
) -> None:
    server = await start_server(start, certificates, f"--engine={pairing.server}", "--retry-above-handshakes=0")
    client = await start_client(start, certificates, await server.address("quic"), f"--engine={pairing.client}")
    (await works(Stack(start, certificates, server, client), target)).close()
    assert await server.metric("quic_retries_total", role="server") == 1
    assert not client.events("connection_failed")


@SERVER_ENGINES
async def test_f26_a_flood_of_forged_first_packets_keeps_nobody_out(
    make_server: MakeServer, make_client: MakeClient, target: Target
) -> None:
    """On a server with few places, of which the flood gets half."""
    server = await make_server("--max-connections=16")
    quic = await server.address("quic")
    forged = [first_flight(client_engine(ClientTls("x", insecure=True), EngineLimits()), 0.0) for _ in range(100)]
    with socket.socket(type=socket.SOCK_DGRAM) as stranger:
        for datagram in forged:
            stranger.sendto(datagram, (quic.host, quic.port))
        laptop = await make_client(server, "laptop")
        for datagram in forged:
            stranger.sendto(datagram, (quic.host, quic.port))
        await laptop.client.event("connection_up")
    (await works(laptop, target)).close()
    assert not laptop.client.events("connection_failed", cause="server_busy")
    assert await server.metric("quic_retries_total", role="server") >= len(forged) - 16 - 8
    assert await server.metric("tunnel_connections_active", role="server") == 1


async def works_at_last(stack: Stack, target: Target) -> Served:
    """It tries to connect again and again."""
    await stack.client.event("connection_up")
    return await works(stack, target)
