"""Stalls and timeouts: in the phase where they are, at S and at T, and never for what is the generator's own fault."""

import asyncio
import select
import socket

import pytest
from tests.unit.loadgen.conftest import Bench, Peers, Speak, accept_socks, read_head

from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import DEFAULTS, Phase
from servicekit import payload
from servicekit.address import Address

BODY = payload.body(7, 1000)
CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


async def no_greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def no_reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(3)
    writer.write(b"\x05\x00")
    await reader.read()


async def no_response(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await accept_socks(reader, writer)
    await reader.read()
    await asyncio.get_running_loop().create_future()


async def half_a_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await accept_socks(reader, writer)
    await read_head(reader)
    writer.write(CLOSE + BODY[:500])
    await reader.read()


async def reads_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await accept_socks(reader, writer)
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("scenario", "phase", "speak"),
    [
        ("close_delimited", Phase.SOCKS_GREETING, no_greeting),
        ("close_delimited", Phase.SOCKS_CONNECT, no_reply),
        ("get", Phase.SOCKS_CONNECT, no_greeting),
        ("close_delimited", Phase.TTFB, no_response),
        ("get", Phase.TTFB, no_response),
        ("close_delimited", Phase.BODY, half_a_body),
        ("upload", Phase.REQUEST_WRITE, reads_nothing),
        ("eof_gated", Phase.UPLOAD_EOF, no_response),
    ],
)
async def test_each_phase(bench: Bench, peers: Peers, scenario: str, phase: Phase, speak: Speak) -> None:
    size_bytes = 50_000_000 if phase is Phase.REQUEST_WRITE else 1000
    transaction = bench.start(scenario, await peers.serve(speak), size_bytes=size_bytes)
    await bench.reaches(transaction, phase)
    limit = DEFAULTS[phase]
    bench.sweep_after(limit.stall_s - 0.01)
    assert bench.tally.stalls[phase].count == 0
    bench.sweep_after(0.01)
    assert bench.tally.stalls[phase].count == 1
    bench.sweep_after(limit.timeout_s - limit.stall_s - 0.01)
    assert transaction.timed_out is None
    bench.sweep_after(0.01)
    assert await bench.outcome(transaction) is Outcome.TIMEOUT
    assert {found: count for found, count in bench.tally.timeouts.items() if count} == {phase: 1}
    assert {found: stall.count for found, stall in bench.tally.stalls.items() if stall.count} == {phase: 1}
    assert bench.sample("soak_stalls_total", phase=phase) == 1
    assert bench.sample("soak_timeouts_total", phase=phase) == 1


async def test_tcp_connect(bench: Bench) -> None:
    """A listener whose backlog is full does not answer; that is how a connect hangs on loopback."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = Address.of_socket(listener.getsockname())
        fillers = [socket.socket() for _ in range(3)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex((address.host, address.port))
            transaction = bench.start("close_delimited", address)
            await bench.reaches(transaction, Phase.TCP_CONNECT)
            bench.sweep_after(1)
            assert bench.tally.stalls[Phase.TCP_CONNECT].count == 1
            bench.sweep_after(4)
            assert await bench.outcome(transaction) is Outcome.TIMEOUT
        finally:
            for filler in fillers:
                filler.close()


async def test_a_stall_that_recovers(bench: Bench, peers: Peers) -> None:
    go_on = asyncio.Event()

    async def pauses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_socks(reader, writer)
        await read_head(reader)
        writer.write(CLOSE + BODY[:500])
        await go_on.wait()
        writer.write(BODY[500:])

    transaction = bench.start("close_delimited", await peers.serve(pauses))
    await bench.until(lambda: transaction.received_bytes == 500)
    bench.sweep_after(6)
    bench.sweep_after(6)
    assert bench.sample("soak_stalled_transactions", phase="body") == 1
    go_on.set()
    assert await bench.outcome(transaction) is Outcome.OK
    stall = bench.tally.stalls[Phase.BODY]
    assert (stall.count, stall.recovered, stall.longest_s) == (1, 1, 12)
    assert bench.sample("soak_stalled_transactions", phase="body") == 0
    assert bench.sample("soak_stalls_recovered_total", phase="body") == 1
    (line,) = bench.anomalies("stall_recovered")
    assert line["stalled_s"] == 12
    assert bench.tally.timeouts[Phase.BODY] == 0


async def test_the_limits_of_body_are_those_of_a_gap(bench: Bench, peers: Peers) -> None:
    """Slow but steady is neither a stall nor a timeout, however long it takes."""
    steps: asyncio.Queue[int] = asyncio.Queue()

    async def trickles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_socks(reader, writer)
        await read_head(reader)
        writer.write(CLOSE)
        for byte in BODY:
            writer.write(bytes([byte]))
            await steps.get()

    transaction = bench.start("close_delimited", await peers.serve(trickles), size_bytes=20)
    for received in range(1, 20):
        await bench.until(lambda received=received: transaction.received_bytes == received)  # type: ignore[misc]
        bench.sweep_after(4.9)
        steps.put_nowait(1)
    await bench.until(lambda: transaction.received_bytes == 20)
    assert bench.tally.stalls[Phase.BODY].count == 0
    assert bench.tally.timeouts[Phase.BODY] == 0
    await bench.generators[0].abort()
    assert bench.sample("soak_phase_duration_seconds_sum", phase="body") == pytest.approx(4.9)


async def test_think_time_comes_on_top(bench: Bench, peers: Peers) -> None:
    transaction = bench.start("close_delimited", await peers.serve(no_response), think_s=4)
    await bench.reaches(transaction, Phase.TTFB)
    bench.sweep_after(6.9)
    assert bench.tally.stalls[Phase.TTFB].count == 0
    bench.sweep_after(0.1)
    assert bench.tally.stalls[Phase.TTFB].count == 1


async def test_a_lagging_generator_is_blamed(bench: Bench, peers: Peers) -> None:
    """A quarter of S is too much; the phase then gets its S once more."""
    transaction = bench.start("close_delimited", await peers.serve(no_response))
    await bench.reaches(transaction, Phase.TTFB)
    bench.sweep_after(3, lag_s=0.75)
    assert bench.tally.stalls[Phase.TTFB].count == 0
    assert len(bench.anomalies("generator_lag")) == 1
    bench.sweep_after(2.9)
    assert bench.tally.stalls[Phase.TTFB].count == 0
    bench.sweep_after(0.1)
    assert bench.tally.stalls[Phase.TTFB].count == 1


async def test_a_small_lag_is_no_excuse(bench: Bench, peers: Peers) -> None:
    transaction = bench.start("close_delimited", await peers.serve(no_response))
    await bench.reaches(transaction, Phase.TTFB)
    bench.sweep_after(3, lag_s=0.74)
    assert bench.tally.stalls[Phase.TTFB].count == 1


async def test_time_without_the_generator_is_no_timeout(bench: Bench, peers: Peers) -> None:
    """The process was stopped for a minute: nobody has timed out for that."""
    transaction = bench.start("close_delimited", await peers.serve(no_response))
    await bench.reaches(transaction, Phase.TTFB)
    bench.sweep_after(60, lag_s=59)
    assert transaction.timed_out is None
    bench.sweep_after(13.9)
    assert transaction.timed_out is None
    bench.sweep_after(0.1)
    assert await bench.outcome(transaction) is Outcome.TIMEOUT


async def test_what_waits_unread_in_the_kernel_is_the_generators(bench: Bench, peers: Peers) -> None:
    transaction = bench.start("close_delimited", await peers.serve(no_response))
    await bench.reaches(transaction, Phase.TTFB)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transaction.waits_for(ours.fileno(), select.POLLIN)
        theirs.send(b"x")
        bench.sweep_after(3)
        assert bench.tally.stalls[Phase.TTFB].count == 0
        bench.sweep_after(12)
        assert transaction.timed_out is None
        bench.sweep_after(15)
        assert transaction.timed_out is Phase.TTFB
        await bench.outcome(transaction)
