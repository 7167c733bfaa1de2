"""The relay without a fault: every byte and every ending as it came, each direction by itself."""

import asyncio
import socket

import pytest
from tests.unit.loadgen.faulty.conftest import END, RESET, WAIT_S, Proxies, request

from loadgen.faulty.fault import Fault
from loadgen.faulty.way import departure
from servicekit import payload
from servicekit.address import Address

BODY = payload.body(3, 300_000)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_bytes_both_ways(proxies: Proxies, host: str) -> None:
    pair = await proxies.pair(Fault, host)
    sending = asyncio.gather(pair.client.send(BODY), pair.target.send(BODY[::-1]))
    assert await pair.target.read(len(BODY)) == BODY
    assert await pair.client.read(len(BODY)) == BODY[::-1]
    await sending


async def test_an_upload_ends_and_its_answer_does_not(proxies: Proxies) -> None:
    pair = await proxies.pair(Fault)
    await pair.client.send(b"all")
    pair.client.end()
    assert await pair.target.rest() == (b"all", END)
    assert not pair.client.has_input
    await pair.target.send(b"answer")
    pair.target.end()
    assert await pair.client.rest() == (b"answer", END)


async def test_an_answer_ends_and_the_upload_does_not(proxies: Proxies) -> None:
    pair = await proxies.pair(Fault)
    pair.target.end()
    assert await pair.client.rest() == (b"", END)
    await pair.echo()
    pair.client.end()
    assert await pair.target.rest() == (b"", END)


async def test_a_reset_by_the_client(proxies: Proxies) -> None:
    pair = await proxies.pair(Fault)
    await pair.echo()
    pair.client.reset()
    assert await pair.target.rest() == (b"", RESET)


async def test_a_reset_by_the_target_behind_its_bytes(proxies: Proxies) -> None:
    pair = await proxies.pair(Fault)
    await pair.target.send(b"half")
    assert await pair.client.read(4) == b"half"
    pair.target.reset()
    assert await pair.client.rest() == (b"", RESET)


async def test_a_reset_behind_an_end(proxies: Proxies) -> None:
    pair = await proxies.pair(Fault)
    pair.client.end()
    assert await pair.target.rest() == (b"", END)
    pair.client.reset()
    async with asyncio.timeout(WAIT_S):
        await departure(pair.target.socket)


async def test_bytes_behind_the_request_are_the_targets(proxies: Proxies) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        listener.setblocking(False)
        client = await proxies.client(proxies.proxy(Fault))
        await client.send(b"\x05\x01\x00" + request(Address.of_socket(listener.getsockname())) + b"early")
        async with asyncio.timeout(WAIT_S):
            accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
        with accepted:
            accepted.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(accepted, 100) == b"early"


@pytest.mark.parametrize(
    ("asks", "code"),
    [
        (request(Address("127.0.0.1", 1), command=2), 7),
        (b"\x05\x01\x00\x09" + bytes(6), 8),
        (request(Address("127.0.0.1", 1)), 5),
        (request(Address("a" * 64, 1)), 4),
    ],
)
async def test_what_cannot_be_done_is_said(proxies: Proxies, asks: bytes, code: int) -> None:
    client = await proxies.client(proxies.proxy(Fault))
    await client.send(b"\x05\x01\x00" + asks)
    reply = await client.read(12)
    assert reply == b"\x05\x00" + bytes((5, code, 0, 1)) + bytes(6)
    assert (await client.rest())[0] == b""


async def test_no_acceptable_method(proxies: Proxies) -> None:
    client = await proxies.client(proxies.proxy(Fault))
    await client.send(b"\x05\x01\x02")
    assert await client.rest() == (b"\x05\xff", END)


async def test_the_end_of_the_proxy_is_a_reset(proxies: Proxies) -> None:
    pair = await proxies.pair(Fault)
    await pair.echo()
    for task in proxies._tasks:
        task.cancel()
    assert await pair.client.rest() == (b"", RESET)
    assert await pair.target.rest() == (b"", RESET)
