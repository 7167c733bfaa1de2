"""What the preflight calls unsupported, what it leaves to the load, and what it refuses to begin with."""

import asyncio
import socket
import struct
from collections.abc import Sequence
from itertools import count

import pytest
from tests.unit.loadgen.conftest import NOWHERE, Peers, Speak, Target, accept_socks

from loadgen.load.mix import Mix, read
from loadgen.soak.preflight import ATTEMPTS, PROMPT_S, Attempt, Preflight, missing_feature, preflight, unusable
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Limits, Phase
from loadgen.transaction.route import Route
from loadgen.transaction.socks5 import Credentials
from servicekit.address import Address

MIX = read("default")
GIVE_UP_S = 0.3
PROXY = Address("192.0.2.9", 1080)

CUT_OFF = Attempt(Outcome.EOF_PREMATURE, Phase.UPLOAD_EOF, 0.01, "the stream ended before the response")
CUT_OFF_BY_RESET = Attempt(Outcome.RESET, Phase.UPLOAD_EOF, 0.01, "reset by peer")
CUT_OFF_LATE = Attempt(Outcome.EOF_PREMATURE, Phase.UPLOAD_EOF, PROMPT_S + 0.5)
SWALLOWED = Attempt(Outcome.TIMEOUT, Phase.UPLOAD_EOF, 5.0)
NO_SUCH_COMMAND = Attempt(Outcome.SOCKS_REJECTED, Phase.SOCKS_CONNECT, 0.01, "reply 7: command not supported")
NO_SUCH_ADDRESS = Attempt(Outcome.SOCKS_REJECTED, Phase.SOCKS_CONNECT, 0.01, "reply 8: address type not supported")
IN_WORDS_OF_HTTPX = Attempt(
    Outcome.SOCKS_REJECTED, Phase.SOCKS_CONNECT, 0.01, "could not connect: Command not supported."
)
REFUSED = Attempt(Outcome.SOCKS_REJECTED, Phase.SOCKS_CONNECT, 0.01, "reply 5: connection refused")
OK = Attempt(Outcome.OK)


def in_body(outcome: Outcome) -> Attempt:
    return Attempt(outcome, Phase.BODY, 0.01)


@pytest.mark.parametrize(
    "attempts",
    [
        [CUT_OFF] * 3,
        [CUT_OFF, CUT_OFF_BY_RESET, CUT_OFF],
        [NO_SUCH_COMMAND] * 3,
        [NO_SUCH_ADDRESS] * 3,
        [IN_WORDS_OF_HTTPX] * 3,
    ],
)
def test_a_missing_feature(attempts: Sequence[Attempt]) -> None:
    assert missing_feature(attempts)
    assert missing_feature(attempts[: ATTEMPTS - 1]) is None, "too few attempts"
    assert missing_feature([*attempts[1:], OK]) is None, "intermittent"


@pytest.mark.parametrize(
    "attempt",
    [
        OK,
        SWALLOWED,
        CUT_OFF_LATE,
        REFUSED,
        *map(in_body, (Outcome.EOF_PREMATURE, Outcome.RESET, Outcome.CORRUPT, Outcome.EXCESS, Outcome.TIMEOUT)),
        Attempt(Outcome.EOF_PREMATURE, Phase.EOF_WAIT, 0.01, "the target saw the end after 999 of 1000 bytes"),
        Attempt(Outcome.CORRUPT, Phase.UPLOAD_EOF, 0.01),
        Attempt(Outcome.HTTP_ERROR, Phase.BODY, 0.01),
    ],
)
def test_no_missing_feature(attempt: Attempt) -> None:
    assert missing_feature([attempt] * ATTEMPTS) is None
    assert missing_feature([attempt, CUT_OFF, CUT_OFF]) is None


def test_two_features_that_are_missing_by_turns_are_none() -> None:
    assert missing_feature([CUT_OFF, NO_SUCH_COMMAND, CUT_OFF]) is None


def failed(phase: Phase, outcome: Outcome) -> list[Attempt]:
    return [Attempt(outcome, phase, 0.01, "so it says")] * ATTEMPTS


@pytest.mark.parametrize(
    ("dialled", "sentence"),
    [
        (failed(Phase.TCP_CONNECT, Outcome.RESET), "192.0.2.9:1080 cannot be reached"),
        (failed(Phase.TCP_CONNECT, Outcome.TIMEOUT), "192.0.2.9:1080 cannot be reached"),
        (failed(Phase.SOCKS_GREETING, Outcome.SOCKS_REJECTED), "does not let us in"),
        (failed(Phase.SOCKS_GREETING, Outcome.CORRUPT), "no SOCKS5 proxy"),
        (failed(Phase.SOCKS_GREETING, Outcome.EOF_PREMATURE), "no SOCKS5 proxy"),
        ([REFUSED] * ATTEMPTS, "192.0.2.1:80 cannot be reached through the proxy"),
    ],
)
def test_unusable(dialled: list[Attempt], sentence: str) -> None:
    assert sentence in (unusable(dialled, PROXY, NOWHERE) or "")
    assert unusable([*dialled[1:], OK], PROXY, NOWHERE) is None, "intermittent"


@pytest.mark.parametrize(
    "dialled",
    [
        [OK],
        failed(Phase.SOCKS_GREETING, Outcome.TIMEOUT),
        failed(Phase.SOCKS_CONNECT, Outcome.TIMEOUT),
        [NO_SUCH_COMMAND] * ATTEMPTS,
        [*failed(Phase.TCP_CONNECT, Outcome.RESET)[1:], REFUSED],
    ],
)
def test_usable_or_not_clear(dialled: list[Attempt]) -> None:
    assert unusable(dialled, PROXY, NOWHERE) is None


# ---- with peers


async def look(
    proxy: Address, target: Target, mix: Mix = MIX, credentials: Credentials | None = None, within_s: float = 5.0
) -> Preflight:
    return await preflight(mix, Route(proxy, target.http, target.first, credentials), Limits.default(), within_s)


def on_half_close(end: str, spares: int = 0) -> Speak:
    """A relay that does `end` when the client has half-closed: "pass", "close", "reset" or "swallow" it.

    It passes the first `spares` ends on as it should.
    """
    ends = count()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = await accept_socks(reader, writer)
        target_reader, target_writer = await asyncio.open_connection(to.host, to.port)

        async def back() -> None:
            while data := await target_reader.read(65536):
                writer.write(data)
            writer.write_eof()

        answering = asyncio.create_task(back())
        try:
            while data := await reader.read(65536):
                target_writer.write(data)
            half_closed = not answering.done()
            chosen = end if half_closed and next(ends) >= spares else "pass"
            if chosen == "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            if chosen in ("close", "reset"):
                writer.close()
                return
            if chosen == "pass":
                target_writer.write_eof()
            await answering
        finally:
            answering.cancel()
            target_writer.close()

    return relay


async def test_everything_is_supported(peers: Peers, target: Target) -> None:
    assert await look(await peers.relay(), target) == Preflight()
    assert await look(await peers.serve(on_half_close("pass")), target) == Preflight()


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_half_close_as_full_close_is_unsupported(peers: Peers, target: Target, end: str) -> None:
    found = await look(await peers.serve(on_half_close(end)), target)
    assert dict(found.unsupported) == dict.fromkeys(
        ("eof_gated", "server_first"), "half-close is treated as a full close"
    )
    assert found.fatal is None


async def test_a_half_close_that_sometimes_works_is_not_unsupported(peers: Peers, target: Target) -> None:
    mix = MIX.only(["eof_gated", "chunked"])
    for spares in range(1, ATTEMPTS):
        assert await look(await peers.serve(on_half_close("close", spares)), target, mix) == Preflight()


async def test_a_swallowed_end_is_not_unsupported(peers: Peers, target: Target) -> None:
    found = await look(await peers.serve(on_half_close("swallow")), target, within_s=GIVE_UP_S)
    assert found == Preflight()


async def test_a_proxy_whose_targets_hang_up_says_nothing_of_half_closes(peers: Peers, target: Target) -> None:
    """It says yes to everything, hears the client out, and closes: every exchange fails, half-closed or not."""

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_socks(reader, writer)
        await reader.read()

    assert (
        await look(await peers.serve(hangs_up), target, MIX.only(["eof_gated", "chunked"]), within_s=GIVE_UP_S)
        == Preflight()
    )


async def test_nothing_that_was_asked_for_is_supported(peers: Peers, target: Target) -> None:
    found = await look(await peers.serve(on_half_close("close")), target, MIX.only(["eof_gated"]))
    assert "supports nothing of what was asked for: eof_gated: half-close" in (found.fatal or "")
    assert found.unsupported.keys() == {"eof_gated"}


def handshake(*replies: bytes) -> Speak:
    """A proxy that answers with these replies, and closes."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in replies:
            await reader.read(300)
            writer.write(reply)
        await writer.drain()

    return speak


@pytest.mark.parametrize(
    ("replies", "sentence"),
    [
        ([b"\x05\xff"], "does not let us in: no acceptable method"),
        ([b"HTTP/1.1 400 Bad\r\n"], "no SOCKS5 proxy"),
        ([b"\x05\x00", b"\x05\x05\x00\x01\0\0\0\0\0\0"], "cannot be reached through the proxy"),
        ([b"\x05\x00", b"\x05\x08\x00\x01\0\0\0\0\0\0"], "supports nothing of what was asked for"),
    ],
)
async def test_fatal(peers: Peers, target: Target, replies: list[bytes], sentence: str) -> None:
    found = await look(await peers.serve(handshake(*replies)), target, MIX.only(["get", "chunked"]))
    assert sentence in (found.fatal or "")


async def test_refused_credentials_are_fatal(peers: Peers, target: Target) -> None:
    proxy = await peers.serve(handshake(b"\x05\x02", b"\x01\x01"))
    found = await look(proxy, target, credentials=Credentials("me", "wrong"))
    assert "does not let us in: name or password refused" in (found.fatal or "")


async def test_nobody_listens(target: Target) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        nobody = Address.of_socket(bound.getsockname())
    found = await look(nobody, target)
    assert f"the proxy {nobody} cannot be reached: Connect" in (found.fatal or "")


async def test_a_proxy_that_was_away_for_a_moment_is_not_fatal(peers: Peers, target: Target) -> None:
    seen = count()
    relay = on_half_close("pass")

    async def comes_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if next(seen) >= ATTEMPTS - 1:
            await relay(reader, writer)

    assert await look(await peers.serve(comes_back), target) == Preflight()


async def test_silence_in_the_handshake_is_left_to_the_load(peers: Peers, target: Target) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    assert await look(await peers.serve(silent), target, within_s=GIVE_UP_S) == Preflight()
