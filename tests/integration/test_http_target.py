"""The http-target binary as a process: what its operator and its clients see."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from servicekit import payload
from servicekit.address import Address
from servicekit.run import raise_descriptor_limit

BINARY = Path(sys.executable).with_name("http-target")
WAIT_S = 20
ANYWHERE = ("--listen=127.0.0.1:0", "--server-first-listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0")


class Program:
    """A process of http-target, its log read along."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def event(self, name: str) -> dict[str, Any]:
        """The first event of that name, as soon as it is there."""
        async with asyncio.timeout(WAIT_S), self._news:
            while not (found := [event for event in self.log if event["event"] == name]):
                assert not self._reading.done(), f"it ended without {name}: {self.log}"
                await self._news.wait()
            return found[0]

    async def ended(self) -> int:
        """Its exit code, when it has ended and all of its log is read."""
        async with asyncio.timeout(WAIT_S):
            await self._reading
            return await self.process.wait()

    def address(self, listener: str) -> Address:
        [event] = [event for event in self.log if event["event"] == "listening" and event["listener"] == listener]
        return Address.parse(event["address"])

    def url(self, path: str, listener: str = "http") -> str:
        return f"http://{self.address(listener)}{path}"

    async def connect(self, listener: str = "http") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self.address(listener)
        return await asyncio.open_connection(address.host, address.port)

    def signal(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._news:
                self.log.append(json.loads(line))
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()


Start = Callable[..., Coroutine[None, None, Program]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts the program and waits until it is ready. At the end its log must hold no error."""
    started: list[Program] = []
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HTTP_TARGET_")}

    async def start(*flags: str) -> Program:
        process = await asyncio.create_subprocess_exec(
            BINARY, *ANYWHERE, *flags, stderr=asyncio.subprocess.PIPE, env=environ
        )
        started.append(Program(process))
        await started[-1].event("ready")
        return started[-1]

    yield start
    for program in started:
        if program.process.returncode is None:
            program.process.kill()
        await program.ended()
        assert [event for event in program.log if event["level"] == "error" or "exception" in event] == []


@pytest.fixture
async def program(start: Start) -> Program:
    return await start()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        yield client


async def test_an_operator_sees_where_it_listens_and_how_it_is(program: Program, client: httpx.AsyncClient) -> None:
    assert [event["event"] for event in program.log] == ["listening"] * 3 + ["ready"]
    assert all(program.address(listener).port > 0 for listener in ("http", "server_first", "metrics"))
    assert (await client.get(program.url("/healthz", "metrics"))).status_code == 200
    assert (await client.get(program.url("/readyz", "metrics"))).text == "ready\n"
    metrics = (await client.get(program.url("/metrics", "metrics"))).text
    for series in (
        'http_target_requests_total{route="bytes",status="200"} 0.0',
        "http_target_connections_active 0.0",
        'http_target_bytes_total{direction="sent"} 0.0',
        'http_target_ends_total{event="received"} 0.0',
        'http_target_ends_total{event="sent"} 0.0',
    ):
        assert f"\n{series}\n" in metrics
    assert "_created" not in metrics


async def test_httpx_gets_and_uploads_over_one_connection(program: Program, client: httpx.AsyncClient) -> None:
    for size in (1, 70_000, 20_000_000):
        for framing in ("length", "chunked"):
            answer = await client.get(program.url(f"/bytes?seed=9&size={size}&framing={framing}"))
            assert answer.content == payload.body(9, size)
    answer = await client.post(program.url("/upload"), content=payload.body(9, 3_000_000))
    assert answer.json() == {"received": 3_000_000, "sha256": payload.sha256(9, 3_000_000)}
    metrics = (await client.get(program.url("/metrics", "metrics"))).text
    assert "\nhttp_target_connections_active 1.0\n" in metrics


async def test_close_delimited_by_httpx(program: Program, client: httpx.AsyncClient) -> None:
    answer = await client.get(program.url("/bytes?size=100000&framing=close"))
    assert answer.content == payload.body(0, 100_000)


async def test_half_closes_over_the_whole_way(program: Program) -> None:
    reader, writer = await program.connect()
    writer.write(b"POST /eof-gated HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n" + payload.body(1, 500_000))
    writer.write_eof()
    _, _, body = (await asyncio.wait_for(reader.read(), WAIT_S)).partition(b"\r\n\r\n")
    assert json.loads(body) == {"received": 500_000, "sha256": payload.sha256(1, 500_000)}
    writer.close()
    reader, writer = await program.connect("server_first")
    assert await asyncio.wait_for(reader.readexactly(64), WAIT_S) == payload.body(0, 64)
    writer.write(b"abc")
    writer.write_eof()
    assert json.loads(await asyncio.wait_for(reader.read(), WAIT_S))["received"] == 3
    writer.close()


async def test_a_thousand_connections_at_once(program: Program) -> None:
    raise_descriptor_limit()
    address = program.address("http")
    loop = asyncio.get_running_loop()
    sockets = [socket.socket() for _ in range(1000)]
    try:
        for each in sockets:
            each.setblocking(False)
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(*(loop.sock_connect(each, (address.host, address.port)) for each in sockets))
            for each in sockets:
                await loop.sock_sendall(each, b"GET /bytes?size=9&framing=close HTTP/1.1\r\nHost: t\r\n\r\n")
            for each in sockets:
                answer = b""
                while piece := await loop.sock_recv(each, 1000):
                    answer += piece
                assert answer.endswith(b"\r\n\r\n" + payload.body(0, 9))
    finally:
        for each in sockets:
            each.close()


async def test_drain(program: Program, client: httpx.AsyncClient) -> None:
    size = 32 << 20  # more than sockets hold: the transfer lasts until it is read
    reader, writer = await program.connect()
    writer.write(f"GET /bytes?size={size}&framing=close HTTP/1.1\r\nHost: t\r\n\r\n".encode())
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_S)
    program.signal()
    await program.event("draining")
    readiness = await client.get(program.url("/readyz", "metrics"))
    assert (readiness.status_code, readiness.text) == (503, "draining\n")
    with pytest.raises(ConnectionRefusedError):
        await program.connect()
    assert await asyncio.wait_for(reader.read(), WAIT_S) == payload.body(0, size)
    writer.close()
    assert await program.ended() == 0
    assert [event["event"] for event in program.log][-2:] == ["draining", "stopped"]
    assert program.log[-1]["clean"] is True


async def test_a_second_signal_stops_at_once(start: Start) -> None:
    program = await start("--drain-timeout-s=3600")
    reader, writer = await program.connect()
    writer.write(b"GET /bytes?size=20&gap_ms=60000&gap_every=10&framing=close HTTP/1.1\r\nHost: t\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n" + payload.body(0, 10)), WAIT_S)
    program.signal()
    await program.event("draining")
    program.signal()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), WAIT_S)
    writer.close()
    assert await program.ended() == 1
    assert program.log[-1]["clean"] is False


async def test_garbage_leaves_no_error_in_the_log(program: Program, client: httpx.AsyncClient) -> None:
    for listener in ("http", "server_first", "metrics"):
        for garbage in (b"", b"\0" * 5000, b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 9000):
            reader, writer = await program.connect(listener)
            writer.write(garbage)
            with suppress(OSError):  # a reset came sooner
                writer.write_eof()
            with suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), WAIT_S)
            writer.close()
    program.signal()
    assert await program.ended() == 0
    assert {event["level"] for event in program.log} == {"info"}


async def test_a_port_that_is_taken(program: Program) -> None:
    process = await asyncio.create_subprocess_exec(
        BINARY, *ANYWHERE, "--listen", str(program.address("http")), stderr=asyncio.subprocess.PIPE
    )
    _, log = await asyncio.wait_for(process.communicate(), WAIT_S)
    event = json.loads(log.splitlines()[-1])
    assert (event["event"], event["level"]) == ("cannot_start", "error")
    assert event["reason"] == f"cannot listen on {program.address('http')}: Address already in use"
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("flags", "environ", "code", "output"),
    [
        (["--version"], {}, 0, "http-target "),
        (["--check-config"], {}, 0, "configuration is valid\n"),
        (["--listen", "8080"], {}, 2, '--listen (HTTP_TARGET_LISTEN): "8080" is not valid: must be HOST:PORT'),
        ([], {"HTTP_TARGET_LISTE": "x"}, 2, "did you mean HTTP_TARGET_LISTEN?"),
    ],
)
async def test_command_line(flags: list[str], environ: dict[str, str], code: int, output: str) -> None:
    process = await asyncio.create_subprocess_exec(
        BINARY,
        *flags,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environ,
    )
    text, _ = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert output in text.decode()
    assert process.returncode == code
