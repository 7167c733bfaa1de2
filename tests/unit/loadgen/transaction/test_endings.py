"""Every ending is reported as what it is: one planted fault a test, exactly one outcome."""

import asyncio
import socket
import struct
from itertools import count

import pytest
from tests.unit.loadgen.conftest import Bench, Peers, Speak, accept_socks, read_head

from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase
from loadgen.transaction.socks5 import Credentials
from servicekit import payload
from servicekit.address import Address

SEED, SIZE = 7, 1000
BODY = payload.body(SEED, SIZE)
CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"3e8\r\n" + BODY + b"\r\n0\r\n\r\n"

RAW = ("close_delimited", "download")


def answers(data: bytes, pieces: int = 1) -> Speak:
    """A target that reads a request, answers `data`, and closes."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        step = -(-len(data) // pieces)
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            await asyncio.sleep(0)

    return speak


def resets_after(data: bytes) -> Speak:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(data)
        await writer.drain()
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return speak


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize(
    ("scenario", "answer"),
    [
        ("close_delimited", CLOSE + BODY),
        ("download", LENGTH + BODY),
        ("chunked", CHUNKED + CHUNKS),
        ("get", LENGTH + BODY),
        ("chunked", b"HTTP/1.1 103 Early Hints\r\n\r\n" + CHUNKED + CHUNKS),
    ],
)
async def test_ok(bench: Bench, peers: Peers, scenario: str, answer: bytes, pieces: int) -> None:
    transaction = bench.start(scenario, await peers.proxy(answers(answer, pieces)))
    assert await bench.outcome(transaction) is Outcome.OK
    assert transaction.received_bytes == SIZE
    assert bench.anomalies("outcome") == []
    assert bench.sample("soak_transactions_total", scenario=scenario, outcome="ok") == 1
    assert bench.sample("soak_payload_bytes_total", direction="target_to_client") == SIZE


FLIPPED = BODY[:500] + bytes([BODY[500] ^ 1]) + BODY[501:]


@pytest.mark.parametrize(
    ("scenario", "speak", "outcome", "detail"),
    [
        ("close_delimited", answers(CLOSE + BODY[:-1]), Outcome.EOF_PREMATURE, "after 999 of 1000"),
        ("download", answers(LENGTH + BODY[:-1]), Outcome.EOF_PREMATURE, "after 999 of 1000"),
        ("chunked", answers(CHUNKED + CHUNKS[:-5]), Outcome.EOF_PREMATURE, "after 1000 of 1000"),
        ("get", answers(LENGTH + BODY[:-1]), Outcome.EOF_PREMATURE, "peer closed"),
        ("close_delimited", answers(CLOSE), Outcome.EOF_PREMATURE, "after 0 of 1000"),
        ("close_delimited", answers(b""), Outcome.EOF_PREMATURE, "before the response"),
        ("get", answers(b""), Outcome.EOF_PREMATURE, "disconnected"),
        ("close_delimited", answers(CLOSE + FLIPPED), Outcome.CORRUPT, "byte 500 differs"),
        ("close_delimited", answers(CLOSE + FLIPPED, 30), Outcome.CORRUPT, "byte 500 differs"),
        ("get", answers(LENGTH + FLIPPED), Outcome.CORRUPT, "byte 500 differs"),
        ("download", answers(b"SSH-2.0-nonsense\r\n\r\n"), Outcome.CORRUPT, "not HTTP"),
        ("get", answers(b"SSH-2.0-nonsense\r\n\r\n"), Outcome.CORRUPT, "illegal"),
        ("download", answers(LENGTH.replace(b"1000", b"999") + BODY[:-1]), Outcome.CORRUPT, "999 of 1000"),
        ("close_delimited", answers(CLOSE + BODY + b"!"), Outcome.EXCESS, "1 bytes"),
        ("close_delimited", answers(CLOSE + BODY + b"!", 40), Outcome.EXCESS, "1 bytes"),
        ("download", answers(LENGTH + BODY + b"!"), Outcome.EXCESS, "behind the end"),
        ("chunked", answers(CHUNKED + CHUNKS + b"!"), Outcome.EXCESS, "behind the end"),
        ("close_delimited", resets_after(CLOSE + BODY[:500]), Outcome.RESET, "reset by peer"),
        ("get", resets_after(LENGTH + BODY[:500]), Outcome.RESET, "reset by peer"),
        ("download", answers(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), Outcome.HTTP_ERROR, "503"),
        ("get", answers(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), Outcome.HTTP_ERROR, "503"),
    ],
)
async def test_not_ok(bench: Bench, peers: Peers, scenario: str, speak: Speak, outcome: Outcome, detail: str) -> None:
    transaction = bench.start(scenario, await peers.proxy(speak))
    assert await bench.outcome(transaction) is outcome
    (line,) = bench.anomalies("outcome")
    assert detail in line["detail"]
    assert line["outcome"] == outcome
    assert bench.sample("soak_transactions_total", scenario=scenario, outcome=outcome) == 1


@pytest.mark.parametrize("pieces", [1, 40])
@pytest.mark.parametrize(
    ("scenario", "answer"),
    [
        ("close_delimited", CLOSE + BODY + b"!"),
        ("download", LENGTH + BODY + b"!"),
        ("chunked", CHUNKED + CHUNKS + b"!"),
    ],
)
async def test_excess_is_found_in_eof_wait(
    bench: Bench, peers: Peers, scenario: str, answer: bytes, pieces: int
) -> None:
    """Whether it comes in one read with the last expected byte, or later."""
    transaction = bench.start(scenario, await peers.proxy(answers(answer, pieces)))
    assert await bench.outcome(transaction) is Outcome.EXCESS
    (line,) = bench.anomalies("outcome")
    assert line["phase"] == "eof_wait"


@pytest.mark.parametrize("together", [True, False])
async def test_bytes_behind_a_receipt(bench: Bench, peers: Peers, together: bool) -> None:
    """A line is whole with its newline: what follows is excess, and not a receipt that never ends."""

    async def adds(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(payload.body(0, 64))
        await reader.read()
        receipt = b'{"received": 1000, "sha256": "%s"}\n' % payload.sha256(SEED, SIZE).encode()
        writer.write(receipt + b"!" if together else receipt)
        if not together:
            await bench.until(lambda: transaction.phase is Phase.EOF_WAIT)
            writer.write(b"!")

    transaction = bench.start("server_first", await peers.proxy(adds))
    assert await bench.outcome(transaction) is Outcome.EXCESS
    (line,) = bench.anomalies("outcome")
    assert line["phase"] == "eof_wait"


@pytest.mark.parametrize("scenario", RAW)
async def test_the_founding_bug(bench: Bench, peers: Peers, scenario: str) -> None:
    """The whole response arrives and the end of stream does not: a stall of eof_wait at S, eof_missing at T."""

    async def swallows_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write((CLOSE if scenario == "close_delimited" else LENGTH) + BODY)
        await reader.read()

    transaction = bench.start(scenario, await peers.proxy(swallows_the_end))
    await bench.reaches(transaction, Phase.EOF_WAIT)
    bench.sweep_after(1.9)
    assert bench.tally.stalls[Phase.EOF_WAIT].count == 0
    bench.sweep_after(0.1)
    assert bench.tally.stalls[Phase.EOF_WAIT].count == 1
    assert bench.sample("soak_stalled_transactions", phase="eof_wait") == 1
    bench.sweep_after(7.9)
    assert transaction.timed_out is None
    bench.sweep_after(0.1)
    assert await bench.outcome(transaction) is Outcome.EOF_MISSING
    assert bench.tally.timeouts[Phase.EOF_WAIT] == 1
    assert bench.tally.stalls[Phase.EOF_WAIT].recovered == 0
    assert bench.tally.stalls[Phase.EOF_WAIT].longest_s == pytest.approx(10)
    assert bench.sample("soak_stalled_transactions", phase="eof_wait") == 0
    (line,) = bench.anomalies("outcome")
    assert (line["phase"], line["received_bytes"], line["latency_s"]) == ("eof_wait", SIZE, 10)


def replies(*replies: bytes) -> Speak:
    """A proxy that answers each message of the handshake with the next of `replies`; an empty one is a close."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in replies:
            await reader.read(300)
            if not reply:
                return
            writer.write(reply)
        await reader.read(300)

    return speak


REFUSED = b"\x05\x05\x00\x01\0\0\0\0\0\0"


@pytest.mark.parametrize("scenario", ["close_delimited", "get"])
@pytest.mark.parametrize(
    ("speak", "outcome"),
    [
        (replies(b"\x05\x00", REFUSED), Outcome.SOCKS_REJECTED),
        (replies(b"\x05\xff"), Outcome.SOCKS_REJECTED),
        (replies(b"\x05\x09"), Outcome.CORRUPT),
        (replies(b"\x05\x00", b"\x04" + REFUSED[1:]), Outcome.CORRUPT),
        (replies(b""), Outcome.EOF_PREMATURE),
        (replies(b"\x05\x00", b""), Outcome.EOF_PREMATURE),
    ],
)
async def test_handshake(bench: Bench, peers: Peers, scenario: str, speak: Speak, outcome: Outcome) -> None:
    transaction = bench.start(scenario, await peers.serve(speak))
    assert await bench.outcome(transaction) is outcome


@pytest.mark.parametrize("scenario", ["download", "get"])
@pytest.mark.parametrize(("verdict", "outcome"), [(b"\x00", Outcome.OK), (b"\x01", Outcome.SOCKS_REJECTED)])
async def test_name_and_password(bench: Bench, peers: Peers, scenario: str, verdict: bytes, outcome: Outcome) -> None:
    bench.credentials = Credentials("me", "secret")

    async def asks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(3) == b"\x05\x01\x02"
        writer.write(b"\x05\x02")
        assert await reader.readexactly(11) == b"\x01\x02me\x06secret"
        writer.write(b"\x01" + verdict)
        await reader.readexactly(10)
        writer.write(b"\x05\x00\x00\x01\0\0\0\0\0\0")
        await answers(LENGTH + BODY)(reader, writer)

    assert await bench.outcome(bench.start(scenario, await peers.serve(asks))) is outcome


async def test_another_version(bench: Bench, peers: Peers) -> None:
    """httpx does not look at the version of the first reply."""
    transaction = bench.start("close_delimited", await peers.serve(replies(b"\x04\x00")))
    assert await bench.outcome(transaction) is Outcome.CORRUPT


@pytest.mark.parametrize("scenario", ["close_delimited", "get"])
async def test_nobody_listens(bench: Bench, scenario: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        nobody = Address.of_socket(bound.getsockname())
    assert await bench.outcome(bench.start(scenario, nobody)) is Outcome.RESET
    (line,) = bench.anomalies("outcome")
    assert line["detail"].startswith(
        "Connect"
    )  # asyncio's own loop says "Connect call failed", uvloop "Connection refused"
    assert line["phase"] == "tcp_connect"


async def test_a_reply_in_single_bytes_and_bytes_behind_it(bench: Bench, peers: Peers) -> None:
    """What the target says first may come in the same read as the SOCKS reply."""

    async def trickles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3)
        for byte in b"\x05\x00":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.002)
        await reader.readexactly(10)
        name = b"\x05\x00\x00\x03\x04name\x00\x50"
        for byte in name[:-1]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.002)
        writer.write(name[-1:] + payload.body(0, 64))
        assert await reader.read() == BODY
        writer.write(b'{"received": 1000, "sha256": "%s"}\n' % payload.sha256(SEED, SIZE).encode())

    transaction = bench.start("server_first", await peers.serve(trickles))
    assert await bench.outcome(transaction) is Outcome.OK


@pytest.mark.parametrize(
    ("receipt", "outcome"),
    [
        ('{"received": 999, "sha256": "0"}', Outcome.EOF_PREMATURE),
        ('{"received": 1001, "sha256": "0"}', Outcome.EXCESS),
        ('{"received": 1000, "sha256": "0"}', Outcome.CORRUPT),
        ("{}", Outcome.CORRUPT),
    ],
)
@pytest.mark.parametrize("scenario", ["eof_gated", "upload"])
async def test_receipts(bench: Bench, peers: Peers, scenario: str, receipt: str, outcome: Outcome) -> None:
    """An upload that arrived as something else is told apart by what the target says it received."""

    async def answers_with(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.readexactly(SIZE)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(receipt), receipt.encode()))

    transaction = bench.start(scenario, await peers.proxy(answers_with))
    assert await bench.outcome(transaction) is outcome


async def test_a_connection_that_ends_between_two_requests(bench: Bench, peers: Peers) -> None:
    """httpx would connect again, and nobody would know."""
    connections = count(1)

    async def one_answer_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if next(connections) > 1:
            return
        await accept_socks(reader, writer)
        await read_head(reader)
        writer.write(LENGTH.replace(b"Connection: close\r\n", b"") + BODY)
        writer.write_eof()
        await reader.read()

    transaction = bench.start("keep_alive", await peers.serve(one_answer_each), requests=3)
    assert await bench.outcome(transaction) is Outcome.EOF_PREMATURE
    assert next(connections) == 2, "no second one was made"
    (line,) = bench.anomalies("outcome")
    assert line["detail"] == "the connection ended between two requests"
    assert line["received_bytes"] == SIZE


@pytest.mark.parametrize("scenario", ["eof_gated", "server_first"])
async def test_an_end_in_place_of_the_receipt_belongs_to_upload_eof(bench: Bench, peers: Peers, scenario: str) -> None:
    """A proxy that takes a half-close for a full close."""

    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if scenario == "server_first":
            writer.write(payload.body(0, 64))
        await reader.read()

    transaction = bench.start(scenario, await peers.proxy(closes))
    assert await bench.outcome(transaction) is Outcome.EOF_PREMATURE
    (line,) = bench.anomalies("outcome")
    assert (line["phase"], line["detail"]) == ("upload_eof", "the stream ended before the response")


async def test_a_failed_transaction_resets_its_connection(bench: Bench, peers: Peers) -> None:
    """So that the proxy has nothing left to wait for."""
    seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def answers_wrong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(CLOSE + FLIPPED)
        try:
            await reader.read()
            seen.set_result("end of stream")
        except ConnectionResetError:
            seen.set_result("reset")

    transaction = bench.start("close_delimited", await peers.proxy(answers_wrong))
    assert await bench.outcome(transaction) is Outcome.CORRUPT
    assert await seen == "reset"


async def test_a_handshake_that_is_given_up_leaves_no_connection(bench: Bench, peers: Peers) -> None:
    """httpx 0.28 forgets about it."""
    gone = asyncio.Event()

    async def never_replies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            gone.set()

    transaction = bench.start("get", await peers.serve(never_replies))
    await bench.reaches(transaction, Phase.SOCKS_CONNECT)
    bench.sweep_after(15)
    assert await bench.outcome(transaction) is Outcome.TIMEOUT
    await asyncio.wait_for(gone.wait(), 5)


async def test_abort(bench: Bench, peers: Peers) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_socks(reader, writer)
        await reader.read()

    transaction = bench.start("close_delimited", await peers.serve(silent))
    await bench.reaches(transaction, Phase.TTFB)
    assert await bench.generators[0].abort() == 1
    assert bench.tally.outcomes[Outcome.ABORTED] == 1
    assert bench.tally.latencies.count == 0
