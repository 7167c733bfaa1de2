"""Bad input to the real SOCKS listener: a precise answer or a close within the handshake timeout, never a hang.

That nothing is logged as an error, and no exception reaches the event loop, is checked at the end of every test by
the fixtures.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.integration.conftest import PATIENCE_S, Log, Streams, Target, Tunnel, eventually, reset

import proxy_client.socks
import tunnel.net.dial

MakeTunnel = Callable[..., Awaitable[Tunnel]]

GREETING = b"\x05\x01\x00"
METHOD = b"\x05\x00"
AUTH_GREETING = b"\x05\x02\x00\x02"
AUTH_METHOD = b"\x05\x02"
CREDENTIALS = b"\x01\x05alice\x0csecret:word!"
ACCEPTED = b"\x01\x00"
REFUSED_CREDENTIALS = b"\x01\x01"
NO_METHOD = b"\x05\xff"
GENERAL_FAILURE = b"\x05\x01\x00\x01" + bytes(6)
TIMEOUT_S = 3.0
"""Of handshakes that are meant to time out: short, and still enough for a busy machine to read what was sent."""
JUNK = b"\x00\xff" * 100_000

REQUESTS = {
    "IPv4": b"\x05\x01\x00\x01\xc6\x33\x64\x01\x00\x50",
    "IPv6": b"\x05\x01\x00\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x00\x50",
    "name": b"\x05\x01\x00\x03\x0cexample.test\x00\x50",
}


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text("# who may\nbob:other\nalice:secret:word!\n")
    return path


async def rest_of(streams: Streams) -> bytes:
    """What still comes, to the clean end: a reset would be an exception."""
    async with asyncio.timeout(PATIENCE_S):
        data = await streams[0].read(-1)
    streams[1].close()
    return data


async def say(tunnel: Tunnel, data: bytes, *, end: bool = False) -> bytes:
    """All that a client hears that says `data` in one write."""
    streams = await tunnel.socks()
    streams[1].write(data)
    if end:
        streams[1].write_eof()
    return await rest_of(streams)


async def all_closed(tunnel: Tunnel) -> None:
    await eventually(lambda: tunnel.at_client("socks_connections_active") == 0, "no connection is left")
    await eventually(lambda: not len(tunnel.client._poller), "no socket is left")
    await tunnel.quiet()


def failures(log: Log) -> Counter[str]:
    return Counter(line["cause"] for line in log if line["event"] == "request_failed")


BAD = [
    ("SOCKS4", b"\x04\x01\x00\x50\xc6\x33\x64\x01user\x00", b"\x00\x5b" + bytes(6), "socks_version", "version 4"),
    ("HTTP", b"GET http://example.test/ HTTP/1.1\r\nHost: example.test\r\n\r\n", b"", "socks_version", "HTTP"),
    ("HTTP CONNECT", b"CONNECT example.test:443 HTTP/1.1\r\n\r\n", b"", "socks_version", "HTTP"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"", "socks_version", "TLS"),
    ("zeros", bytes(600), b"", "socks_version", "first octet is 0"),
    ("no methods", b"\x05\x00", NO_METHOD, "no_acceptable_method", "none"),
    ("GSSAPI only", b"\x05\x01\x01", NO_METHOD, "no_acceptable_method", "none"),
    ("password only", b"\x05\x01\x02", NO_METHOD, "no_acceptable_method", "none"),
    ("most methods", b"\x05\xff" + bytes(range(1, 256)), NO_METHOD, "no_acceptable_method", "none"),
    ("request version", GREETING + b"\x04\x01\x00\x01", METHOD + GENERAL_FAILURE, "bad_request", "version"),
    ("empty name", GREETING + b"\x05\x01\x00\x03\x00\x00\x50", METHOD + GENERAL_FAILURE, "bad_request", "empty"),
    ("port 0", GREETING + REQUESTS["IPv4"][:-2] + b"\0\0", METHOD + GENERAL_FAILURE, "bad_request", "port 0"),
    (
        "name with a blank",
        GREETING + b"\x05\x01\x00\x03\x03a b\x00\x50",
        METHOD + GENERAL_FAILURE,
        "bad_request",
        "character",
    ),
    (
        "name of zeros",
        GREETING + b"\x05\x01\x00\x03\xff" + bytes(255) + b"\x00\x50",
        METHOD + GENERAL_FAILURE,
        "bad_request",
        "character",
    ),
]


@pytest.mark.failure("F28")
@pytest.mark.parametrize("behind", [b"", JUNK], ids=["alone", "more-behind"])
@pytest.mark.parametrize(("name", "data", "answer", "cause", "words"), BAD, ids=[row[0] for row in BAD])
async def test_f28_garbage(
    tunnel: Tunnel, log: Log, name: str, data: bytes, answer: bytes, cause: str, words: str, behind: bytes
) -> None:
    """Answered at once, and the answer arrives although the client is still sending."""
    assert await say(tunnel, data + behind) == answer
    await all_closed(tunnel)
    assert failures(log) == {cause: 1}
    [line] = [line for line in log if line["event"] == "request_failed"]
    assert words in line["detail"]
    assert tunnel.at_client("socks_failures_total", cause=cause) == 1
    replied = answer.endswith(GENERAL_FAILURE)
    assert tunnel.at_client("socks_replies_total", reply="general_failure") == int(replied)
    assert tunnel.at_client("socks_handshake_seconds_count") == int(replied)


BAD_LOGINS = [
    ("no password offered", b"\x05\x01\x00", NO_METHOD, "no_acceptable_method"),
    ("wrong password", AUTH_GREETING + b"\x01\x05alice\x05letme", AUTH_METHOD + REFUSED_CREDENTIALS, "bad_credentials"),
    (
        "another's password",
        AUTH_GREETING + b"\x01\x05alice\x05other",
        AUTH_METHOD + REFUSED_CREDENTIALS,
        "bad_credentials",
    ),
    (
        "nobody",
        AUTH_GREETING + b"\x01\x07mallory\x0csecret:word!",
        AUTH_METHOD + REFUSED_CREDENTIALS,
        "bad_credentials",
    ),
    ("empty", AUTH_GREETING + b"\x01\x00\x00", AUTH_METHOD + REFUSED_CREDENTIALS, "bad_credentials"),
    (
        "longest",
        AUTH_GREETING + b"\x01\xff" + b"u" * 255 + b"\xff" + b"p" * 255,
        AUTH_METHOD + REFUSED_CREDENTIALS,
        "bad_credentials",
    ),
    ("version", AUTH_GREETING + b"\x05\x01\x00", AUTH_METHOD + REFUSED_CREDENTIALS, "bad_request"),
    ("request at once", AUTH_GREETING + REQUESTS["name"], AUTH_METHOD + REFUSED_CREDENTIALS, "bad_request"),
]


@pytest.mark.parametrize("behind", [b"", JUNK], ids=["alone", "more-behind"])
@pytest.mark.parametrize(("name", "data", "answer", "cause"), BAD_LOGINS, ids=[row[0] for row in BAD_LOGINS])
async def test_bad_login(
    make_tunnel: MakeTunnel,
    log: Log,
    users_file: Path,
    name: str,
    data: bytes,
    answer: bytes,
    cause: str,
    behind: bytes,
) -> None:
    tunnel = await make_tunnel(client_users_file=users_file)
    assert await say(tunnel, data + behind) == answer
    await all_closed(tunnel)
    assert failures(log) == {cause: 1}
    assert tunnel.at_client("socks_failures_total", cause=cause) == 1
    assert tunnel.at_client("socks_replies_total", reply="general_failure") == 0
    told = str(log)
    assert not [secret for secret in ("secret:word", "letme", "other", "mallory") if secret in told]


def connect_to(target: Target) -> bytes:
    return b"\x05\x01\x00\x01" + socket.inet_aton(target.address.host) + target.address.port.to_bytes(2, "big")


@pytest.mark.failure("F22")
async def test_f22_everything_in_one_write(make_tunnel: MakeTunnel, log: Log, users_file: Path, target: Target) -> None:
    """Greeting, login, request, more data than is taken before the reply, and the end: nothing is lost."""
    tunnel = await make_tunnel(client_users_file=users_file)
    early = bytes(range(256)) * 2000
    streams = await tunnel.socks()
    streams[1].write(AUTH_GREETING + CREDENTIALS + connect_to(target) + early)
    streams[1].write_eof()
    far_reader, far_writer = await target.connection()
    async with asyncio.timeout(PATIENCE_S):
        assert await far_reader.read(-1) == early
    far_writer.write(b"thanks")
    far_writer.close()
    answer = await rest_of(streams)
    assert answer[:5] == AUTH_METHOD + ACCEPTED + b"\x05"
    assert answer[5] == 0
    assert answer[14:] == b"thanks"
    await all_closed(tunnel)
    assert failures(log) == {}


async def test_one_byte_at_a_time(make_tunnel: MakeTunnel, users_file: Path, target: Target) -> None:
    tunnel = await make_tunnel(client_users_file=users_file)
    streams = await tunnel.socks()
    sock = streams[1].get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for octet in AUTH_GREETING + CREDENTIALS + connect_to(target) + b"data":
        streams[1].write(bytes([octet]))
        await asyncio.sleep(0)
    far_reader, far_writer = await target.connection()
    async with asyncio.timeout(PATIENCE_S):
        assert await far_reader.readexactly(4) == b"data"
    far_writer.close()
    assert (await rest_of(streams))[:5] == AUTH_METHOD + ACCEPTED + b"\x05"
    await all_closed(tunnel)


def prefixes(request: bytes, *, users: bool) -> list[tuple[bytes, bytes]]:
    """Every way to break off a handshake, and what is heard then."""
    steps = [(AUTH_GREETING, AUTH_METHOD), (CREDENTIALS, ACCEPTED)] if users else [(GREETING, METHOD)]
    refusals = [b"", REFUSED_CREDENTIALS, GENERAL_FAILURE] if users else [b"", GENERAL_FAILURE]
    found, said, heard = [], b"", b""
    for (message, answer), refusal in zip([*steps, (request, b"")], refusals, strict=True):
        found += [(said + message[:length], heard + refusal) for length in range(len(message))]
        said, heard = said + message, heard + answer
    return found


@pytest.mark.failure("F28")
@pytest.mark.parametrize("users", [False, True], ids=["nobody", "users"])
@pytest.mark.parametrize("kind", REQUESTS)
async def test_f28_truncated_at_each_byte(
    make_tunnel: MakeTunnel, log: Log, users_file: Path, kind: str, users: bool
) -> None:
    tunnel = await make_tunnel(client_users_file=users_file if users else None)
    cases = prefixes(REQUESTS[kind], users=users)
    answers = await asyncio.gather(*(say(tunnel, said, end=True) for said, _ in cases))
    assert answers == [heard for _, heard in cases]
    await all_closed(tunnel)
    assert failures(log) == {"socks_truncated": len(cases)}
    assert tunnel.at_client("socks_failures_total", cause="socks_truncated") == len(cases)
    replies = sum(heard.endswith(GENERAL_FAILURE) for _, heard in cases)
    assert tunnel.at_client("socks_replies_total", reply="general_failure") == replies


@pytest.mark.failure("F28")
@pytest.mark.parametrize("users", [False, True], ids=["nobody", "users"])
async def test_f28_silent_after_each_byte(make_tunnel: MakeTunnel, log: Log, users_file: Path, users: bool) -> None:
    tunnel = await make_tunnel(client_users_file=users_file if users else None, client_socks_timeout_s=TIMEOUT_S)
    cases = [case for request in REQUESTS.values() for case in prefixes(request, users=users)]
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    answers = await asyncio.gather(*(say(tunnel, said) for said, _ in cases))
    assert TIMEOUT_S * 0.9 < loop.time() - began_at < PATIENCE_S
    assert answers == [heard for _, heard in cases]
    await all_closed(tunnel)
    assert failures(log) == {"socks_timeout": len(cases)}
    assert tunnel.at_client("socks_failures_total", cause="socks_timeout") == len(cases)


@pytest.mark.failure("F28")
@pytest.mark.parametrize("users", [False, True], ids=["nobody", "users"])
async def test_f28_reset_after_each_byte(make_tunnel: MakeTunnel, log: Log, users_file: Path, users: bool) -> None:
    tunnel = await make_tunnel(client_users_file=users_file if users else None)
    cases = prefixes(REQUESTS["name"], users=users)
    for said, heard in cases:
        reader, writer = await tunnel.socks()
        writer.write(said)
        if answer := heard.removesuffix(GENERAL_FAILURE).removesuffix(REFUSED_CREDENTIALS):
            async with asyncio.timeout(PATIENCE_S):
                await reader.readexactly(len(answer))  # So that some resets come late, and not all at once.
        reset(writer)
    await all_closed(tunnel)
    assert failures(log) == {"application_reset": len(cases)}
    assert tunnel.at_client("socks_failures_total", cause="application_reset") == len(cases)


@pytest.mark.failure("F28")
async def test_f28_slow_loris(make_tunnel: MakeTunnel, log: Log) -> None:
    """The timeout is for the whole handshake: a byte now and then does not prolong it."""
    tunnel = await make_tunnel(client_socks_timeout_s=TIMEOUT_S)
    reader, writer = await tunnel.socks()
    hearing = asyncio.ensure_future(reader.read(-1))
    writer.write(GREETING + REQUESTS["name"][:5])
    for _ in range(10):  # Two more would make it whole.
        await asyncio.wait([hearing], timeout=TIMEOUT_S / 8)
        if hearing.done():
            break
        writer.write(b"x")
    assert hearing.done()
    assert await hearing == METHOD + GENERAL_FAILURE
    writer.close()
    await all_closed(tunnel)
    assert failures(log) == {"socks_timeout": 1}


async def test_what_is_taken_before_the_reply_is_bounded(
    make_tunnel: MakeTunnel, monkeypatch: pytest.MonkeyPatch, target: Target
) -> None:
    """2 MB behind a request whose target is still being dialled: kept back in the client, then delivered whole."""
    may_go_on = asyncio.Event()
    really = tunnel.net.dial.connect

    async def slowly(infos: object) -> socket.socket:
        await may_go_on.wait()
        return await really(infos)  # type: ignore[arg-type]

    monkeypatch.setattr(tunnel.net.dial, "connect", slowly)
    made = await make_tunnel()
    streams = await made.socks()
    early = bytes(range(256)) * 8_000
    by_name = b"\x05\x01\x00\x03\x09localhost" + target.address.port.to_bytes(2, "big")
    streams[1].write(GREETING + by_name + early)
    streams[1].write_eof()
    session = made.client._session
    await eventually(lambda: session.ledger.flow_control_waits > 0, "the client has to wait")
    [handler] = made.client._driver.handlers.values()
    assert made.at_client("tunnel_bytes_total", role="client", direction="client_to_target") == 16 * 1024
    assert len(handler._unsent) <= 64 * 1024  # type: ignore[attr-defined]
    may_go_on.set()
    far_reader, far_writer = await target.connection()
    async with asyncio.timeout(PATIENCE_S):
        assert await far_reader.read(-1) == early
    far_writer.close()
    assert (await rest_of(streams))[:4] == METHOD + b"\x05\x00"
    await all_closed(made)


async def test_refused_client_that_does_not_leave(tunnel: Tunnel, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its answer and goes on sending: listened to for a while, then closed."""
    monkeypatch.setattr(proxy_client.socks, "FAREWELL_S", 0.3)
    reader, writer = await tunnel.socks()
    writer.write(b"\x05\x01\x01")
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read(-1) == NO_METHOD
    assert len(tunnel.client._poller)
    await eventually(lambda: not len(tunnel.client._poller), "the socket is closed")
    writer.write(b"x")
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await send_for_ever(writer)
    writer.close()
    await all_closed(tunnel)


async def send_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def test_a_crowd_of_bad_clients_does_not_stop_a_good_one(
    make_tunnel: MakeTunnel, log: Log, target: Target
) -> None:
    tunnel = await make_tunnel(client_socks_timeout_s=TIMEOUT_S)
    silent = [await tunnel.socks() for _ in range(200)]
    garbage = [asyncio.ensure_future(say(tunnel, row[1])) for row in BAD for _ in range(10)]
    reader, writer = await tunnel.connect(target.address)
    _, far_writer = await target.connection()
    far_writer.write(b"served")
    far_writer.close()
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read(-1) == b"served"
    writer.close()
    assert await asyncio.gather(*garbage) == [row[2] for row in BAD for _ in range(10)]
    assert await asyncio.gather(*map(rest_of, silent)) == [b""] * len(silent)
    await all_closed(tunnel)
    assert failures(log)["socks_timeout"] == len(silent)
