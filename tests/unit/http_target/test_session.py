"""Clients that stall, leave or lie: each has a bounded, expected ending, and none leaves a connection behind.

That none of this puts an exception into the log is checked by the fixture after each test.
"""

import asyncio
import random

import pytest
from tests.unit.http_target.conftest import MakeTarget, Target

GET = "GET {} HTTP/1.1\r\nHost: t\r\n\r\n"
UPLOAD = b"POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n"
SHORT_S = 0.05


async def test_a_client_that_never_sends(make_target: MakeTarget) -> None:
    target = make_target(idle_timeout_s=SHORT_S)
    assert await target.ask("") == b""
    await target.counted(0, "connections_active")
    assert target.count("requests_total", route="unknown", status="408") == 0


async def test_a_client_that_is_idle_between_requests(make_target: MakeTarget) -> None:
    target = make_target(idle_timeout_s=SHORT_S)
    assert (await target.ask(GET.format("/bytes?size=0"))).startswith(b"HTTP/1.1 200")
    await target.counted(1, "ends_total", event="sent")


async def test_a_head_that_does_not_come_to_its_end(make_target: MakeTarget) -> None:
    target = make_target(head_timeout_s=SHORT_S)
    answer = await target.ask("GET / HTTP/1.1\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    await target.counted(1, "requests_total", route="unknown", status="408")


async def test_a_head_that_trickles_has_a_bound_for_all_of_it(make_target: MakeTarget) -> None:
    target = make_target(head_timeout_s=4 * SHORT_S, progress_timeout_s=60)
    client = await target.connect()
    answer = asyncio.create_task(client.to_end())
    await client.send(b"GET / HTTP/1.1\r\nX: ")
    while not answer.done():
        await client.send(b"x")
        await asyncio.wait([answer], timeout=SHORT_S / 2)
    assert (await answer).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("head", [UPLOAD, b"POST /eof-gated HTTP/1.1\r\nHost: t\r\n\r\n"])
async def test_a_body_that_stalls(make_target: MakeTarget, head: bytes) -> None:
    target = make_target(progress_timeout_s=SHORT_S)
    answer = await target.ask(head + b"abc")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the body of the request stalled" in answer


async def test_a_body_that_ends_too_early(target: Target) -> None:
    client = await target.connect()
    await client.send(UPLOAD + b"abc")
    client.finish()
    assert (await client.to_end()).startswith(b"HTTP/1.1 400 ")
    await target.counted(1, "requests_total", route="upload", status="400")


async def test_a_body_that_is_reset(target: Target) -> None:
    client = await target.connect()
    await client.send(UPLOAD + b"abc")
    await target.counted(3, "bytes_total", direction="received")
    client.reset()
    await target.counted(1, "requests_total", route="upload", status="aborted")
    await target.counted(0, "connections_active")
    assert target.count("ends_total", event="received") == 0


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_reader_that_stalls_is_reset(make_target: MakeTarget, framing: str) -> None:
    """Its body is not complete, and must not look so."""
    target = make_target(progress_timeout_s=2 * SHORT_S)
    client = await target.connect()
    await client.send(GET.format(f"/bytes?size=50000000&framing={framing}").encode())
    await target.counted(1, "requests_total", route="bytes", status="aborted")
    with pytest.raises(ConnectionResetError):
        await client.to_end()
    assert target.count("ends_total", event="sent") == 0


async def test_a_reader_that_leaves(target: Target) -> None:
    client = await target.connect()
    await client.send(GET.format("/bytes?size=50000000").encode())
    await client.exactly(100_000)
    client.reset()
    await target.counted(1, "requests_total", route="bytes", status="aborted")
    await target.counted(0, "connections_active")


@pytest.mark.parametrize("route", ["never-answers", "half-close?size=9"])
async def test_a_waiting_client_that_resets(target: Target, route: str) -> None:
    client = await target.connect()
    await client.send(GET.format(f"/{route}").encode())
    await target.counted(1, "connections_active")
    client.reset()
    await target.counted(0, "connections_active")


async def test_an_idle_client_that_resets_has_aborted_no_request(target: Target) -> None:
    client = await target.connect()
    await target.counted(1, "connections_active")
    client.reset()
    await target.counted(0, "connections_active")
    assert target.count("requests_total", route="unknown", status="aborted") == 0


async def test_a_client_that_never_ends_after_our_end(make_target: MakeTarget) -> None:
    target = make_target(linger_timeout_s=SHORT_S)
    client = await target.connect()
    await client.send(GET.format("/bytes?size=9&framing=close").encode())
    await client.to_end()
    await target.counted(0, "connections_active")


async def test_server_first_client_that_stalls(make_target: MakeTarget) -> None:
    target = make_target(progress_timeout_s=SHORT_S)
    client = await target.connect(target.first)
    await client.exactly(64)
    with pytest.raises(ConnectionResetError):
        await client.to_end()
    await target.counted(1, "requests_total", route="server_first", status="aborted")


async def test_a_stalled_client_delays_nobody(target: Target) -> None:
    stalled = await target.connect()
    await stalled.send(GET.format("/bytes?size=50000000").encode())
    busy = await target.connect()
    await busy.send(GET.format("/bytes?size=50000000").encode())
    reading = asyncio.create_task(busy.exactly(10_000_000))
    for _ in range(20):
        quick = await target.connect()
        await quick.send(GET.format("/bytes?size=1").encode())
        await quick.head()
    await reading


@pytest.mark.parametrize("seed", range(40))
async def test_noise_in_place_of_http(target: Target, seed: int) -> None:
    """Bits of HTTP in any order, cut anywhere, ended or reset at any point."""
    dice = random.Random(seed)
    words = [b"GET ", b"POST ", b"/upload", b"/bytes?size=9", b" HTTP/1.1", b"\r\n", b"\r\n\r\n", b"Host: t", b"\0"]
    words += [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"5\r\nabcde\r\n", b"0\r\n\r\n", dice.randbytes(50)]
    client = await target.connect()
    try:
        for _ in range(dice.randrange(30)):
            await client.send(b"".join(dice.choices(words, k=dice.randrange(1, 8))))
        if dice.random() < 0.3:
            client.reset()
        else:
            client.finish()
            await client.to_end()
    except (ConnectionResetError, BrokenPipeError):
        pass
    client.socket.close()
    await target.counted(0, "connections_active")
