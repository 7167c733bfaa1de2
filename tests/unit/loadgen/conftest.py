"""Peers with a fault of their choice, and a generator on virtual time in front of them.

Sockets are real, time is not: a phase gets old when the test says so, and the watchdog sweeps when the test says so.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from http_target.metrics import Metrics
from http_target.server import Server
from http_target.session import Service, speak_first, speak_http
from http_target.settings import HttpTargetSettings
from loadgen.load.generator import Generator
from loadgen.measure.anomalies import Anomalies
from loadgen.measure.metrics import SoakMetrics
from loadgen.measure.tally import Tally
from loadgen.scenarios import SCENARIOS
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Limits, Phase
from loadgen.transaction.route import Route
from loadgen.transaction.socks5 import Credentials
from loadgen.transaction.transaction import Arrival, Transaction
from loadgen.transaction.watchdog import Watchdog
from servicekit.address import Address
from servicekit.listen import listen_tcp

NOWHERE = Address("192.0.2.1", 80)
"""What transactions ask the proxy for; no peer here goes there (RFC 5737)."""

WAIT_S = 10

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Target:
    """http-target in this event loop."""

    http: Address
    first: Address


class Peers:
    """TCP servers that speak as they are told. A connection is closed when `speak` returns."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, speak: Speak) -> Address:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    await speak(reader, writer)
            finally:
                writer.close()
                self._tasks.discard(task)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self._servers.append(server)
        return Address.of_socket(server.sockets[0].getsockname())

    async def proxy(self, speak: Speak) -> Address:
        """A SOCKS5 proxy that accepts everything and then speaks itself, as the target."""

        async def greet_and_speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await accept_socks(reader, writer)
            await speak(reader, writer)

        return await self.serve(greet_and_speak)

    async def relay(self) -> Address:
        """A SOCKS5 proxy as it should be: it dials, relays, and passes on each end of stream by itself."""

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            target = await accept_socks(reader, writer)
            target_reader, target_writer = await asyncio.open_connection(target.host, target.port)
            try:
                await asyncio.gather(_pump(reader, target_writer), _pump(target_reader, writer))
            finally:
                target_writer.close()

        return await self.serve(relay)

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def accept_socks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Address:
    """The proxy's side of a handshake that succeeds; where the client wants to go."""
    await reader.readexactly(3)
    writer.write(b"\x05\x00")
    request = await reader.readexactly(10)
    writer.write(b"\x05\x00\x00\x01\0\0\0\0\0\0")
    return Address(".".join(map(str, request[4:8])), int.from_bytes(request[8:]))


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """A request up to the empty line."""
    return await reader.readuntil(b"\r\n\r\n")


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    sink.write_eof()


class Clock:
    """Time that stands still."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """A generator, a tally and a watchdog on virtual time."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self._path = directory / "anomalies.jsonl"
        self.file = Anomalies(self._path)
        self.tally = Tally(tuple(SCENARIOS), SoakMetrics(self.registry, SCENARIOS), self.file)
        self.watchdog = Watchdog(self.tally.loop_lag, self.clock)
        self.limits = limits
        self.credentials: Credentials | None = None
        self.generators: list[Generator] = []

    def start(
        self, scenario: str, proxy: Address, target: Address = NOWHERE, first: Address = NOWHERE, **arrival: Any
    ) -> Transaction:
        """One transaction of `scenario` through `proxy`."""
        route = Route(proxy, target, first, self.credentials)
        generator = Generator(route, self.limits, self.tally, self.watchdog, 100, self.clock)
        self.generators.append(generator)
        wanted = Arrival(**{"number": 0, "due_s": 0.0, "seed": 7, "size_bytes": 1000, **arrival, "scenario": scenario})
        transaction = generator.start(wanted, due_s=self.clock())
        assert transaction is not None
        return transaction

    async def outcome(self, transaction: Transaction) -> Outcome:
        """Waits until the transaction has ended."""
        assert transaction.task is not None
        return await asyncio.wait_for(transaction.task, WAIT_S)

    async def reaches(self, transaction: Transaction, phase: Phase) -> None:
        """Waits until the transaction waits in `phase`."""
        await self.until(lambda: transaction.phase is phase and transaction.waits)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 (what a transaction does sets no event)
                await asyncio.sleep(0.001)

    def sweep_after(self, seconds: float, lag_s: float = 0.0) -> None:
        """Lets time pass, and then the watchdog look."""
        self.clock.now_s += seconds
        self.watchdog.sweep(self.clock(), lag_s)

    def anomalies(self, kind: str) -> list[Mapping[str, Any]]:
        lines = map(json.loads, self._path.read_text(encoding="utf-8").splitlines())
        return [line for line in lines if line["kind"] == kind]

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    anywhere = Address("127.0.0.1", 0)
    settings = HttpTargetSettings(metrics_listen=anywhere)
    server = Server(Service(settings, Metrics(CollectorRegistry()), asyncio.Event()))
    listeners = listen_tcp(anywhere), listen_tcp(anywhere)
    made = Target(*(Address.of_socket(listener.getsockname()) for listener in listeners))
    for listener, speak in zip(listeners, (speak_http, speak_first), strict=True):
        server.add(listener, speak)
    yield made
    now = asyncio.Event()
    now.set()
    await server.drain(0, now)


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    made = Peers()
    yield made
    await made.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, Limits.default())
    with made.file:
        yield made
        for generator in made.generators:
            await generator.abort()
    assert made.tally.in_flight == 0
    assert made.tally.stalled_now == 0
