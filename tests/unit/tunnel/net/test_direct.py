"""tunnel.net.direct: a connect by callbacks ends once, as what it is, and leaves nothing behind."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tunnel.errors import Cause
from tunnel.net.dial import DialError
from tunnel.net.direct import DirectDial
from tunnel.net.egress import EgressPolicy
from tunnel.net.poller import Poller
from tunnel.target import Target

OWN = EgressPolicy(allow_own=True)
SOON_S = 5.0


class Bench:
    def __init__(self) -> None:
        self.poller = Poller(asyncio.get_running_loop())
        self.outcomes: list[socket.socket | DialError] = []
        self.ended = asyncio.Event()

    def begin(self, host: str, port: int, policy: EgressPolicy = OWN, timeout_s: float = SOON_S) -> DirectDial:
        dial = DirectDial(self.poller, timeout_s, self.end)
        dial.start(Target.of(host, port), policy)
        return dial

    def end(self, outcome: socket.socket | DialError) -> None:
        self.outcomes.append(outcome)
        self.ended.set()

    async def outcome(self) -> socket.socket | DialError:
        async with asyncio.timeout(SOON_S):
            await self.ended.wait()
        [outcome] = self.outcomes
        return outcome

    async def cause(self) -> Cause:
        error = await self.outcome()
        assert isinstance(error, DialError)
        return error.cause


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.poller.close()
    gc.collect()  # A socket that was left behind warns, and warnings are errors.


@pytest.fixture
def full() -> Iterator[tuple[socket.socket, Callable[[], None]]]:
    """A listener whose backlog is full, and what makes room in it: until then connections stay unanswered."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = []
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
            waiting.append(sock)

        def make_room() -> None:
            server.listen(16)  # For all of them: with one place more, it would be a matter of who asks again first.

        yield server, make_room
        for sock in waiting:
            sock.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_near_target_is_connected_at_once(bench: Bench, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        bench.begin(host, server.getsockname()[1])
        [sock] = bench.outcomes
        assert isinstance(sock, socket.socket)
        with sock:
            assert sock.getpeername() == server.getsockname()
            assert not sock.getblocking()


async def test_a_target_that_takes_its_time(bench: Bench, full: tuple[socket.socket, Callable[[], None]]) -> None:
    server, make_room = full
    bench.begin(*server.getsockname())
    assert bench.outcomes == []
    make_room()
    sock = await bench.outcome()
    assert isinstance(sock, socket.socket)
    with sock:
        assert sock.getpeername() == server.getsockname()


async def test_a_refusal(bench: Bench) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        bench.begin(*nobody.getsockname())
        assert await bench.cause() is Cause.CONNECTION_REFUSED


@pytest.mark.failure("F27")
@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "0.0.0.0"])
async def test_f27_a_private_address_is_denied(bench: Bench, host: str) -> None:
    bench.begin(host, 80, EgressPolicy())
    assert await bench.cause() is Cause.POLICY_DENIED


async def test_port_0(bench: Bench) -> None:
    bench.begin("127.0.0.1", 0)
    assert await bench.cause() is Cause.DIAL_FAILED


async def test_a_shortage_of_descriptors(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*arguments: object) -> socket.socket:
        raise OSError(24, "planted")

    with monkeypatch.context() as patch:
        patch.setattr("tunnel.net.direct.socket.socket", no_socket)
        bench.begin("127.0.0.1", 80)
    assert await bench.cause() is Cause.LIMIT_REACHED


async def test_it_is_bounded(bench: Bench, full: tuple[socket.socket, Callable[[], None]]) -> None:
    host, port = full[0].getsockname()
    bench.begin(host, port, timeout_s=0.01)
    assert await bench.cause() is Cause.DIAL_TIMEOUT


async def test_nothing_is_told_after_a_cancellation(
    bench: Bench, full: tuple[socket.socket, Callable[[], None]]
) -> None:
    host, port = full[0].getsockname()
    dial = bench.begin(host, port, timeout_s=0.01)
    dial.cancel()
    dial.cancel()
    await asyncio.sleep(0.02)  # Past the bound.
    assert bench.outcomes == []


async def test_closing_the_poller_ends_it(bench: Bench, full: tuple[socket.socket, Callable[[], None]]) -> None:
    bench.begin(*full[0].getsockname())
    bench.poller.close()
    assert bench.outcomes == []


async def test_a_connection_that_met_itself_is_a_refusal(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr("tunnel.net.direct.socket.socket", _MeetsItself)
        bench.begin(*server.getsockname())
        assert await bench.cause() is Cause.CONNECTION_REFUSED


class _MeetsItself(socket.socket):
    def getsockname(self) -> object:
        return self.getpeername()
