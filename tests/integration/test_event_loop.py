"""F21 with both programs: a fault of one stream's own code, and a loop that stood still, cost nobody else anything."""

import asyncio
import time
from random import Random

import pytest
from tests.integration.conftest import PATIENCE_S, Log, Streams, Target, Tunnel, eventually
from tests.pairings import every_pairing

from tunnel.net.relay import Relay
from tunnel.net.tcp import TcpSocket

pytestmark = [pytest.mark.failure("F21"), every_pairing]

BODY = Random(1).randbytes(2_000_000)
STANDS_STILL_S = 2.5
"""Longer than it takes to suspect a peer (1.5 s)."""


async def download(far: asyncio.StreamWriter) -> None:
    far.write(BODY)
    far.close()


async def whole(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read(-1) == BODY


async def opened(tunnel: Tunnel, target: Target) -> tuple[Streams, Streams]:
    near = await tunnel.connect(target.address)
    return near, await target.connection()


@pytest.mark.parametrize("side", ["client", "server"])
async def test_f21_a_handler_that_raises_ends_its_own_stream(
    tunnel: Tunnel, target: Target, log: Log, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """Both of its ends are told, and the others go on."""
    program = tunnel.client if side == "client" else tunnel.server
    (good_reader, _), (_, good_far) = await opened(tunnel, target)
    before = set(program._driver.handlers)
    (bad_reader, bad_writer), (bad_far_reader, bad_far) = await opened(tunnel, target)
    [stream] = set(program._driver.handlers) - before
    relay = program._driver.handlers[stream]
    assert isinstance(relay, Relay)
    await eventually(lambda: relay._socket is not None, "the relay has its socket")
    plant(monkeypatch, relay._socket)
    if side == "client":
        bad_far.write(b"for the client's handler")
    else:
        bad_writer.write(b"for the server's handler")
    async with asyncio.timeout(PATIENCE_S):
        for reader in (bad_reader, bad_far_reader):
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)
    await download(good_far)
    await whole(good_reader)
    (later_reader, later_writer), (_, later_far) = await opened(tunnel, target)
    await download(later_far)
    await whole(later_reader)
    for writer in (later_writer, *tunnel.applications):
        writer.close()
    await tunnel.quiet()
    told = [line for line in log if line["event"] == "internal_error"]
    assert told
    assert all("planted" in str(line["exc_info"]) for line in told)
    for line in told:
        log.remove(line)


def plant(monkeypatch: pytest.MonkeyPatch, sock: TcpSocket | None) -> None:
    """A fault of our own in what writes to this socket."""
    usual = TcpSocket.write

    def write(self: TcpSocket, data: bytes) -> None:
        if self is sock:
            raise RuntimeError("planted")
        usual(self, data)

    monkeypatch.setattr(TcpSocket, "write", write)


async def test_f21_a_loop_that_stood_still_loses_nothing(tunnel: Tunnel, target: Target, log: Log) -> None:
    """Whatever held it up: the silence was its own, and proves nothing about its peer."""
    streams = [await opened(tunnel, target) for _ in range(3)]
    for _, (_, far) in streams:
        await download(far)
    for (reader, _), _ in streams:
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.readexactly(1000) == BODY[:1000]
    time.sleep(STANDS_STILL_S)  # noqa: ASYNC251 -- the loop shall stand still.
    for (reader, _), _ in streams:
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read(-1) == BODY[1000:]
    assert not [line for line in log if line["event"] in ("connection_lost", "connection_suspect")]
