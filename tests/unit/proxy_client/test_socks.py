"""proxy_client.socks over loopback, its session and driver played: who is told what, once."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from proxy_client.socks import SocksConnection
from tunnel.errors import Cause
from tunnel.net.driver import Driver
from tunnel.net.poller import Poller
from tunnel.net.relay import Relay
from tunnel.net.tcp import READ_BYTES_MAX
from tunnel.session import events
from tunnel.session.client import ClientSession
from tunnel.session.ledger import Ledger
from tunnel.socks5.handshake import EARLY_BYTES_MAX
from tunnel.target import Target
from tunnel.wire.messages import Direction

REQUEST = b"\x05\x01\x00" + b"\x05\x01\x00\x03\x0cexample.test\x00\x50"
SOON_S = 5.0


class FakeSession:
    """One stream, which is opened and then stands still."""

    sends = Direction.CLIENT_TO_TARGET

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.opened: list[tuple[Target, bytes]] = []
        self.calls: list[str] = []

    def open(self, target: Target, early: bytes, now: float, application: str) -> int:
        self.opened.append((target, early))
        return 1

    def send(self, stream: int, data: bytes, now: float) -> int:
        return 0

    def discarded(self, count: int) -> None: ...

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.calls.append(name)


class FakeDriver:
    def __init__(self) -> None:
        self.session = FakeSession()
        self.handlers: dict[int, Relay] = {}

    def wake(self) -> None: ...

    @staticmethod
    def now() -> float:
        return time.monotonic()


class Observer:
    def __init__(self) -> None:
        self.told: list[tuple[Cause, str, Target | None, bool]] = []
        self.peers: set[str] = set()
        self.closings = 0
        self.news = asyncio.Event()

    def handshake_over(
        self, peer: str, cause: Cause, detail: str, target: Target | None, seconds: float, *, answered: bool
    ) -> None:
        assert seconds >= 0
        self.peers.add(peer)
        self.told.append((cause, detail, target, answered))
        self.news.set()

    def closed(self, connection: SocksConnection) -> None:
        self.closings += 1
        self.news.set()


class Bench:
    """A connection of a client's, and the client's end of it."""

    def __init__(self, host: str = "127.0.0.1", timeout_s: float = SOON_S) -> None:
        loop = asyncio.get_running_loop()
        self.poller = Poller(loop)
        self.driver = FakeDriver()
        self.observer = Observer()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as server:
            self.client = socket.create_connection(server.getsockname()[:2])
            ours, address = server.accept()
        self.client.setblocking(False)
        ours.setblocking(False)
        self.connection = SocksConnection(
            self.poller,
            ours,
            address,
            driver=cast(Driver, self.driver),
            session=cast(ClientSession, self.driver.session),
            check_credentials=None,
            timeout_s=timeout_s,
            observer=self.observer,
            clock=time.monotonic,
        )

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.client, data)

    async def hear(self, count: int) -> bytes:
        async with asyncio.timeout(SOON_S):
            heard = b""
            while len(heard) < count:
                heard += await asyncio.get_running_loop().sock_recv(self.client, count - len(heard))
            return heard

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(SOON_S):
            while not holds():  # noqa: ASYNC110 -- calls, and no event tells of them
                await asyncio.sleep(0.001)

    def answer(self, cause: Cause) -> None:
        self.driver.handlers[1].on_session_event(events.Replied(1, cause))

    @property
    def opened(self) -> list[tuple[Target, bytes]]:
        return self.driver.session.opened


@pytest.fixture
async def make_bench() -> AsyncIterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*arguments: Any, **options: Any) -> Bench:
        made.append(Bench(*arguments, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.client.close()
        bench.poller.close()


TARGET = Target.of("example.test", 80)


async def test_request_then_reply(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    await bench.say(REQUEST + b"early")
    await bench.until(lambda: bench.opened)
    assert bench.opened == [(TARGET, b"early")]
    assert bench.observer.told == []
    bench.answer(Cause.NONE)
    assert (await bench.hear(12))[:4] == b"\x05\x00\x05\x00"
    assert bench.observer.told == [(Cause.NONE, Cause.NONE.summary, TARGET, True)]
    assert bench.observer.closings == 0


async def test_request_then_refusal(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    await bench.say(REQUEST)
    await bench.until(lambda: bench.opened)
    bench.answer(Cause.NAME_NOT_FOUND)
    assert (await bench.hear(12))[:4] == b"\x05\x00\x05\x04"
    assert bench.observer.told == [(Cause.NAME_NOT_FOUND, Cause.NAME_NOT_FOUND.summary, TARGET, True)]
    assert bench.observer.closings == 1
    assert not bench.driver.handlers


@pytest.mark.failure("F28")
async def test_f28_no_more_is_read_than_the_handshake_wants(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    await bench.say(b"\x05\x01\x00")
    assert await bench.hear(2) == b"\x05\x00"
    assert bench.connection._socket.read_bytes_max == EARLY_BYTES_MAX
    await bench.say(b"\x05")
    await bench.until(lambda: bench.connection._socket.read_bytes_max == EARLY_BYTES_MAX - 1)


@pytest.mark.failure("F28")
async def test_f28_what_a_refused_client_still_sends_costs_little(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    await bench.say(b"\x05\x01\x01")
    assert await bench.hear(2) == b"\x05\xff"
    assert bench.connection._socket.read_bytes_max == READ_BYTES_MAX
    [(cause, _, target, answered)] = bench.observer.told
    assert (cause, target, answered) == (Cause.NO_ACCEPTABLE_METHOD, None, False)
    assert bench.observer.closings == 1


async def test_stopped_in_the_middle_of_a_handshake(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    await bench.say(b"\x05\x01\x00")
    await bench.hear(2)
    bench.connection.abort()
    with pytest.raises(ConnectionResetError):
        await bench.hear(1)
    assert [told[0] for told in bench.observer.told] == [Cause.CANCELLED]
    assert bench.observer.closings == 1


async def test_stopped_once_the_relay_has_it(make_bench: Callable[..., Bench]) -> None:
    """Then the session says how it ends."""
    bench = make_bench()
    await bench.say(REQUEST)
    await bench.until(lambda: bench.opened)
    bench.connection.abort()
    assert bench.observer.told == []
    assert bench.observer.closings == 0


async def test_client_that_resets_before_its_reply(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    await bench.say(REQUEST)
    await bench.until(lambda: bench.opened)
    bench.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    bench.client.close()
    await bench.until(lambda: bench.observer.closings)
    assert [(told[0], told[2], told[3]) for told in bench.observer.told] == [(Cause.CANCELLED, TARGET, False)]
    assert bench.driver.session.calls == ["reset", "stop"]
    assert not bench.driver.handlers


@pytest.mark.failure("F28")
async def test_f28_timeout_ends_with_the_request(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    await bench.say(REQUEST)
    await bench.until(lambda: bench.opened)
    assert bench.connection._timer.cancelled()
    bench.connection._timed_out()
    assert bench.observer.told == []
    bench.answer(Cause.NONE)
    assert (await bench.hear(12))[:4] == b"\x05\x00\x05\x00"


async def test_peer_is_told_as_people_write_it(make_bench: Callable[..., Bench]) -> None:
    for host, prefix in (("127.0.0.1", "127.0.0.1:"), ("::1", "[::1]:")):
        bench = make_bench(host)
        bench.connection.abort()
        [peer] = bench.observer.peers
        assert peer == f"{prefix}{bench.client.getsockname()[1]}"
