"""tunnel.net.dial: what is asked of the resolver, what is connected to, and what is told when it fails.

Everything goes to stubs or to loopback.
"""

import asyncio
import errno
import gc
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aiohappyeyeballs import start_connection

from tunnel.errors import Cause
from tunnel.net import dial as module
from tunnel.net.dial import ADDRESSES_MAX, DialError, connect, dial
from tunnel.net.egress import EgressPolicy
from tunnel.target import Target

OWN = EgressPolicy(allow_own=True)
DEFAULT = EgressPolicy()
PUBLIC = "192.31.196.1"

Info = tuple[int, int, int, str, tuple[Any, ...]]


def info(host: str, port: int = 80) -> Info:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = (host, port, 0, 0) if ":" in host else (host, port)
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)


class StubResolver:
    """Answers with the next list each time it is asked."""

    def __init__(self, *answers: Sequence[str] | BaseException) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[Info]:
        self.asked.append((host, port))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return [info(host, port) for host in answer]


class StubConnector:
    """Notes what it shall connect to, and gives a socket or an error."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.hosts: list[list[str]] = []

    async def __call__(self, infos: Sequence[Info]) -> socket.socket:
        self.hosts.append([info[4][0] for info in infos])
        if self.error is not None:
            raise self.error
        return socket.socket()


async def failing(target: Target, policy: EgressPolicy = OWN, **options: Any) -> DialError:
    options.setdefault("timeout_s", 20)
    with pytest.raises(DialError) as caught:
        await dial(target, policy, **options)
    return caught.value


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that refuses connections, and that nobody else is given meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


# F27: the policy is asked about addresses, and about those connected to.


@pytest.mark.failure("F27")
@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "0.0.0.0"])
async def test_f27_a_private_address_is_denied_and_nothing_is_sent(host: str) -> None:
    connector = StubConnector()
    error = await failing(Target.of(host, 80), DEFAULT, connector=connector)
    assert error.cause is Cause.POLICY_DENIED
    assert connector.hosts == []


@pytest.mark.failure("F27")
async def test_f27_a_name_that_resolves_to_private_addresses_is_denied() -> None:
    resolver, connector = StubResolver(["10.0.0.1", "::1", "fe80::1%eth0", "::ffff:192.168.0.1"]), StubConnector()
    error = await failing(Target.of("rebind.example", 80), DEFAULT, resolver=resolver, connector=connector)
    assert error.cause is Cause.POLICY_DENIED
    assert "10.0.0.1" in error.detail
    assert connector.hosts == []


@pytest.mark.failure("F27")
async def test_f27_of_mixed_answers_only_the_allowed_are_connected_to() -> None:
    resolver, connector = StubResolver(["10.0.0.1", PUBLIC, "::1"]), StubConnector()
    (await dial(Target.of("mixed.example", 80), DEFAULT, timeout_s=20, resolver=resolver, connector=connector)).close()
    assert connector.hosts == [[PUBLIC]]


@pytest.mark.failure("F27")
async def test_f27_a_name_that_changes_its_answer_is_asked_once() -> None:
    resolver, connector = StubResolver([PUBLIC], ["127.0.0.1"]), StubConnector()
    (await dial(Target.of("rebind.example", 80), DEFAULT, timeout_s=20, resolver=resolver, connector=connector)).close()
    assert resolver.asked == [("rebind.example", 80)]
    assert connector.hosts == [[PUBLIC]]


@pytest.mark.failure("F27")
async def test_f27_each_request_is_judged_by_its_own_answer() -> None:
    """A name that was fine a moment ago, and then leads inside."""
    resolver, connector = StubResolver([PUBLIC], ["127.0.0.1"]), StubConnector()
    rebinding = Target.of("rebind.example", 80)
    (await dial(rebinding, DEFAULT, timeout_s=20, resolver=resolver, connector=connector)).close()
    error = await failing(rebinding, DEFAULT, resolver=resolver, connector=connector)
    assert error.cause is Cause.POLICY_DENIED
    assert connector.hosts == [[PUBLIC]]


@pytest.mark.failure("F27")
@pytest.mark.parametrize(
    "answer",
    [
        "::ffff:127.0.0.1",  # mapped
        "64:ff9b::7f00:1",  # NAT64
        "64:ff9b:1::7f00:1",  # NAT64 of a network's own
        "2002:7f00:1::1",  # 6to4
        "2001:0:7f00:1::",  # Teredo
        "::127.0.0.1",  # compatible
        "::ffff:0:127.0.0.1",  # translated
    ],
)
async def test_f27_a_name_that_resolves_to_loopback_in_disguise_is_denied(answer: str) -> None:
    resolver, connector = StubResolver([answer]), StubConnector()
    error = await failing(Target.of("rebind.example", 80), DEFAULT, resolver=resolver, connector=connector)
    assert error.cause is Cause.POLICY_DENIED
    assert connector.hosts == []


@pytest.mark.failure("F27")
@pytest.mark.parametrize("name", ["127.1", "0x7f000001", "2130706433", "localhost"])
async def test_f27_addresses_in_the_spelling_of_a_name_are_denied_too(name: str) -> None:
    connector = StubConnector()
    error = await failing(Target.of(name, 80), DEFAULT, connector=connector)
    assert error.cause is Cause.POLICY_DENIED
    assert connector.hosts == []


# Connecting.


async def test_an_address_is_dialled_without_a_resolver(server: socket.socket) -> None:
    resolver = StubResolver()
    sock = await dial(Target.of(*server.getsockname()), OWN, timeout_s=20, resolver=resolver)
    assert sock.getpeername() == server.getsockname()
    assert sock.gettimeout() == 0
    assert resolver.asked == []
    sock.close()


async def test_a_name_is_dialled_through_the_system(server: socket.socket) -> None:
    sock = await dial(Target.of("localhost", server.getsockname()[1]), OWN, timeout_s=20)
    assert sock.getpeername() == server.getsockname()
    sock.close()


async def test_the_next_address_is_tried(server: socket.socket, nobody: int) -> None:
    async def resolver(host: str, port: int) -> Sequence[Info]:
        return [info("127.0.0.1", nobody), info("::1", nobody), info("127.0.0.1", port)]

    sock = await dial(Target.of("three.example", server.getsockname()[1]), OWN, timeout_s=20, resolver=resolver)
    assert sock.getpeername() == server.getsockname()
    sock.close()


async def test_so_many_addresses_are_tried_and_no_more() -> None:
    hosts = [f"127.0.0.{last}" for last in range(1, 101)]
    connector = StubConnector()
    sock = await dial(
        Target.of("many.example", 80), OWN, timeout_s=20, resolver=StubResolver(hosts), connector=connector
    )
    sock.close()
    assert connector.hosts == [hosts[:ADDRESSES_MAX]]


# Failing.


async def test_a_refused_port(nobody: int) -> None:
    assert (await failing(Target.of("127.0.0.1", nobody))).cause is Cause.CONNECTION_REFUSED


async def test_all_refused(nobody: int) -> None:
    resolver = StubResolver(["127.0.0.1", "127.0.0.2", "::1"])
    assert (await failing(Target.of("three.example", nobody), resolver=resolver)).cause is Cause.CONNECTION_REFUSED


async def test_of_different_failures_the_telling_one_is_reported(nobody: int) -> None:
    """A link-local address without a zone fails with EINVAL before anything is sent."""
    policy = EgressPolicy.parse(["own", "fe80::/10"])
    resolver = StubResolver(["fe80::1", "127.0.0.1"])
    error = await failing(Target.of("two.example", nobody), policy, resolver=resolver)
    assert error.cause is Cause.CONNECTION_REFUSED
    assert error.detail == "Invalid argument, Connection refused: fe80::1, 127.0.0.1"


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (errno.ECONNREFUSED, Cause.CONNECTION_REFUSED),
        (errno.ECONNRESET, Cause.CONNECTION_REFUSED),
        (errno.EHOSTUNREACH, Cause.HOST_UNREACHABLE),
        (errno.ENETUNREACH, Cause.NETWORK_UNREACHABLE),
        (errno.ETIMEDOUT, Cause.DIAL_TIMEOUT),
        (errno.EMFILE, Cause.LIMIT_REACHED),
        (errno.EACCES, Cause.DIAL_FAILED),
    ],
)
async def test_errors_of_connecting(code: int, cause: Cause) -> None:
    error = await failing(Target.of("127.0.0.1", 80), connector=StubConnector(OSError(code, "planted")))
    assert error.cause is cause
    assert error.detail


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("Multiple exceptions: [Errno 101] a, [Errno 111] b", Cause.CONNECTION_REFUSED),
        ("Multiple exceptions: [Errno 101] a, [Errno 113] b", Cause.HOST_UNREACHABLE),
        ("Multiple exceptions: [Errno 111] a, [Errno 24] b", Cause.LIMIT_REACHED),
        ("Multiple exceptions: [Errno 110] a, [Errno 22] b", Cause.DIAL_TIMEOUT),
        ("something else", Cause.DIAL_FAILED),
    ],
)
@pytest.mark.parametrize("kind", [OSError, RuntimeError])
async def test_the_most_telling_of_several(text: str, cause: Cause, kind: type[Exception]) -> None:
    assert (await failing(Target.of("127.0.0.1", 80), connector=StubConnector(kind(text)))).cause is cause


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (socket.gaierror(socket.EAI_NONAME, "not known"), Cause.NAME_NOT_FOUND),
        (socket.gaierror(socket.EAI_NODATA, "no address"), Cause.NAME_NOT_FOUND),
        ([], Cause.NAME_NOT_FOUND),
        (socket.gaierror(socket.EAI_AGAIN, "temporary failure"), Cause.NAME_LOOKUP_FAILED),
        (socket.gaierror(socket.EAI_FAIL, "failure"), Cause.NAME_LOOKUP_FAILED),
        (OSError(errno.EMFILE, "too many open files"), Cause.LIMIT_REACHED),
        (OSError(errno.EIO, "input or output"), Cause.NAME_LOOKUP_FAILED),
    ],
)
async def test_errors_of_resolving(answer: Sequence[str] | BaseException, cause: Cause) -> None:
    error = await failing(Target.of("name.example", 80), resolver=StubResolver(answer))
    assert error.cause is cause


@pytest.mark.parametrize("name", ["x" * 64, "a..b"])
async def test_names_that_no_resolver_takes(name: str) -> None:
    """The system refuses them by itself: nothing is sent."""
    error = await failing(Target.of(name, 80))
    assert error.cause in (Cause.NAME_NOT_FOUND, Cause.NAME_LOOKUP_FAILED)


async def test_port_0() -> None:
    connector = StubConnector()
    assert (await failing(Target.of("127.0.0.1", 0), connector=connector)).cause is Cause.DIAL_FAILED
    assert connector.hosts == []


async def test_a_connection_that_met_itself_is_a_refusal() -> None:
    async def meets_itself(infos: Sequence[Info]) -> socket.socket:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        return sock

    error = await failing(Target.of("127.0.0.1", 80), connector=meets_itself)
    assert error.cause is Cause.CONNECTION_REFUSED


# Bounds, and what is left behind.


async def test_resolving_is_bounded() -> None:
    async def never(host: str, port: int) -> Sequence[Info]:
        return await asyncio.Future()

    error = await failing(Target.of("slow.example", 80), timeout_s=0.01, resolver=never)
    assert error.cause is Cause.NAME_LOOKUP_FAILED, "the target has nothing to do with it"


@pytest.fixture
def full() -> Iterator[tuple[str, int]]:
    """A listener whose backlog is full: further connections stay unanswered."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = []
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
            waiting.append(sock)
        yield server.getsockname()
        for sock in waiting:
            sock.close()


@pytest.mark.parametrize("hosts", [["127.0.0.1"], ["127.0.0.1", "127.0.0.1", "127.0.0.1"]])
async def test_connecting_is_bounded_and_leaves_no_socket(full: tuple[str, int], hosts: list[str]) -> None:
    made = MadeSockets()
    error = await failing(
        Target.of("full.example", full[1]), timeout_s=0.4, resolver=StubResolver(hosts), connector=made.connect
    )
    assert error.cause is Cause.DIAL_TIMEOUT
    assert made.all_closed(min(2, len(hosts)))


@pytest.mark.parametrize("hosts", [["127.0.0.1"], ["127.0.0.1", "127.0.0.1"]])
async def test_a_cancellation_leaves_no_socket(full: tuple[str, int], hosts: list[str]) -> None:
    made = MadeSockets()
    task = asyncio.create_task(
        dial(
            Target.of("full.example", full[1]),
            OWN,
            timeout_s=20,
            resolver=StubResolver(hosts),
            connector=made.connect,
        )
    )
    await made.until(len(hosts))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made.all_closed(len(hosts))


async def test_losers_of_the_race_are_closed(full: tuple[str, int], server: socket.socket) -> None:
    made = MadeSockets()

    async def resolver(host: str, port: int) -> Sequence[Info]:
        return [info("127.0.0.1", full[1]), info("127.0.0.1", port)]

    target = Target.of("two.example", server.getsockname()[1])
    sock = await dial(target, OWN, timeout_s=20, resolver=resolver, connector=made.connect)
    assert sock.getpeername() == server.getsockname()
    assert [each.fileno() == -1 for each in made.sockets] == [True, False]
    sock.close()


class MadeSockets:
    """The default connector, with a list of the sockets it makes."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self._changed = asyncio.Event()

    async def connect(self, infos: Sequence[Info]) -> socket.socket:
        def make(info: Info) -> socket.socket:
            self.sockets.append(socket.socket(info[0], info[1], info[2]))
            self._changed.set()
            return self.sockets[-1]

        return await start_connection(
            infos, happy_eyeballs_delay=module.HAPPY_EYEBALLS_DELAY_S, interleave=1, socket_factory=make
        )

    async def until(self, count: int) -> None:
        while len(self.sockets) < count:
            self._changed.clear()
            await self._changed.wait()

    def all_closed(self, count: int) -> bool:
        return len(self.sockets) >= count and all(sock.fileno() == -1 for sock in self.sockets)


async def test_the_default_connector_leaves_no_socket_either(nobody: int) -> None:
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await connect([info("127.0.0.1", nobody), info("127.0.0.2", nobody)])
    gc.collect()  # An unclosed socket would warn, and warnings are errors.


async def test_slow_names_do_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch, server: socket.socket) -> None:
    """uvloop resolves four names at a time, asyncio not many more."""
    release = threading.Event()
    original = socket.getaddrinfo

    def slow(host: bytes, *arguments: Any, **options: Any) -> Any:
        if host == b"slow.example":
            release.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "planted")
        return original(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    tasks = [asyncio.create_task(failing(Target.of("slow.example", 80))) for _ in range(module.LOOK_UPS_MAX - 1)]
    await asyncio.sleep(0)
    (await dial(Target.of("localhost", server.getsockname()[1]), OWN, timeout_s=20)).close()
    release.set()
    assert {error.cause for error in await asyncio.gather(*tasks)} == {Cause.NAME_LOOKUP_FAILED}


async def test_a_name_where_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """glibc then says that there is no such name (here: planted), and a target would be told to be gone for good."""

    def no_such_name(*args: object, **named: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def no_socket(*args: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    assert (await failing(Target.of("name.example", 80))).cause is Cause.NAME_NOT_FOUND
    with monkeypatch.context() as short:
        short.setattr(socket, "socket", no_socket)
        assert (await failing(Target.of("name.example", 80))).cause is Cause.LIMIT_REACHED
