"""Endings through both programs, with every pairing of engines: what an application and a target see. One test a row of
the failure catalogue.
"""

import asyncio
import socket

import pytest
from tests.integration.conftest import PATIENCE_S, Target, Tunnel, eventually, reset
from tests.pairings import every_pairing

from tunnel.session.ledger import END_EVENTS

pytestmark = every_pairing

PROMPT_S = 2.0
"""An ending is forwarded at once; this leaves room for a slow machine and none for a timeout of ours."""


async def write_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def test_bytes_and_ends_in_both_directions(tunnel: Tunnel, target: Target) -> None:
    reader, writer = await tunnel.connect(target.address)
    far_reader, far_writer = await target.connection()
    request, response = b"q" * 100_000, b"r" * 300_000
    writer.write(request)
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        assert await far_reader.read(-1) == request
        far_writer.write(response)
        far_writer.write_eof()
        assert await reader.read(-1) == response
    writer.close()
    await tunnel.quiet()
    for session in (tunnel.client._session, tunnel.server._session):
        ends = {(d.label, event): n for (d, event), n in session.ledger.ends.items()}
        for direction in ("client_to_target", "target_to_client"):
            counts = [ends[direction, event] for event in END_EVENTS]
            assert counts == [1, 1, 1, 0, 0]


@pytest.mark.failure("F03")
async def test_f03_end_of_response_does_not_wait_for_end_of_request(tunnel: Tunnel, target: Target) -> None:
    reader, writer = await tunnel.connect(target.address)
    far_reader, far_writer = await target.connection()
    far_writer.write(b"response")
    far_writer.write_eof()
    async with asyncio.timeout(PROMPT_S):
        assert await reader.read(-1) == b"response"
    # The other direction is as alive as before.
    writer.write(b"later")
    async with asyncio.timeout(PROMPT_S):
        assert await far_reader.readexactly(5) == b"later"
        writer.write_eof()
        assert await far_reader.read(-1) == b""
    writer.close()
    await tunnel.quiet()


@pytest.mark.failure("F04")
async def test_f04_end_of_request_does_not_cut_the_response(tunnel: Tunnel, target: Target) -> None:
    reader, writer = await tunnel.connect(target.address)
    far_reader, far_writer = await target.connection()
    writer.write_eof()
    body = bytes(range(256)) * 4096
    async with asyncio.timeout(PATIENCE_S):
        assert await far_reader.read(-1) == b""
        far_writer.write(body)
        far_writer.write_eof()
        assert await reader.read(-1) == body
    writer.close()
    await tunnel.quiet()


@pytest.mark.failure("F05")
async def test_f05_reset_of_the_target_is_a_reset_of_the_application(tunnel: Tunnel, target: Target) -> None:
    reader, writer = await tunnel.connect(target.address)
    _, far_writer = await target.connection()
    far_writer.write(b"half of it")
    async with asyncio.timeout(PROMPT_S):
        assert await reader.readexactly(10) == b"half of it"
        reset(far_writer)
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
    writer.close()
    await tunnel.quiet()


@pytest.mark.failure("F06")
async def test_f06_lost_connection_is_a_reset_of_both_ends(tunnel: Tunnel, target: Target) -> None:
    reader, writer = await tunnel.connect(target.address)
    far_reader, far_writer = await target.connection()
    far_writer.write(b"half of it")
    async with asyncio.timeout(PROMPT_S):
        await reader.readexactly(10)
        tunnel.stops[0].request()  # proxy-server is stopped the hard way
        tunnel.stops[0].request()
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        with pytest.raises(ConnectionResetError):
            await far_reader.read(-1)
    writer.close()


@pytest.mark.failure("F07")
async def test_f07_reset_of_a_silent_stream_wakes_the_reader(tunnel: Tunnel, target: Target) -> None:
    reader, writer = await tunnel.connect(target.address)
    _, far_writer = await target.connection()
    waiting = asyncio.ensure_future(reader.read(-1))
    reset(far_writer)
    async with asyncio.timeout(PROMPT_S):
        with pytest.raises(ConnectionResetError):
            await waiting
    writer.close()
    await tunnel.quiet()


@pytest.mark.failure("F08")
async def test_f08_client_that_quits_early_frees_the_target(tunnel: Tunnel, target: Target) -> None:
    _, writer = await tunnel.connect(target.address)
    _, far_writer = await target.connection()
    far_writer.write(b"x" * 4_000_000)
    reset(writer)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await write_for_ever(far_writer)
    await tunnel.quiet()


@pytest.mark.failure("F08")
async def test_f08_client_that_closes_politely_in_the_middle(tunnel: Tunnel, target: Target) -> None:
    """close() with bytes unread: Linux resets, so both directions are over."""
    reader, writer = await tunnel.connect(target.address)
    _, far_writer = await target.connection()
    far_writer.write(b"x" * 4_000_000)
    await reader.readexactly(1000)
    writer.close()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await write_for_ever(far_writer)
    await tunnel.quiet()


@pytest.mark.failure("F09")
@pytest.mark.failure("F10")
async def test_f09_f10_slow_client_bounds_the_buffers(tunnel: Tunnel, target: Target) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", tunnel.client.address.port))
    request = b"\x05\x01\x00\x01" + socket.inet_aton("127.0.0.1") + target.address.port.to_bytes(2, "big")
    await loop.sock_sendall(sock, b"\x05\x01\x00" + request)
    _, far_writer = await target.connection()
    written = 0
    while written < 60_000_000:
        far_writer.write(b"y" * 65536)
        written += 65536
        try:
            async with asyncio.timeout(1.0):
                await far_writer.drain()
        except TimeoutError:
            break
    client, server = tunnel.client._session, tunnel.server._session
    held_at_client = client.ledger.undelivered_bytes
    held_at_server = sum(stats.buffered_send_bytes for stats in server.connection_stats())
    assert written < 30_000_000, "the target was never stopped"
    assert 0 < held_at_client <= 2 * 1024 * 1024
    assert held_at_server <= 3 * 1024 * 1024
    sock.close()
    await tunnel.quiet()


@pytest.mark.failure("F11")
async def test_f11_stalled_stream_does_not_stop_the_others(tunnel: Tunnel, target: Target) -> None:
    stalled = []
    for _ in range(8):
        pair = await tunnel.connect(target.address)
        pair[1].transport.pause_reading()  # type: ignore[attr-defined]
        stalled.append(pair)
        _, far_writer = await target.connection()
        far_writer.write(b"z" * 8_000_000)
    reader, writer = await tunnel.connect(target.address)
    _, far_writer = await target.connection()
    body = b"w" * 2_000_000
    far_writer.write(body)
    far_writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read(-1) == body
    for _, other in [(reader, writer), *stalled]:
        other.transport.abort()
    await tunnel.quiet()


@pytest.mark.failure("F14")
async def test_f14_nothing_waits_for_a_receipt(tunnel: Tunnel, target: Target) -> None:
    """The response's end is not confirmed (nobody reads it), yet the request's bytes and end get through."""
    _, writer = await tunnel.connect(target.address)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    far_reader, far_writer = await target.connection()
    far_writer.write(b"v" * 6_000_000)
    far_writer.write_eof()
    writer.write(b"request")
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        assert await far_reader.read(-1) == b"request"
    writer.transport.abort()
    await tunnel.quiet()


@pytest.mark.failure("F15")
async def test_f15_streams_are_given_back(tunnel: Tunnel, target: Target) -> None:
    """More than twice as many connections as QUIC allows streams, each ended in another way."""
    for number in range(600):
        reader, writer = await tunnel.connect(target.address)
        far_reader, far_writer = await target.connection()
        match number % 3:
            case 0:
                far_writer.write_eof()
                async with asyncio.timeout(PATIENCE_S):
                    assert await reader.read(-1) == b""
                writer.close()
            case 1:
                writer.write_eof()
                async with asyncio.timeout(PATIENCE_S):
                    assert await far_reader.read(-1) == b""
                far_writer.close()
            case _:
                reset(writer)
        far_writer.close()
        writer.close()
    await tunnel.quiet()


@pytest.mark.failure("F17")
async def test_f17_server_that_speaks_first(tunnel: Tunnel, target: Target) -> None:
    reader, writer = await tunnel.connect(target.address)
    _, far_writer = await target.connection()
    far_writer.write(b"220 welcome\r\n")
    async with asyncio.timeout(PROMPT_S):
        assert await reader.readline() == b"220 welcome\r\n"
    writer.close()
    far_writer.close()
    await tunnel.quiet()


@pytest.mark.failure("F20")
async def test_f20_nothing_is_left_after_many(tunnel: Tunnel, target: Target) -> None:
    async def once() -> None:
        reader, writer = await tunnel.connect(target.address)
        writer.write(b"ping")
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read(-1) == b"pong"
        writer.close()

    async def serve() -> None:
        while True:
            far_reader, far_writer = await target.accepted.get()
            await far_reader.read(-1)
            far_writer.write(b"pong")
            far_writer.close()

    serving = asyncio.ensure_future(serve())
    for _ in range(20):
        await asyncio.gather(*(once() for _ in range(32)))
    serving.cancel()
    await tunnel.quiet()
    for session in (tunnel.client._session, tunnel.server._session):
        assert not session._streams
        assert all(not connection.streams for connection in session._connections.values())
        assert all(key[0] == "liveness" or key[0] == "spare" for key in session._timers._at)
    assert tunnel.client._session.ledger.streams["eof"] == 640


@pytest.mark.failure("F22")
async def test_f22_bytes_behind_the_request_are_handed_on(tunnel: Tunnel, target: Target) -> None:
    early = b"e" * 9000
    reader, writer = await tunnel.connect(target.address, early)
    far_reader, far_writer = await target.connection()
    async with asyncio.timeout(PATIENCE_S):
        assert await far_reader.readexactly(len(early)) == early
        far_writer.write(b"answer")
        far_writer.close()  # at once, while the client may still send
        assert await reader.read(-1) == b"answer"
    writer.close()
    await tunnel.quiet()


async def test_half_close_before_the_reply_is_forwarded(tunnel: Tunnel, target: Target) -> None:
    reader, writer = await tunnel.socks()
    request = b"\x05\x01\x00\x01" + socket.inet_aton("127.0.0.1") + target.address.port.to_bytes(2, "big")
    writer.write(b"\x05\x01\x00" + request + b"all I have to say")
    writer.write_eof()
    far_reader, far_writer = await target.connection()
    async with asyncio.timeout(PATIENCE_S):
        assert await far_reader.read(-1) == b"all I have to say"
        far_writer.write(b"thanks")
        far_writer.close()
        answer = await reader.read(-1)
    assert answer.endswith(b"thanks")
    writer.close()
    await tunnel.quiet()


async def test_drain_lets_open_streams_finish(tunnel: Tunnel, target: Target) -> None:
    reader, writer = await tunnel.connect(target.address)
    _, far_writer = await target.connection()
    far_writer.write(b"first ")
    tunnel.stops[0].request()  # SIGTERM for proxy-server
    await eventually(lambda: tunnel.server._draining, "draining")
    far_writer.write(b"second")
    far_writer.write_eof()
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read(-1) == b"first second"
        assert await tunnel.tasks[0] == 0
    writer.close()
