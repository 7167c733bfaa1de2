"""Credit and caps, seen from inside of aioquic; from outside: tests/unit/tunnel/engine/test_flow_control.py."""

import time

import pytest
from tests.sim.network import Link
from tests.sim.pair import Pair
from tests.unit.tunnel.engine.aioquic.harness import quic
from tests.unit.tunnel.engine.harness import CODE, SMALL, MakeRealPair, with_limits

from tunnel.engine.port import CONTROL_STREAM, Data, Event, Reset
from tunnel.engine.settings import KIB, MIB, EngineLimits

WINDOW = SMALL.stream_window_floor_bytes
FAST = Link(delay_s=0.0005)

ABORTED_STREAMS = 50_000
"""For each way to abort: 100,000 in all."""

ABORT_BUDGET_S = 8
"""They take about 7 s on an idle machine; on a busy one there are fewer, and it says so."""


def open_control(pair: Pair) -> None:
    assert pair.client.open() == CONTROL_STREAM
    pair.client.write(CONTROL_STREAM, b"HELLO")
    pair.until_received(pair.server, CONTROL_STREAM, 5)


def payload(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


class TestWindow:
    @pytest.mark.failure("F09")
    @pytest.mark.parametrize("megabytes", [1, 8])
    def test_the_sender_stalls_at_exactly_the_window_then_everything_arrives(
        self, make_pair: MakeRealPair, megabytes: int
    ) -> None:
        window = 256 * KIB
        limits = EngineLimits(stream_window_floor_bytes=window, stream_window_cap_bytes=window)
        pair = make_pair(limits, FAST).connect()
        stream, body = pair.client.open(), payload(megabytes * MIB)
        pair.server.reading = False
        pair.client.write(stream, body, end=True)
        pair.run(5)
        assert len(pair.server.received[stream]) == window
        assert pair.client.waits(stream)
        peak = 0
        pair.server.reading = True
        pair.server.consume_all()
        while stream not in pair.server.ended:
            pair.run(0.001)
            inside = quic(pair.server)._streams.get(stream)
            peak = max(peak, len(inside.receiver._buffer) if inside else 0)
        assert pair.server.received[stream] == body
        assert peak <= window

    def test_consumed_grants_no_more_than_was_delivered(self, pair: Pair) -> None:
        stream = pair.client.open()
        pair.server.reading = False
        pair.client.write(stream, payload(3 * WINDOW))
        pair.run(2)
        for count in (10 * WINDOW, 10 * WINDOW, -5, 0):
            pair.server.consume(stream, count)
        pair.run(2)
        assert len(pair.server.received[stream]) == 2 * WINDOW

    def test_credit_is_told_in_quarters_of_a_window(self, pair: Pair) -> None:
        stream = pair.client.open()
        pair.server.reading = False
        pair.client.write(stream, payload(3 * WINDOW))
        pair.run(2)
        pair.server.consume(stream, WINDOW // 4 - 1)
        pair.run(2)
        assert len(pair.server.received[stream]) == WINDOW
        pair.server.consume(stream, 1)
        pair.run(2)
        assert len(pair.server.received[stream]) == WINDOW + WINDOW // 4

    def test_a_window_grows_for_a_reader_that_keeps_up_and_comes_back_to_the_budget(
        self, make_pair: MakeRealPair
    ) -> None:
        limits = with_limits(stream_window_cap_bytes=8 * WINDOW, send_cap_bytes=1 * MIB)
        pair = make_pair(limits, Link(delay_s=0.05)).connect()
        budget = quic(pair.server)._budget
        before = budget.left_bytes
        stream = pair.client.open()
        pair.client.write(stream, payload(60 * WINDOW), end=True)
        pair.until(lambda: budget.left_bytes == before - 7 * WINDOW, 30)
        pair.until_ended(pair.server, stream, 60)
        pair.server.finish(stream)
        pair.run(2)
        assert budget.left_bytes == before
        assert quic(pair.server)._credit.growth_bytes == 0

    def test_growth_comes_back_when_the_connection_is_lost(self, make_pair: MakeRealPair) -> None:
        limits = with_limits(stream_window_cap_bytes=8 * WINDOW, send_cap_bytes=1 * MIB)
        pair = make_pair(limits, Link(delay_s=0.05)).connect()
        budget = quic(pair.server)._budget
        before = budget.left_bytes
        pair.client.write(pair.client.open(), payload(60 * WINDOW))
        pair.until(lambda: budget.left_bytes < before, 30)
        pair.client.close(0, "")
        pair.until(lambda: pair.server.closed is not None)
        assert budget.left_bytes == before


class TestAborted:
    @pytest.mark.failure("F12")
    @pytest.mark.failure("F20")
    @pytest.mark.parametrize("how", ["reset", "stop"])
    def test_f12_100_000_aborted_streams_leave_full_credit_and_no_trace(
        self, make_pair: MakeRealPair, how: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pair = make_pair(with_limits(max_streams=128, stream_window_floor_bytes=16 * KIB), FAST).connect()
        open_control(pair)
        pair.server.reading = False

        def end_both_ways(event: Event) -> None:
            match event:
                case Data(stream) if how == "stop":
                    pair.server.stop(stream, CODE)
                    pair.server.reset(stream, CODE)
                case Reset(stream):
                    pair.server.finish(stream)

        pair.server.on_event = end_both_ways
        give_up_at = time.monotonic() + ABORT_BUDGET_S
        opened = 0
        while opened < ABORTED_STREAMS and time.monotonic() < give_up_at:
            opened += _abort_batch(pair, how)
        with capsys.disabled():
            print(f" {opened} streams aborted by {how} ", end="")
        pair.run(3)
        pair.server.reading = True
        _assert_full_credit(pair)
        pair.server.on_event = lambda event: None
        stream = pair.client.open()
        pair.client.write(stream, payload(20 * WINDOW), end=True)
        assert pair.until_ended(pair.server, stream, 3) == payload(20 * WINDOW)

    @pytest.mark.failure("F12")
    @pytest.mark.parametrize("seed", range(5))
    def test_bytes_behind_a_gap_are_credited_once(self, make_pair: MakeRealPair, seed: int) -> None:
        """Lost packets leave bytes that arrived out of order and are never delivered."""
        pair = make_pair(with_limits(max_streams=200), Link(delay_s=0.01, loss=0.2, reorder=0.2), seed).connect()
        pair.until(lambda: quic(pair.client)._remote_max_streams_bidi == 200)
        pair.client.write(pair.client.open(), b"HELLO")
        pair.server.reading = False
        for turn in range(100):
            stream = pair.client.engine.open(pair.client.connection)
            if stream is None:
                pair.until(lambda: pair.client.engine.open(pair.client.connection) is not None, 60)
                continue
            pair.client.send(stream, payload(20_000))
            pair.run(0.03)
            if turn % 3:
                pair.client.reset(stream, CODE)
            if turn % 2:
                pair.server.stop(stream, CODE)
                pair.server.finish(stream)
        pair.world.network.link = FAST
        for stream in list(quic(pair.client)._streams):
            if stream != CONTROL_STREAM:
                pair.client.reset(stream, CODE)
                pair.client.stop(stream, CODE)
        pair.run(5)
        for stream in list(quic(pair.server)._records):
            if stream != CONTROL_STREAM:
                pair.server.reset(stream, CODE)
                pair.server.stop(stream, CODE)
        pair.run(5)
        pair.server.consume(CONTROL_STREAM, 5)
        _assert_full_credit(pair)

    def test_a_stopped_streams_later_bytes_are_credited_on_arrival(self, pair: Pair) -> None:
        open_control(pair)
        stream = pair.client.open()
        pair.server.reading = False
        pair.client.write(stream, payload(WINDOW // 2))
        pair.run(1)
        inside = quic(pair.server)
        pair.world.network.unreachable.add(("192.0.2.1", 50_000))  # the STOP_SENDING never arrives
        pair.server.stop(stream, CODE)
        assert inside._credit.consumed_bytes == 5 + WINDOW // 2
        reported = len(pair.server.log)
        pair.client.send(stream, payload(WINDOW // 2))
        pair.run(0.1)
        assert inside._local_max_data.used > 5 + WINDOW // 2
        assert inside._credit.consumed_bytes == inside._local_max_data.used
        assert len(pair.server.log) == reported


class TestEndings:
    @pytest.mark.failure("F08")
    @pytest.mark.parametrize(("ended", "settle_s"), [("reset", 0), ("reset", 1), ("finish", 1)])
    def test_a_stop_that_comes_too_late_is_no_news(self, pair: Pair, ended: str, settle_s: float) -> None:
        """Our reset crossed it, or everything had arrived: there is nothing left to stop."""
        stream = pair.client.open()
        pair.client.write(stream, b"request")
        pair.until_received(pair.server, stream, 7)
        pair.server.write(stream, b"answer")
        if ended == "finish":
            pair.server.finish(stream)
        else:
            pair.server.reset(stream, CODE)
        pair.run(settle_s)
        quic(pair.client).stop_stream(stream, CODE)  # whatever our own rules say
        pair.client.engine.ping(pair.client.connection)
        pair.run(1)
        assert pair.server.stopped == {}
        assert pair.client.resets == ({stream: CODE} if ended == "reset" else {})

    def test_a_reset_frees_the_memory_and_the_cap(self, pair: Pair) -> None:
        open_control(pair)
        pair.world.network.unreachable.add(("192.0.2.2", 4433))
        streams = [pair.client.open() for _ in range(2)]
        for stream in streams:
            assert pair.client.send(stream, bytes(WINDOW)) == WINDOW
        last = pair.client.open()
        assert pair.client.send(last, bytes(WINDOW)) < WINDOW
        pair.client.reset(streams[0], CODE)
        pair.run(0.001)
        assert not quic(pair.client)._streams[streams[0]].sender._buffer
        assert pair.client.send(last, bytes(WINDOW)) > WINDOW // 2


class TestSendCap:
    @pytest.mark.failure("F10")
    def test_streams_share_the_cap_in_turn(self, make_pair: MakeRealPair) -> None:
        limits = with_limits(max_streams=32, stream_window_floor_bytes=1 * MIB, stream_window_cap_bytes=1 * MIB)
        pair = make_pair(limits, Link(delay_s=0.02)).connect()
        open_control(pair)
        streams = [pair.client.open() for _ in range(20)]
        for stream in streams:
            pair.client.write(stream, payload(1 * MIB), end=True)
        assert quic(pair.client)._unsent_bytes() <= limits.send_cap_bytes
        pair.until(lambda: len(pair.server.ended) > 0, 30)
        shares = sorted(len(pair.server.received.get(stream, b"")) for stream in streams)
        assert shares[0] > 0.6 * shares[-1]
        pair.until(lambda: len(pair.server.ended) == 20, 30)

    def test_writable_waits_for_a_worthwhile_amount_of_room(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        open_control(pair)
        streams = [pair.client.open() for _ in range(3)]
        for stream in streams:
            pair.client.write(stream, payload(WINDOW))
        inside = quic(pair.client)
        take_writable, rooms = inside.take_writable, list[int]()

        def note_room() -> list[int]:
            room = SMALL.send_cap_bytes - inside._unsent_bytes()
            writable = take_writable()
            rooms.extend([room] * len(writable))
            return writable

        monkeypatch.setattr(inside, "take_writable", note_room)
        pair.run(2)
        assert rooms
        assert min(rooms) >= SMALL.send_cap_bytes // 4


def _abort_batch(pair: Pair, how: str) -> int:
    """Opens as many streams as there are, with bytes on each, and aborts them all; how many those were."""
    batch = []
    while (stream := pair.client.engine.open(pair.client.connection)) is not None:
        assert pair.client.send(stream, bytes(900)) == 900
        batch.append(stream)
    seen = pair.client.streams_available
    pair.run(0.005)
    for stream in batch:
        if how == "reset":
            pair.client.reset(stream, CODE)
    pair.until(lambda: pair.client.streams_available > seen)
    return len(batch)


def _assert_full_credit(pair: Pair) -> None:
    server = quic(pair.server)
    unread = sum(record.unread_bytes for record in server._records.values())
    assert server._credit.consumed_bytes == server._local_max_data.used - unread
    assert server.stream_count == quic(pair.client).stream_count == 1
    assert not server._lingering
