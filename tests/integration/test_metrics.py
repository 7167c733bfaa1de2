"""The metrics of both proxies: all there from the start, at zero, and exact after traffic."""

import asyncio
import socket
import sys
import time
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import generate_latest
from tests.integration.conftest import LOOPBACK, PATIENCE_S, Target, Tunnel, eventually, reset
from tests.pairings import every_pairing

from proxy_client.app import ProxyClient
from proxy_server.app import ProxyServer
from servicekit.address import Address
from tunnel.errors import Cause
from tunnel.session.events import WaitsFor
from tunnel.session.shares import Limit

pytestmark = every_pairing

MakeTunnel = Callable[..., Awaitable[Tunnel]]
Series = tuple[str, tuple[tuple[str, str], ...]]

UP, DOWN = "client_to_target", "target_to_client"
DIRECTIONS = (UP, DOWN)
EVENTS = ("received", "forwarded", "confirmed", "rescued", "abandoned")
ENDINGS = ("eof", "reset", "lost", "closed", "refused")
CAUSES = [cause.label for cause in Cause]
REPLIES = (
    *("succeeded", "general_failure", "not_allowed", "network_unreachable", "host_unreachable"),
    *("connection_refused", "ttl_expired", "command_not_supported", "address_type_not_supported"),
)


def one(name: str, **labels: str) -> Series:
    return name, tuple(sorted(labels.items()))


def of_tunnel(role: str) -> set[Series]:
    """What both programs have (DESIGN section 8)."""
    gauges = ("tunnel_connections_active", "tunnel_streams_active", "tunnel_oldest_unconfirmed_end_timestamp_seconds")
    found = {one(name, role=role) for name in (*gauges, "tunnel_flow_control_waits_total")}
    found |= {one("tunnel_connections_total", role=role, cause=cause) for cause in CAUSES}
    found |= {one("tunnel_streams_total", role=role, ending=ending) for ending in ENDINGS}
    for direction in DIRECTIONS:
        names = ("tunnel_bytes_total", "tunnel_half_closed_streams", "tunnel_buffered_bytes")
        found |= {one(name, role=role, direction=direction) for name in names}
        found |= {one("tunnel_ends_total", role=role, direction=direction, event=event) for event in EVENTS}
        found |= {one("tunnel_ends_overdue", role=role, direction=direction, event=event) for event in EVENTS[:2]}
    found |= {one("tunnel_stalls_total", role=role, waits_for=waits_for) for waits_for in WaitsFor}
    return found | {one(f"tunnel_handshake_seconds_{what}", role=role) for what in ("count", "sum")}


OF_CLIENT = (
    of_tunnel("client")
    | {one("socks_replies_total", reply=reply) for reply in REPLIES}
    | {one("socks_failures_total", cause=cause) for cause in CAUSES if cause != "none"}
    | {one("socks_connections_active"), one("socks_handshake_seconds_count"), one("socks_handshake_seconds_sum")}
)
OF_SERVER = (
    of_tunnel("server")
    | {one("tunnel_dials_total", cause=cause) for cause in CAUSES}
    | {one("tunnel_limits_reached_total", limit=limit) for limit in Limit}
    | {one("tunnel_dials_active"), one("tunnel_dial_seconds_count"), one("tunnel_dial_seconds_sum")}
)


def read(program: ProxyClient | ProxyServer) -> dict[Series, float]:
    """Every series of ours that counts or measures, the buckets of histograms and the sizes of tables apart."""
    return {
        one(sample.name, **sample.labels): sample.value
        for family in program._registry.collect()
        for sample in family.samples
        if sample.name.startswith(("socks_", "tunnel_")) and not sample.name.endswith(("_bucket", "_info", "_entries"))
    }


def nonzero(program: ProxyClient | ProxyServer) -> dict[Series, float]:
    return {series: value for series, value in read(program).items() if value}


async def up(tunnel: Tunnel) -> None:
    for side, role in ((tunnel.at_client, "client"), (tunnel.at_server, "server")):
        await eventually(lambda: side("tunnel_connections_active", role=role) == 1, f"{role} is up")  # noqa: B023


async def exchange(tunnel: Tunnel, target: Target, request: int, response: int) -> None:
    """So many bytes each way, both ends clean."""
    reader, writer = await tunnel.connect(target.address)
    far_reader, far_writer = await target.connection()
    writer.write(bytes(request))
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        assert len(await far_reader.read(-1)) == request
        far_writer.write(bytes(response))
        far_writer.close()
        assert len(await reader.read(-1)) == response
    writer.close()


async def test_every_series_is_there_at_zero(make_tunnel: MakeTunnel) -> None:
    """No scrape ever has to guess what a missing series means."""
    with socket.socket(type=socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        tunnel = await make_tunnel(client_server=Address.of_socket(nobody.getsockname()))
        for program, expected in ((tunnel.client, OF_CLIENT), (tunnel.server, OF_SERVER)):
            assert read(program) == dict.fromkeys(expected, 0.0)


async def test_a_tunnel_that_is_up(tunnel: Tunnel) -> None:
    await up(tunnel)
    for side, role in ((tunnel.at_client, "client"), (tunnel.at_server, "server")):
        await at_rest(side, role)
    for program, role in ((tunnel.client, "client"), (tunnel.server, "server")):
        took = one("tunnel_handshake_seconds_sum", role=role)
        values = nonzero(program)
        assert 0 < values.pop(took) < PATIENCE_S
        assert values == {
            one("tunnel_connections_active", role=role): 1,
            one("tunnel_handshake_seconds_count", role=role): 1,
        }


async def test_exact_after_clean_transfers(tunnel: Tunnel, target: Target) -> None:
    await up(tunnel)
    sizes = [(0, 0), (1, 1), (100, 3_000_000), (3_000_000, 100), (70_000, 70_000)]
    await asyncio.gather(*(exchange_of_its_own(tunnel, *pair) for pair in sizes))
    await tunnel.quiet()
    await eventually(lambda: tunnel.at_client("socks_connections_active") == 0, "the applications have left")
    for side, role in ((tunnel.at_client, "client"), (tunnel.at_server, "server")):
        assert side("tunnel_bytes_total", role=role, direction=UP) == sum(request for request, _ in sizes)
        assert side("tunnel_bytes_total", role=role, direction=DOWN) == sum(response for _, response in sizes)
        for direction in DIRECTIONS:
            ledger = {event: side("tunnel_ends_total", role=role, direction=direction, event=event) for event in EVENTS}
            assert ledger == {"received": 5, "forwarded": 5, "confirmed": 5, "rescued": 0, "abandoned": 0}
        assert side("tunnel_streams_total", role=role, ending="eof") == 5
        await at_rest(side, role)
    assert tunnel.at_client("socks_replies_total", reply="succeeded") == 5
    assert tunnel.at_client("socks_handshake_seconds_count") == 5
    assert tunnel.at_server("tunnel_dials_total", cause="none") == 5
    assert tunnel.at_server("tunnel_dial_seconds_count") == 5


async def exchange_of_its_own(tunnel: Tunnel, request: int, response: int) -> None:
    """With a target of its own, because several run at once."""
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    async with await asyncio.start_server(lambda *streams: accepted.put_nowait(streams), "127.0.0.1", 0) as server:
        await exchange(tunnel, Target(Address.of_socket(server.sockets[0].getsockname()), accepted), request, response)


async def at_rest(side: Callable[..., float], role: str) -> None:
    """The gauges, when nothing is open. What was sent last is held until its acknowledgement."""
    assert side("tunnel_streams_active", role=role) == 0
    assert side("tunnel_oldest_unconfirmed_end_timestamp_seconds", role=role) == 0
    for direction in DIRECTIONS:
        assert side("tunnel_half_closed_streams", role=role, direction=direction) == 0
        buffered = "tunnel_buffered_bytes"
        await eventually(lambda: side(buffered, role=role, direction=direction) == 0, buffered)  # noqa: B023


async def test_labels_do_not_grow_with_traffic(make_tunnel: MakeTunnel, target: Target) -> None:
    tunnel = await make_tunnel(server_egress_allow=("127.0.0.1/32",))
    await up(tunnel)
    before = {program: read(program).keys() for program in (tunnel.client, tunnel.server)}
    await exchange(tunnel, target, 10, 10)
    for number in range(1, 20):
        with pytest.raises(ConnectionRefusedError):
            await tunnel.connect(Address(f"10.0.0.{number}", number))
    await tunnel.quiet()
    assert {program: read(program).keys() for program in before} == before
    assert tunnel.at_client("tunnel_streams_total", role="client", ending="refused") == 19
    assert tunnel.at_server("tunnel_streams_total", role="server", ending="refused") == 19
    # Refusals are no ends: the ledger is about what applications and targets said.
    for side, role in ((tunnel.at_client, "client"), (tunnel.at_server, "server")):
        assert [side("tunnel_ends_total", role=role, direction=DOWN, event=event) for event in EVENTS] == [
            1,
            1,
            1,
            0,
            0,
        ]


async def test_open_and_half_closed(tunnel: Tunnel, target: Target) -> None:
    """Gauges of now: they rise, say which direction ended, and come back."""
    reader, writer = await tunnel.connect(target.address)
    far_reader, far_writer = await target.connection()
    half_closed = "tunnel_half_closed_streams"
    sides = ((tunnel.at_client, "client"), (tunnel.at_server, "server"))
    assert tunnel.at_client("socks_connections_active") == 1
    for side, role in sides:
        assert side("tunnel_streams_active", role=role) == 1
        assert [side(half_closed, role=role, direction=direction) for direction in DIRECTIONS] == [0, 0]
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        assert await far_reader.read(-1) == b""
    for side, role in sides:
        assert [side(half_closed, role=role, direction=direction) for direction in DIRECTIONS] == [1, 0]
        assert side("tunnel_streams_active", role=role) == 1
    far_writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read(-1) == b""
    writer.close()
    await tunnel.quiet()
    for side, role in sides:
        await at_rest(side, role)

    reader, writer = await tunnel.connect(target.address)
    far_reader, far_writer = await target.connection()
    far_writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read(-1) == b""
    for side, role in sides:
        assert [side(half_closed, role=role, direction=direction) for direction in DIRECTIONS] == [0, 1]
    writer.close()
    await tunnel.quiet()
    await eventually(lambda: tunnel.at_client("socks_connections_active") == 0, "the application has left")


async def test_reader_that_does_not_read(tunnel: Tunnel, target: Target) -> None:
    """Bytes wait in proxy-client and, without credit, in the target's socket: both show, and are gone afterwards."""
    reader, writer = await tunnel.connect(target.address)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    _, far_writer = await target.connection()
    size = 12_000_000
    waits_before = tunnel.at_server("tunnel_flow_control_waits_total", role="server")
    far_writer.write(bytes(size))
    far_writer.write_eof()
    oldest = "tunnel_oldest_unconfirmed_end_timestamp_seconds"
    await eventually(lambda: tunnel.at_server("tunnel_flow_control_waits_total", role="server") > waits_before, "waits")
    await eventually(lambda: tunnel.at_client("tunnel_buffered_bytes", role="client", direction=DOWN) > 0, "held here")
    assert tunnel.at_server(oldest, role="server") == 0  # The end is still in the target's socket.
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(PATIENCE_S):
        assert len(await reader.read(-1)) == size
    writer.close()
    await tunnel.quiet()
    for side, role in ((tunnel.at_client, "client"), (tunnel.at_server, "server")):
        assert side("tunnel_bytes_total", role=role, direction=DOWN) == size
        await at_rest(side, role)


async def test_end_that_waits_for_its_receipt(tunnel: Tunnel, target: Target) -> None:
    """All of it fits on the way, so the end is in the tunnel, and cannot be delivered."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", tunnel.client.address.port))
    packed = socket.inet_aton("127.0.0.1") + target.address.port.to_bytes(2, "big")
    await loop.sock_sendall(sock, b"\x05\x01\x00" + b"\x05\x01\x00\x01" + packed)
    _, far_writer = await target.connection()
    oldest = "tunnel_oldest_unconfirmed_end_timestamp_seconds"
    before = time.time()
    # More than the sockets between proxy-client and the application take, less than the tunnel's first window.
    chunk, written = bytes(65536), 0
    while tunnel.at_client("tunnel_buffered_bytes", role="client", direction=DOWN) == 0:
        assert written < 20_000_000
        far_writer.write(chunk)
        written += len(chunk)
        await far_writer.drain()
        await asyncio.sleep(0.005)
    far_writer.write_eof()
    await eventually(lambda: tunnel.at_server(oldest, role="server") > 0, "the end waits")
    assert before - 1 < tunnel.at_server(oldest, role="server") < time.time() + 1
    ends = [tunnel.at_server("tunnel_ends_total", role="server", direction=DOWN, event=event) for event in EVENTS]
    assert ends == [1, 1, 0, 0, 0]
    async with asyncio.timeout(PATIENCE_S):
        received = 0
        while piece := await loop.sock_recv(sock, 65536):
            received += len(piece)
    assert received == 12 + written
    sock.close()
    await tunnel.quiet()
    for side, role in ((tunnel.at_client, "client"), (tunnel.at_server, "server")):
        await at_rest(side, role)


def by_ending(side: Callable[..., float], role: str) -> dict[str, float]:
    return {ending: side("tunnel_streams_total", role=role, ending=ending) for ending in ENDINGS}


@pytest.mark.parametrize("who", ["application", "target"])
async def test_streams_that_were_reset(tunnel: Tunnel, target: Target, who: str) -> None:
    _, writer = await tunnel.connect(target.address)
    far_reader, far_writer = await target.connection()
    writer.write(b"x")
    async with asyncio.timeout(PATIENCE_S):
        await far_reader.readexactly(1)
    reset(writer if who == "application" else far_writer)
    await tunnel.quiet()
    writer.close()
    for side, role in ((tunnel.at_client, "client"), (tunnel.at_server, "server")):
        assert by_ending(side, role) == dict.fromkeys(ENDINGS, 0) | {"reset": 1}
        assert side("tunnel_bytes_total", role=role, direction=UP) == 1
        for direction in DIRECTIONS:  # A reset is no end.
            ends = [side("tunnel_ends_total", role=role, direction=direction, event=event) for event in EVENTS]
            assert ends == [0, 0, 0, 0, 0]
        await at_rest(side, role)


@pytest.mark.failure("F24")
async def test_f24_stream_that_lingers_half_closed(make_tunnel: MakeTunnel, target: Target) -> None:
    tunnel = await make_tunnel(client_half_closed_linger_s=0.3)
    reader, writer = await tunnel.connect(target.address)
    writer.write_eof()  # And then nothing happens.
    async with asyncio.timeout(PATIENCE_S):
        await target.connection()
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
    writer.close()
    await tunnel.quiet()
    assert by_ending(tunnel.at_client, "client") == dict.fromkeys(ENDINGS, 0) | {"closed": 1}
    await at_rest(tunnel.at_client, "client")
    await at_rest(tunnel.at_server, "server")


async def test_streams_that_were_lost(tunnel: Tunnel, target: Target) -> None:
    reader, writer = await tunnel.connect(target.address)
    for _ in range(2):
        tunnel.stops[0].request()
    await tunnel.tasks[0]
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
    writer.close()
    await eventually(lambda: tunnel.at_client("tunnel_streams_active", role="client") == 0, "no stream is left")
    assert by_ending(tunnel.at_client, "client") == dict.fromkeys(ENDINGS, 0) | {"lost": 1}
    assert tunnel.at_client("tunnel_connections_total", role="client", cause="shutting_down") == 1
    assert tunnel.at_client("tunnel_connections_active", role="client") == 0
    await at_rest(tunnel.at_client, "client")


@pytest.mark.failure("F21")
async def test_f21_scrapes_while_streams_come_and_go(tunnel: Tunnel, target: Target) -> None:
    """A scrape is another thread, which may look at any moment."""
    scraping = True

    def scrape() -> int:
        scrapes = found = 0
        while scraping:
            for program in (tunnel.client, tunnel.server):
                generate_latest(program._registry)
                assert program._pending({})
                found += program._evidence(application) is not None
            scrapes += 1
        return min(scrapes, found)

    idle = [await tunnel.connect(target.address) for _ in range(64)]  # So that there is something to look through.
    host, port = idle[0][1].get_extra_info("sockname")
    application = {"application": f"{host}:{port}"}
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        scraper = asyncio.get_running_loop().run_in_executor(None, scrape)
        for _ in range(6):
            await asyncio.gather(*(exchange_of_its_own(tunnel, 1000, 1000) for _ in range(16)))
        scraping = False
        assert await scraper > 0
    finally:
        scraping = False
        sys.setswitchinterval(interval_s)
    for _, writer in idle:
        reset(writer)
    await tunnel.quiet()


async def test_metrics_port_serves_them(tunnel: Tunnel) -> None:
    """In the text format, with help, types, and no series that tells when another was made."""
    await up(tunnel)
    text = generate_latest(tunnel.client._registry).decode() + generate_latest(tunnel.server._registry).decode()
    for name, _ in OF_CLIENT | OF_SERVER:
        family = name.removesuffix("_sum").removesuffix("_count")
        assert f"# HELP {family} " in text
        kind = "counter" if name.endswith("_total") else "gauge" if family == name else "histogram"
        assert f"# TYPE {family} {kind}\n" in text
    assert "_created" not in text
    assert LOOPBACK.host not in text
