"""The HTTP contract, byte by byte, as a raw client sees it."""

import asyncio
import hashlib
import json
from time import monotonic

import pytest
from tests.unit.http_target.conftest import Target

from http_target import routes
from servicekit import payload

EMPTY_SHA256 = hashlib.sha256().hexdigest()


def get(path: str, *, close: bool = True) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: t\r\n{'Connection: close' if close else 'X: y'}\r\n\r\n"


def post(path: str, length: int | None = None, *, close: bool = True) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: t\r\n"
    head += "" if length is None else f"Content-Length: {length}\r\n"
    head += "Connection: close\r\n" if close else ""
    return f"{head}\r\n".encode()


def confirmed(size: int, seed: int) -> dict[str, int | str]:
    return {"received": size, "sha256": payload.sha256(seed, size)}


def split(answer: bytes) -> tuple[list[str], bytes]:
    """The lines of the head, and the body."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    assert blank
    return head.decode().split("\r\n"), body


def status(answer: bytes) -> int:
    return int(split(answer)[0][0].split()[1])


@pytest.mark.parametrize("size", [0, 1, 65536, 200_001])
async def test_length(target: Target, size: int) -> None:
    head, body = split(await target.ask(get(f"/bytes?seed=5&size={size}&framing=length")))
    assert head[0] == "HTTP/1.1 200 OK"
    assert f"Content-Length: {size}" in head
    assert body == payload.body(5, size)
    await target.counted(1, "requests_total", route="bytes", status="200")
    assert target.count("bytes_total", direction="sent") == size


@pytest.mark.parametrize("size", [0, 1, 65536, 200_001])
async def test_chunked(target: Target, size: int) -> None:
    head, body = split(await target.ask(get(f"/bytes?seed=5&size={size}&framing=chunked")))
    assert "Transfer-Encoding: chunked" in head
    plain = b""
    while True:
        length, _, body = body.partition(b"\r\n")
        count = int(length, 16)
        plain, body = plain + body[:count], body[count + 2 :]
        if not count:
            break
    assert body == b""
    assert plain == payload.body(5, size)


@pytest.mark.parametrize("size", [0, 1, 65536, 200_001])
async def test_close_delimited(target: Target, size: int) -> None:
    head, body = split(await target.ask(get(f"/bytes?seed=5&size={size}&framing=close", close=False)))
    assert head == ["HTTP/1.1 200 OK", "Content-Type: application/octet-stream", "Connection: close"]
    assert body == payload.body(5, size)


async def test_the_end_of_a_close_delimited_body_does_not_wait_for_the_client(target: Target) -> None:
    client = await target.connect()
    await client.send(get("/bytes?size=10&framing=close", close=False).encode())
    await client.to_end()
    assert target.count("ends_total", event="sent") == 1
    assert target.count("ends_total", event="received") == 0
    client.finish()
    await target.counted(1, "ends_total", event="received")
    await target.counted(0, "connections_active")


async def test_keep_alive(target: Target) -> None:
    client = await target.connect()
    for size in (10, 0, 70_000):
        await client.send(get(f"/bytes?size={size}", close=False).encode())
        assert f"Content-Length: {size}\r\n" in await client.head()
        assert await client.exactly(size) == payload.body(0, size)
    await client.send(get("/bytes?size=3&framing=chunked", close=False).encode())
    await client.head()
    assert await client.exactly(13) == b"3\r\n" + payload.body(0, 3) + b"\r\n0\r\n\r\n"
    await client.send(post("/upload", 3, close=False) + b"abc")
    assert "200 OK" in await client.head()
    assert target.count("ends_total", event="sent") == 0


async def test_pipelined_requests_are_answered_in_order(target: Target) -> None:
    requests = get("/bytes?size=3&seed=1", close=False) + get("/bytes?size=4&seed=2", close=False)
    answer = await target.ask(requests + get("/bytes?size=5&seed=3"))
    places = [answer.index(b"\r\n\r\n" + payload.body(seed, size)) for seed, size in ((1, 3), (2, 4), (3, 5))]
    assert places == sorted(places)


async def test_a_request_in_single_bytes(target: Target) -> None:
    client = await target.connect()
    for byte in post("/upload", 3):
        await client.send(bytes([byte]))
    for byte in b"abc":
        await client.send(bytes([byte]))
    assert b'"received": 3' in await client.to_end()


async def test_http_1_0_gets_chunked_as_close_delimited(target: Target) -> None:
    head, body = split(await target.ask("GET /bytes?size=9&framing=chunked HTTP/1.0\r\n\r\n"))
    assert not any(line.startswith("Transfer-Encoding") for line in head)
    assert body == payload.body(0, 9)


async def test_absolute_request_target(target: Target) -> None:
    assert status(await target.ask(get("http://t:80/bytes?size=9"))) == 200


async def test_delay_and_gaps(target: Target) -> None:
    client = await target.connect()
    start = monotonic()
    await client.send(get("/bytes?size=9&delay_ms=60&gap_ms=40&gap_every=4").encode())
    await client.head()
    assert monotonic() - start >= 0.06
    assert await client.receive() == payload.body(0, 9)[:4]
    assert await client.receive() == payload.body(0, 9)[4:8]
    assert await client.receive() == payload.body(0, 9)[8:]
    assert monotonic() - start >= 0.14
    assert await client.receive() == b""


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("reset_at", [0, 5, 100_000])
async def test_reset_in_the_body(target: Target, framing: str, reset_at: int) -> None:
    client = await target.connect()
    await client.send(get(f"/bytes?size=100000&framing={framing}&reset_at={reset_at}").encode())
    await client.head()
    if framing != "chunked":
        assert await client.exactly(reset_at) == payload.body(0, reset_at)
    with pytest.raises(ConnectionResetError):
        await client.to_end()
    await target.counted(1, "requests_total", route="bytes", status="reset")
    await target.counted(0, "connections_active")
    assert target.count("ends_total", event="sent") == 0


async def test_a_slow_client_gets_all_bytes_before_the_reset(target: Target) -> None:
    client = await target.connect(receive_buffer_bytes=4096)
    await client.send(get("/bytes?size=300000&reset_at=300000").encode())
    await client.head()
    assert await client.exactly(300_000) == payload.body(0, 300_000)
    with pytest.raises(ConnectionResetError):
        await client.to_end()


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("size", [0, 1, 300_000])
async def test_upload(target: Target, method: str, size: int) -> None:
    head = post("/upload", size).replace(b"POST", method.encode(), 1)
    answer = await target.ask(head + payload.body(4, size))
    assert json.loads(split(answer)[1]) == confirmed(size, 4)
    assert f"Content-Length: {len(split(answer)[1])}" in split(answer)[0]
    assert target.count("bytes_total", direction="received") == size


async def test_chunked_upload(target: Target) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in payload.chunks(4, 70_000, 0, 9_000))
    head = post("/upload").replace(b"Host", b"Transfer-Encoding: chunked\r\nHost")
    assert json.loads(split(await target.ask(head + body + b"0\r\n\r\n"))[1]) == confirmed(70_000, 4)


async def test_an_upload_of_unknown_length_has_a_bound(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_SIZE", 1000)
    head = post("/upload").replace(b"Host", b"Transfer-Encoding: chunked\r\nHost")
    answer = await target.ask(head + b"3e9\r\n" + bytes(1001) + b"\r\n")
    assert status(answer) == 400
    assert split(answer)[1] == b"body: is larger than 1000 bytes\n"


async def test_upload_answers_after_the_last_byte_not_before(target: Target) -> None:
    client = await target.connect()
    await client.send(post("/upload", 3) + b"ab")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client.socket, 1), 0.05)
    await client.send(b"c")
    assert b'"received": 3' in await client.to_end()


async def test_early_answer(target: Target) -> None:
    client = await target.connect()
    await client.send(post("/upload?early=1", 3, close=False))
    head = await client.head()
    assert "200 OK" in head
    length = int(head.split("Content-Length: ")[1].split("\r\n")[0])
    assert json.loads(await client.exactly(length)) == {"received": 0, "sha256": EMPTY_SHA256}
    await client.send(b"abc" + get("/bytes?size=1").encode())
    assert status(await client.to_end()) == 200
    assert target.count("bytes_total", direction="received") == 3


async def test_a_client_that_waits_is_told_to_continue(target: Target) -> None:
    client = await target.connect()
    await client.send(post("/upload", 3).replace(b"Host", b"Expect: 100-continue\r\nHost"))
    assert await client.head() == "HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"abc")
    assert b'"received": 3' in await client.to_end()


async def test_eof_gated(target: Target) -> None:
    client = await target.connect()
    await client.send(post("/eof-gated") + payload.body(6, 1000))
    await client.send(payload.body(6, 100_000)[1000:])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client.socket, 1), 0.05)
    assert target.count("ends_total", event="received") == 0
    client.finish()
    head, body = split(await client.to_end())
    assert head[0] == "HTTP/1.1 200 OK"
    assert f"Content-Length: {len(body)}" in head
    assert json.loads(body) == confirmed(100_000, 6)
    assert target.count("ends_total", event="received") == 1
    await target.counted(1, "requests_total", route="eof_gated", status="200")


async def test_eof_gated_without_a_body_or_connection_close(target: Target) -> None:
    client = await target.connect()
    await client.send(post("/eof-gated", close=False))
    client.finish()
    assert json.loads(split(await client.to_end())[1]) == {"received": 0, "sha256": EMPTY_SHA256}


async def test_never_reads(target: Target) -> None:
    client = await target.connect()
    await client.send(post("/never-reads", 1 << 30))
    sending = asyncio.get_running_loop().sock_sendall(client.socket, payload.body(0, 1 << 25))
    with pytest.raises(TimeoutError):  # what the two kernels' buffers hold goes out, then nothing more
        await asyncio.wait_for(sending, 0.5)
    client.reset()
    await target.counted(1, "requests_total", route="never_reads", status="none")
    assert target.count("bytes_total", direction="received") == 0


async def test_never_reads_notices_an_end_behind_unread_bytes(target: Target) -> None:
    client = await target.connect()
    await client.send(post("/never-reads", 10) + b"abc")
    client.finish()
    with pytest.raises(ConnectionResetError):
        await client.to_end()
    await target.counted(1, "requests_total", route="never_reads", status="none")


async def test_never_answers(target: Target) -> None:
    client = await target.connect()
    await client.send(get("/never-answers").encode())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client.socket, 1), 0.05)
    client.finish()
    assert await client.to_end() == b""
    await target.counted(1, "requests_total", route="never_answers", status="none")
    assert target.count("ends_total", event="received") == 1
    assert target.count("ends_total", event="sent") == 1


async def test_half_close(target: Target) -> None:
    client = await target.connect()
    await client.send(get("/half-close?seed=2&size=70000", close=False).encode())
    assert split(await client.to_end())[1] == payload.body(2, 70_000)
    await client.send(b"still read")
    assert target.count("connections_active") == 1
    client.finish()
    await target.counted(1, "requests_total", route="half_close", status="200")
    await target.counted(0, "connections_active")


async def test_server_first(target: Target) -> None:
    client = await target.connect(target.first)
    assert await client.exactly(64) == payload.body(0, 64)
    await client.send(payload.body(8, 100_000))
    client.finish()
    answer = await client.to_end()
    assert answer.endswith(b"\n")
    assert json.loads(answer) == confirmed(100_000, 8)
    await target.counted(1, "requests_total", route="server_first", status="200")
    assert target.count("ends_total", event="received") == 1
    assert target.count("ends_total", event="sent") == 1


@pytest.mark.parametrize(
    ("request_", "code", "route", "text"),
    [
        (get("/bytes?size=x"), 400, "bytes", "size: 'x' is not valid; it must be 0 to 1073741824"),
        (get("/half-close?size=1&x=1"), 400, "half_close", "'x' is not a parameter here"),
        (post("/upload?early=2", 0), 400, "upload", "early: '2' is not valid; it must be 0 to 1"),
        (post("/upload", (1 << 30) + 1), 400, "upload", "content-length: 1073741825 is not valid"),
        (post("/eof-gated", 3), 400, "eof_gated", "content-length: must not be given"),
        (get("/never-answers?x"), 400, "never_answers", "'x' is not a parameter here; known are: none"),
        (post("/never-reads?x=1", 0), 400, "never_reads", "'x' is not a parameter here"),
        (get("/"), 404, "unknown", "'/' is not here; known are: /bytes, "),
        (get("//bytes?size=1"), 404, "unknown", "is not here"),
        (get("http://[/bytes"), 400, "unknown", "the request target is not valid"),
        (post("/bytes?size=1", 0), 405, "bytes", "POST is not for /bytes; it takes GET"),
        (get("/upload"), 405, "upload", "GET is not for /upload; it takes POST, PUT"),
        ("garbage\r\n\r\n", 400, "unknown", "this is not valid HTTP"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "unknown", "this is not valid HTTP: Missing mandatory Host"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "unknown", "this is not valid HTTP"),
        ("GET /" + "x" * 20_000, 431, "unknown", "this is not valid HTTP"),
        (post("/upload").replace(b"Host", b"Transfer-Encoding: chunked\r\nHost") + b"zz\r\n", 400, "upload", "valid"),
        (post("/upload", 3).replace(b"3", b"3x"), 400, "unknown", "this is not valid HTTP: bad Content-Length"),
    ],
)
async def test_errors(target: Target, request_: str | bytes, code: int, route: str, text: str) -> None:
    head, body = split(await target.ask(request_))
    assert head[0].startswith(f"HTTP/1.1 {code} ")
    assert f"Content-Length: {len(body)}" in head
    assert text in body.decode()
    await target.counted(1, "requests_total", route=route, status=str(code))


async def test_405_names_what_is_allowed(target: Target) -> None:
    assert "Allow: POST, PUT" in split(await target.ask(get("/upload")))[0]


async def test_head_gets_no_body(target: Target) -> None:
    head, body = split(await target.ask("HEAD /bytes?size=1 HTTP/1.1\r\nHost: t\r\n\r\n"))
    assert head[0].startswith("HTTP/1.1 405 ")
    assert body == b""


async def test_an_error_reaches_a_client_that_is_still_sending(target: Target) -> None:
    """A close with bytes unread would be a reset, which throws the answer away."""
    client = await target.connect()
    await client.send(post("/nowhere", 3_000_000))
    await client.send(payload.body(0, 3_000_000))
    assert status(await client.to_end()) == 404
