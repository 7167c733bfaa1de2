"""The error table end to end: for each cause the reply a SOCKS client gets, the metric that counts it, the line that
tells it.

Nothing here is sent to any address but loopback: resolver and connector are replaced by `Internet`. Replies and
labels are written out, so that a changed table is a failed test.
"""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import pytest
from aiohappyeyeballs.types import AddrInfoType
from tests.integration.conftest import PATIENCE_S, Log, Target, Tunnel, eventually, reset
from tests.pairings import every_pairing

import tunnel.net.dial
import tunnel.net.direct
from servicekit.address import Address
from tunnel.net.dial import resolve as really_resolve
from tunnel.target import Target as Destination

pytestmark = every_pairing

MakeTunnel = Callable[..., Awaitable[Tunnel]]
ALLOWED = ("own", "198.51.100.0/24", "2001:db8::/32")
"""Networks for documentation (RFC 5737, RFC 3849), which stand for the world here."""

REFUSING, NO_HOST, NO_NETWORK, SILENT, BROKEN, EXHAUSTING = (f"198.51.100.{number}" for number in range(1, 7))
OUTCOMES = {
    REFUSING: errno.ECONNREFUSED,
    NO_HOST: errno.EHOSTUNREACH,
    NO_NETWORK: errno.ENETUNREACH,
    BROKEN: errno.EPROTO,
    EXHAUSTING: errno.EMFILE,
    "2001:db8::1": errno.ENETUNREACH,
}
NAMES: dict[str, list[str] | Exception | None] = {
    "refusing.test": [REFUSING],
    "several.test": [NO_NETWORK, REFUSING, NO_HOST],
    "private.test": ["10.0.0.1", "fd00::1"],
    "metadata.test": ["169.254.169.254"],
    "empty.test": [],
    "nowhere.test": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    "later.test": socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    "broken.test": RuntimeError("a fault in the resolver"),
    "slow.test": None,
}


class Internet:
    """Stands in for resolver and connectors. Loopback is real, `OUTCOMES` and `NAMES` are played, silence is waited:
    an address that is silent leads to `full`, a listener whose backlog is full.
    """

    def __init__(self, full: tuple[str, int]) -> None:
        self.dialled: list[str] = []
        self._full = full
        self._begun: WeakSet[socket.socket] = WeakSet()

    async def resolve(self, host: str, port: int) -> Sequence[AddrInfoType]:
        if host == "localhost":
            return await really_resolve(host, port)
        answer = NAMES[host]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return [self._info(address, port) for address in answer or ()]

    async def connect(self, infos: Sequence[AddrInfoType]) -> socket.socket:
        hosts = [str(info[4][0]) for info in infos]
        self.dialled += hosts
        if set(hosts) <= {"127.0.0.1", "::1"}:
            sock = socket.socket(infos[0][0], socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(sock, infos[0][4])
            except BaseException:
                sock.close()
                raise
            return sock
        errors = [OSError(OUTCOMES[host], "played") for host in hosts if host in OUTCOMES]
        if not errors:
            await asyncio.Event().wait()
        raise errors[0] if len(errors) == 1 else OSError("; ".join(f"[Errno {error.errno}] played" for error in errors))

    def connect_directly(self, sock: socket.socket, address: tuple[Any, ...]) -> int:
        host = address[0]
        if sock not in self._begun:
            self._begun.add(sock)
            self.dialled.append(host)
        if host in ("127.0.0.1", "::1"):
            return sock.connect_ex(address)
        return OUTCOMES.get(host) or sock.connect_ex(self._full)

    @staticmethod
    def _info(host: str, port: int) -> AddrInfoType:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))


@pytest.fixture(autouse=True)
def internet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    with ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        made = Internet(silent.getsockname())
        monkeypatch.setattr(tunnel.net.dial, "resolve", made.resolve)
        monkeypatch.setattr(tunnel.net.dial, "connect", made.connect)
        monkeypatch.setattr(tunnel.net.direct, "connect", made.connect_directly)
        yield made


def request(host: str, port: int, command: int = 1) -> bytes:
    target = Destination.of(host, port)
    packed = target.packed()
    length = bytes([len(packed)]) if target.kind == 3 else b""
    return bytes((5, command, 0, target.kind)) + length + packed + port.to_bytes(2, "big")


def refusal(reply: int) -> bytes:
    return bytes((5, reply, 0, 1, 0, 0, 0, 0, 0, 0))


async def ask(tunnel: Tunnel, message: bytes) -> bytes:
    """All that a client gets for its request, to the clean end: a reset would be an exception."""
    reader, writer = await tunnel.socks()
    writer.write(b"\x05\x01\x00" + message)
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read(-1)
    writer.close()
    assert answer[:2] == b"\x05\x00"
    return answer[2:]


def lines(log: Log, event: str) -> list[dict[str, Any]]:
    return [dict(line) for line in log if line["event"] == event]


@pytest.mark.parametrize(
    ("host", "reply", "cause"),
    [
        (REFUSING, 5, "connection_refused"),
        ("refusing.test", 5, "connection_refused"),
        ("several.test", 5, "connection_refused"),
        (NO_HOST, 4, "host_unreachable"),
        (NO_NETWORK, 3, "network_unreachable"),
        ("2001:db8::1", 3, "network_unreachable"),
        ("nowhere.test", 4, "name_not_found"),
        ("empty.test", 4, "name_not_found"),
        ("later.test", 4, "name_lookup_failed"),
        (SILENT, 6, "dial_timeout"),
        ("slow.test", 4, "name_lookup_failed"),
        ("private.test", 2, "policy_denied"),
        ("metadata.test", 2, "policy_denied"),
        ("169.254.169.254", 2, "policy_denied"),
        ("::ffff:169.254.169.254", 2, "policy_denied"),
        (BROKEN, 1, "dial_failed"),
        (EXHAUSTING, 1, "limit_reached"),
    ],
)
async def test_dial_that_fails(
    make_tunnel: MakeTunnel, log: Log, internet: Internet, host: str, reply: int, cause: str
) -> None:
    tunnel = await make_tunnel(server_egress_allow=ALLOWED, server_dial_timeout_s=0.3)
    assert await ask(tunnel, request(host, 80)) == refusal(reply)

    assert tunnel.at_server("tunnel_dials_total", cause=cause) == 1
    assert tunnel.at_server("tunnel_dials_active") == 0
    assert tunnel.at_client("socks_failures_total", cause=cause) == 1
    names = {1: "general_failure", 2: "not_allowed", 3: "network_unreachable", 4: "host_unreachable"}
    names |= {5: "connection_refused", 6: "ttl_expired"}
    assert tunnel.at_client("socks_replies_total", reply=names[reply]) == 1
    [dialled] = lines(log, "dial_failed")
    [failed] = lines(log, "request_failed")
    assert dialled["cause"] == failed["cause"] == cause
    assert dialled["target"] == failed["target"] == str(Destination.of(host, 80))
    assert dialled["detail"]
    assert "Errno" not in dialled["detail"]
    assert failed["detail"]
    assert failed["peer"].startswith("127.0.0.1:")
    if cause == "policy_denied":
        assert internet.dialled == []
    await tunnel.quiet()
    for side in (tunnel.at_client, tunnel.at_server):
        role = "client" if side == tunnel.at_client else "server"
        assert side("tunnel_streams_total", role=role, ending="refused") == 1


async def test_refused_by_a_real_port(tunnel: Tunnel, log: Log) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        port = nobody_listens.getsockname()[1]
        assert await ask(tunnel, request("127.0.0.1", port)) == refusal(5)
        assert await ask(tunnel, request("localhost", port)) == refusal(5)
    assert [line["cause"] for line in lines(log, "dial_failed")] == ["connection_refused"] * 2


@pytest.mark.failure("F27")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::ffff:127.0.0.1", "0.0.0.0"])
async def test_f27_loopback_is_denied_by_default(
    make_tunnel: MakeTunnel, target: Target, log: Log, internet: Internet, host: str
) -> None:
    tunnel = await make_tunnel(server_egress_allow=())
    assert await ask(tunnel, request(host, target.address.port)) == refusal(2)
    assert internet.dialled == []
    assert target.accepted.empty()
    [line] = lines(log, "dial_failed")
    assert line["cause"] == "policy_denied"
    assert "not allowed: " in line["detail"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_success_is_counted_too(tunnel: Tunnel, target: Target, log: Log, host: str) -> None:
    reader, writer = await tunnel.socks()
    writer.write(b"\x05\x01\x00" + request(host, target.address.port))
    _, far_writer = await target.connection()
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.readexactly(12)
        assert answer[:6] == bytes((5, 0, 5, 0, 0, 1))
        bound = Address(socket.inet_ntoa(answer[6:10]), int.from_bytes(answer[10:], "big"))
        assert bound == Address.of_socket(far_writer.get_extra_info("peername"))
        far_writer.close()
        assert await reader.read(-1) == b""
    writer.close()
    await tunnel.quiet()
    assert tunnel.at_client("socks_replies_total", reply="succeeded") == 1
    assert tunnel.at_server("tunnel_dials_total", cause="none") == 1
    assert lines(log, "request_failed") == lines(log, "dial_failed") == []


async def test_ipv6_target_and_its_reply(make_tunnel: MakeTunnel) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    tunnel = await make_tunnel()
    async with await asyncio.start_server(greet, "::1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        answer = await ask(tunnel, request("::1", port))
    assert answer[:4] == bytes((5, 0, 0, 4))
    assert answer[4:20] == socket.inet_pton(socket.AF_INET6, "::1")
    assert answer[22:] == b"hello"


@pytest.mark.parametrize("command", [0, 2, 3, 255])
@pytest.mark.parametrize("host", ["198.51.100.1", "2001:db8::1", "refusing.test"])
async def test_command_not_supported(tunnel: Tunnel, log: Log, internet: Internet, command: int, host: str) -> None:
    assert await ask(tunnel, request(host, 80, command)) == refusal(7)
    assert tunnel.at_client("socks_failures_total", cause="command_not_supported") == 1
    assert tunnel.at_client("socks_replies_total", reply="command_not_supported") == 1
    [line] = lines(log, "request_failed")
    assert line["cause"] == "command_not_supported"
    assert str(command) in line["detail"]
    assert internet.dialled == []


@pytest.mark.parametrize("kind", [0, 2, 5, 255])
async def test_address_type_not_supported(tunnel: Tunnel, log: Log, kind: int) -> None:
    assert await ask(tunnel, bytes((5, 1, 0, kind)) + b"whatever follows") == refusal(8)
    assert tunnel.at_client("socks_failures_total", cause="address_type_not_supported") == 1
    assert tunnel.at_client("socks_replies_total", reply="address_type_not_supported") == 1
    [line] = lines(log, "request_failed")
    assert line["cause"] == "address_type_not_supported"
    assert str(kind) in line["detail"]


async def test_tunnel_down(make_tunnel: MakeTunnel, log: Log) -> None:
    tunnel = await make_tunnel(client_open_timeout_s=0.3)
    await eventually(lambda: tunnel.client._session.is_up, "the tunnel is up")
    for _ in range(2):
        tunnel.stops[0].request()
    await tunnel.tasks[0]
    await eventually(lambda: not tunnel.client._session.is_up, "the client knows")
    assert await ask(tunnel, request("127.0.0.1", 80)) == refusal(1)
    assert tunnel.at_client("socks_failures_total", cause="tunnel_down") == 1
    assert tunnel.at_client("socks_replies_total", reply="general_failure") == 1
    [line] = lines(log, "request_failed")
    assert line["cause"] == "tunnel_down"
    assert line["target"] == "127.0.0.1:80"


async def test_request_waits_for_the_tunnel(make_tunnel: MakeTunnel, target: Target) -> None:
    """Down at the time of the request and up soon after: the client notices nothing but the time."""
    tunnel = await make_tunnel()
    await eventually(lambda: tunnel.client._session.is_up, "the tunnel is up")
    for _ in range(2):
        tunnel.stops[0].request()
    await tunnel.tasks[0]
    await eventually(lambda: not tunnel.client._session.is_up, "the client knows")
    asking = asyncio.ensure_future(ask(tunnel, request("127.0.0.1", target.address.port)))
    await eventually(lambda: tunnel.client._session.stream_count == 1, "the request waits")
    tunnel.server = await tunnel.start_server(tunnel.server.address)
    _, far_writer = await target.connection()
    far_writer.close()
    assert (await asking)[:2] == b"\x05\x00"


async def test_server_that_does_not_answer_in_time(make_tunnel: MakeTunnel, log: Log) -> None:
    """The client's own bound, which is longer than the server's dial unless something is wrong there."""
    tunnel = await make_tunnel(server_egress_allow=ALLOWED)
    session = tunnel.client._session
    session.settings = replace(session.settings, reply_timeout_s=0.3)
    assert await ask(tunnel, request(SILENT, 80)) == refusal(1)
    assert tunnel.at_client("socks_failures_total", cause="open_timeout") == 1
    [line] = lines(log, "request_failed")
    assert line["cause"] == "open_timeout"
    # The server gives the dial up with its stream.
    await eventually(lambda: tunnel.at_server("tunnel_dials_total", cause="cancelled") == 1, "the dial ended")
    await tunnel.quiet()


@pytest.mark.parametrize("leaving", ["close", "reset"])
async def test_client_that_leaves_while_its_target_is_dialled(
    make_tunnel: MakeTunnel, log: Log, internet: Internet, leaving: str
) -> None:
    tunnel = await make_tunnel(server_egress_allow=ALLOWED, server_dial_timeout_s=1.0)
    reader, writer = await tunnel.socks()
    writer.write(b"\x05\x01\x00" + request(SILENT, 80))
    async with asyncio.timeout(PATIENCE_S):
        await reader.readexactly(2)  # Left unread, it would make a reset of the close.
    await eventually(lambda: internet.dialled == [SILENT], "the dial has begun")
    assert tunnel.at_server("tunnel_dials_active") == 1
    assert tunnel.at_client("socks_connections_active") == 1
    if leaving == "reset":
        reset(writer)
        await eventually(lambda: tunnel.at_server("tunnel_dials_total", cause="cancelled") == 1, "the dial ended")
        assert tunnel.at_client("socks_failures_total", cause="cancelled") == 1
    else:
        # A client that has sent its end may still wait for the answer: that is no reason to stop dialling.
        writer.close()
        await eventually(lambda: tunnel.at_server("tunnel_dials_total", cause="dial_timeout") == 1, "the dial ended")
    await tunnel.quiet()
    await eventually(lambda: tunnel.at_client("socks_connections_active") == 0, "the connection is closed")
    assert tunnel.at_server("tunnel_dials_active") == 0


async def test_refusal_is_not_overtaken_by_a_reset(make_tunnel: MakeTunnel, log: Log) -> None:
    """The client is in the middle of sending when it is refused: closed at once, the kernel would answer with a reset
    that throws the reply away."""
    tunnel = await make_tunnel(server_egress_allow=())
    for _ in range(20):
        reader, writer = await tunnel.socks()
        writer.write(b"\x05\x01\x00" + request("127.0.0.1", 80) + b"x" * 1_000_000)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read(-1) == b"\x05\x00" + refusal(2)
            await writer.drain()
        writer.close()
    await tunnel.quiet()
    assert len(lines(log, "request_failed")) == 20


async def test_faulty_dial_loses_its_own_stream_only(
    certificates: object, make_tunnel: MakeTunnel, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F21: the fault is reported, the client is answered, others do not notice."""
    tunnel = await make_tunnel()
    faults: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_exception_handler", faults.append)
    assert await ask(tunnel, request("broken.test", 80)) == refusal(1)
    assert tunnel.at_server("tunnel_dials_total", cause="internal") == 1
    assert [str(fault["exception"]) for fault in faults] == ["a fault in the resolver"]
    reader, writer = await tunnel.connect(target.address)
    _, far_writer = await target.connection()
    far_writer.write(b"alive")
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.readexactly(5) == b"alive"
    far_writer.close()
    writer.close()
    await tunnel.quiet()
