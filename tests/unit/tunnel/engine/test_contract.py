"""The contract of tunnel.engine.port, on every engine: what a session may rely on, whatever QUIC library is beneath."""

from dataclasses import replace
from functools import partial
from random import Random

import pytest
from tests.sim.network import Link
from tests.sim.pair import CLIENT, Pair
from tests.unit.tunnel.engine.conftest import MakePair
from tests.unit.tunnel.engine.harness import SMALL

from tunnel.engine.port import CONTROL_STREAM, Closed, Connected, Data, Event, Writable
from tunnel.engine.settings import KIB, EngineLimits
from tunnel.errors import Cause

WINDOW = SMALL.stream_window_floor_bytes
CODE = Cause.TARGET_RESET.code


def payload(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


def open_stream(pair: Pair, greeting: bytes = b"x") -> int:
    """A stream of the client's, behind the control stream, that the server has seen."""
    if not pair.client.received and CONTROL_STREAM not in pair.server.received:
        assert pair.client.open() == CONTROL_STREAM
        pair.client.write(CONTROL_STREAM, b"control")
    stream = pair.client.open()
    pair.client.write(stream, greeting)
    pair.until_received(pair.server, stream, len(greeting))
    return stream


class TestConnecting:
    def test_both_sides_are_told_once_and_who_the_peer_is(self, pair: Pair) -> None:
        assert len(pair.client.events(Connected)) == len(pair.server.events(Connected)) == 1
        assert pair.server.events(Connected) == [Connected(CLIENT)]

    def test_connected_is_the_first_event(self, pair: Pair) -> None:
        open_stream(pair)
        assert isinstance(pair.client.log[0], Connected)
        assert isinstance(pair.server.log[0], Connected)

    def test_streams_opened_at_once_need_no_answer_of_the_server(self, make_pair: MakePair) -> None:
        pair = make_pair()
        pair.client.connect(pair.world.now)
        pair.until(lambda: pair.client.connected)
        stream = pair.client.open()
        pair.client.write(stream, b"hello")
        assert pair.until_received(pair.server, stream, 5) == b"hello"

    def test_a_peer_that_never_answers_is_given_up_in_time(self, make_pair: MakePair) -> None:
        pair = make_pair(link=Link(loss=1.0))
        pair.client.connect(pair.world.now)
        pair.until(lambda: pair.client.closed is not None, SMALL.handshake_timeout_s + 0.5)
        assert pair.client.closed is not None
        assert pair.client.closed.cause in (Cause.HANDSHAKE_FAILED, Cause.PEER_SILENT)
        assert not pair.client.closed.by_peer
        pair.run(60)
        assert pair.client.engine.get_timer() is None

    def test_a_stranger_gets_the_limits_of_a_stranger_until_it_is_accepted(self, make_pair: MakePair) -> None:
        pair = make_pair()
        pair.client.connect(pair.world.now)
        pair.until(lambda: pair.client.connected and pair.server.connected)
        streams = [pair.client.open() for _ in range(SMALL.greeting_streams)]
        assert pair.client.engine.open(pair.client.connection) is None
        pair.server.reading = False
        for stream in streams:
            pair.client.write(stream, bytes(WINDOW))
        pair.run(5)
        assert sum(map(len, pair.server.received.values())) <= SMALL.greeting_credit_bytes
        pair.server.engine.accept(pair.server.connection)
        pair.until(lambda: pair.client.streams_available == 1)
        pair.server.reading = True
        pair.server.consume_all()
        pair.until(lambda: sum(map(len, pair.server.received.values())) >= len(streams) * WINDOW - WINDOW)

    def test_beyond_its_connections_a_server_refuses(self, make_pair: MakePair) -> None:
        pair = make_pair(EngineLimits(max_connections=0, handshake_timeout_s=3))
        self.is_refused(pair, 5)

    def test_a_server_may_refuse_all_strangers(self, make_pair: MakePair) -> None:
        pair = make_pair(EngineLimits(handshake_timeout_s=3))
        pair.server.engine.refuse_strangers()
        self.is_refused(pair, 1)

    @staticmethod
    def is_refused(pair: Pair, within_s: float) -> None:
        pair.client.connect(pair.world.now)
        pair.until(lambda: pair.client.closed is not None, within_s)
        assert not pair.client.connected
        assert pair.client.closed is not None
        assert pair.client.closed.cause is Cause.SERVER_BUSY

    def test_who_is_no_stranger_any_more_is_served(self, pair: Pair) -> None:
        pair.server.engine.refuse_strangers()
        stream = open_stream(pair, payload(100_000))
        assert pair.until_received(pair.server, stream, 100_000) == payload(100_000)


class TestBytes:
    @pytest.mark.parametrize("size", [1, 1000, 5_000, 300_000])
    def test_arrive_both_ways_as_they_were(self, pair: Pair, size: int) -> None:
        stream = open_stream(pair, payload(size))
        pair.server.write(stream, payload(size, seed=2))
        pair.until(lambda: len(pair.server.received[stream]) == len(pair.client.received.get(stream, b"")) == size)
        assert pair.server.received[stream] == payload(size)
        assert pair.client.received[stream] == payload(size, seed=2)

    def test_a_stream_is_announced_by_its_first_event_only(self, pair: Pair) -> None:
        stream = pair.client.open()
        pair.run(1)
        assert not pair.server.events(Data)
        pair.client.write(stream, b"now")
        assert pair.until_received(pair.server, stream, 3) == b"now"

    def test_a_memoryview_is_as_good_and_is_not_kept(self, pair: Pair) -> None:
        stream = pair.client.open()
        data = bytearray(b"before")
        assert pair.client.engine.send(pair.client.connection, stream, memoryview(data)) == 6
        data[:] = b"after!"
        assert pair.until_received(pair.server, stream, 6) == b"before"

    def test_many_streams_do_not_mix(self, pair: Pair) -> None:
        open_stream(pair)
        streams = {pair.client.open(): seed for seed in range(10)}
        for stream, seed in streams.items():
            pair.client.write(stream, payload(20_000, seed), end=True)
        pair.until(lambda: streams.keys() <= pair.server.ended)
        for stream, seed in streams.items():
            assert pair.server.received[stream] == payload(20_000, seed)

    @pytest.mark.failure("F16")
    def test_f16_two_opens_before_either_writes_are_two_streams(self, pair: Pair) -> None:
        first, second = pair.client.open(), pair.client.open()
        assert first != second
        pair.client.write(second, b"second", end=True)
        pair.client.write(first, b"first", end=True)
        pair.until(lambda: {first, second} <= pair.server.ended)
        assert pair.server.received == {first: b"first", second: b"second"}


class TestEndings:
    @pytest.mark.parametrize("size", [0, 1, 1163, 200_000])
    def test_an_end_stands_behind_the_bytes(self, pair: Pair, size: int) -> None:
        stream = pair.client.open()
        pair.client.write(stream, payload(size), end=True)
        assert pair.until_ended(pair.server, stream) == payload(size)

    @pytest.mark.failure("F23")
    @pytest.mark.parametrize("size", [1100, 1163, 1180, 1200, 5000])
    def test_an_end_alone_survives_a_packet_that_another_stream_fills(self, pair: Pair, size: int) -> None:
        quiet, busy = open_stream(pair), pair.client.open()
        pair.client.write(busy, payload(size))
        pair.client.finish(quiet)
        pair.until_ended(pair.server, quiet, 2)

    @pytest.mark.parametrize("client_first", [True, False])
    def test_half_closed_the_other_half_goes_on(self, pair: Pair, client_first: bool) -> None:
        stream = open_stream(pair)
        first, second = (pair.client, pair.server) if client_first else (pair.server, pair.client)
        first.finish(stream)
        pair.until_ended(second, stream)
        second.write(stream, payload(100_000))
        pair.until(lambda: bytes(first.received.get(stream, b""))[-100_000:] == payload(100_000))
        assert stream not in first.ended
        second.finish(stream)
        pair.until_ended(first, stream)

    def test_finishing_twice_is_finishing(self, pair: Pair) -> None:
        stream = open_stream(pair)
        for _ in range(2):
            pair.client.finish(stream)
            pair.run(0.5)
        assert stream in pair.server.ended

    def test_behind_a_finish_nothing_is_taken(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.client.finish(stream)
        assert pair.client.send(stream, b"more") == 0
        pair.run(1)
        assert pair.client.send(stream, b"more") == 0
        assert pair.server.received[stream] == b"x"
        assert not pair.client.events(Writable)

    def test_a_reset_arrives_once_with_its_code_and_is_no_end(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.client.reset(stream, CODE)
        pair.client.reset(stream, CODE + 1)
        pair.client.finish(stream)
        assert pair.client.send(stream, b"more") == 0
        pair.until(lambda: stream in pair.server.resets)
        pair.run(5)
        assert pair.server.resets == {stream: CODE}
        assert stream not in pair.server.ended

    def test_a_reset_leaves_the_other_half_alone(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.client.reset(stream, CODE)
        pair.server.write(stream, payload(50_000), end=True)
        assert pair.until_ended(pair.client, stream) == payload(50_000)

    def test_a_reset_behind_a_finish_that_is_acknowledged_changes_nothing(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.client.finish(stream)
        pair.until_ended(pair.server, stream)
        pair.run(1)
        pair.client.reset(stream, CODE)
        pair.run(1)
        assert not pair.server.resets

    def test_a_reset_behind_a_finish_that_cannot_be_sent_wins(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.server.reading = False
        taken = pair.client.send(stream, bytes(WINDOW))
        pair.client.finish(stream)
        pair.client.reset(stream, CODE)
        pair.until(lambda: stream in pair.server.resets)
        assert taken > 0
        assert stream not in pair.server.ended

    def test_stop_comes_as_stopped_and_the_engine_resets_by_itself(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.server.stop(stream, CODE)
        pair.until(lambda: stream in pair.client.stopped)
        assert pair.client.stopped == {stream: CODE}
        assert pair.client.send(stream, b"more") == 0
        pair.client.finish(stream)
        pair.client.reset(stream, CODE)
        pair.run(3)
        assert stream not in pair.server.resets, "a reset of a stream that was stopped here is no news"
        assert stream not in pair.server.ended

    def test_stop_leaves_the_other_half_alone(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.server.stop(stream, CODE)
        pair.server.write(stream, payload(50_000), end=True)
        assert pair.until_ended(pair.client, stream) == payload(50_000)

    def test_after_stop_nothing_of_the_stream_is_reported(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.client.write(stream, bytes(4 * WINDOW), end=True)
        pair.run(0.03)
        pair.server.stop(stream, CODE)
        before = len(pair.server.received[stream])
        pair.run(5)
        assert len(pair.server.received[stream]) == before
        assert stream not in pair.server.ended

    def test_stop_within_an_event_silences_what_was_received_with_it(self, pair: Pair) -> None:
        stream = open_stream(pair)
        received = pair.server.received[stream]
        at_stop: list[int] = []

        def stop(event: Event) -> None:
            if isinstance(event, Data) and event.stream == stream and not at_stop:
                at_stop.append(len(received))
                pair.server.stop(stream, CODE)

        pair.server.on_event = stop
        pair.client.write(stream, bytes(WINDOW), end=True)
        pair.run(5)
        assert at_stop == [len(received)]
        assert stream not in pair.server.ended
        assert stream not in pair.server.resets

    def test_calls_on_an_ended_or_unknown_stream_do_nothing(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.client.finish(stream)
        pair.server.finish(stream)
        pair.until(lambda: stream in pair.client.ended and stream in pair.server.ended)
        pair.run(1)
        for side in (pair.client, pair.server):
            for number in (stream, 4_000):
                assert side.send(number, b"late") == 0
                side.finish(number)
                side.reset(number, CODE)
                side.stop(number, CODE)
                side.consume(number, 10)
        seen = len(pair.client.log), len(pair.server.log)
        pair.run(5)
        assert (len(pair.client.log), len(pair.server.log)) == seen


class TestFlowControl:
    def test_the_sender_stalls_at_exactly_the_window_and_goes_on_when_it_is_read(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.server.reading = False
        pair.client.write(stream, payload(5 * WINDOW), end=True)
        pair.run(10)
        # One byte, the greeting of `open_stream`, was read.
        assert WINDOW <= len(pair.server.received[stream]) <= WINDOW + 1
        pair.server.reading = True
        pair.server.consume_all()
        assert pair.until_ended(pair.server, stream) == b"x" + payload(5 * WINDOW)

    def test_the_same_holds_towards_the_client(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.client.reading = False
        pair.server.write(stream, payload(5 * WINDOW), end=True)
        pair.run(10)
        assert len(pair.client.received[stream]) == WINDOW
        pair.client.reading = True
        pair.client.consume_all()
        assert pair.until_ended(pair.client, stream) == payload(5 * WINDOW)

    @pytest.mark.failure("F10")
    def test_send_takes_at_most_the_send_cap_of_what_is_not_sent_yet(self, pair: Pair) -> None:
        open_stream(pair)
        streams = [pair.client.open() for _ in range(8)]
        taken = [pair.client.send(stream, bytes(WINDOW)) for stream in streams]
        assert sum(taken) <= SMALL.send_cap_bytes
        assert taken[0] > 0

    def test_the_control_stream_is_exempt_from_the_send_cap(self, pair: Pair) -> None:
        open_stream(pair)
        for _ in range(8):
            pair.client.send(pair.client.open(), bytes(WINDOW))
        assert pair.client.send(CONTROL_STREAM, b"important") == len(b"important")

    def test_the_control_stream_goes_first(self, pair: Pair) -> None:
        open_stream(pair)
        for _ in range(2):
            pair.client.send(pair.client.open(), bytes(WINDOW))
        pair.client.send(CONTROL_STREAM, b"important")
        seen = len(pair.server.log)
        pair.until(lambda: pair.server.received[CONTROL_STREAM].endswith(b"important"))
        before = sum(len(event.data) for event in pair.server.log[seen:] if isinstance(event, Data))
        assert before < 20_000, "bytes of others came before"

    def test_a_short_send_is_always_followed_by_writable(self, pair: Pair) -> None:
        open_stream(pair)
        rng = Random(5)
        streams = [pair.client.open() for _ in range(8)]
        for stream in streams:
            pair.client.write(stream, bytes(rng.randrange(WINDOW, 3 * WINDOW)), end=True)
        pair.until(lambda: set(streams) <= pair.server.ended, 20)

    def test_writable_comes_after_a_short_send_only(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.client.write(stream, bytes(1000))
        pair.run(2)
        assert not pair.client.events(Writable)
        pair.server.reading = False
        assert pair.client.send(stream, bytes(5 * WINDOW)) < 5 * WINDOW
        pair.run(2)
        while taken := pair.client.send(stream, bytes(WINDOW)):
            assert taken <= WINDOW
            pair.run(2)
        count = len(pair.client.events(Writable))
        pair.run(2)
        assert len(pair.client.events(Writable)) == count, "there is no room"
        pair.server.consume_all()
        pair.run(2)
        assert len(pair.client.events(Writable)) == count + 1

    @pytest.mark.failure("F11")
    def test_streams_that_nobody_reads_do_not_stop_another(self, pair: Pair) -> None:
        open_stream(pair)
        stalled = [pair.client.open() for _ in range(SMALL.max_streams - 3)]
        pair.server.reading = False
        for stream in stalled:
            pair.client.write(stream, bytes(2 * WINDOW))
        pair.run(10)
        assert all(len(pair.server.received[stream]) == WINDOW for stream in stalled)
        pair.server.reading = True
        free = pair.client.open()
        pair.client.write(free, payload(4 * WINDOW), end=True)
        pair.until_ended(pair.server, free)

    @pytest.mark.failure("F12")
    def test_f12_bytes_of_aborted_streams_are_credited_back(self, make_pair: MakePair) -> None:
        pair = make_pair(link=Link(delay_s=0.001)).connect()
        open_stream(pair)
        pair.server.reading = False
        for count in range(2_000):
            stream = pair.client.engine.open(pair.client.connection)
            if stream is None:
                seen = pair.client.streams_available
                pair.until(partial(lambda seen: pair.client.streams_available > seen, seen))
                stream = pair.client.open()
            pair.client.send(stream, bytes(8 * KIB))
            pair.until_received(pair.server, stream, 1)
            pair.server.finish(stream)
            if count % 3 != 0:
                pair.client.reset(stream, CODE)
            if count % 3 != 1:
                pair.server.stop(stream, CODE)
        pair.run(1)
        pair.server.reading = True
        last = pair.client.open()
        pair.client.write(last, payload(4 * WINDOW), end=True)
        assert pair.until_ended(pair.server, last) == payload(4 * WINDOW)


class TestStreamLimit:
    @pytest.mark.failure("F15")
    def test_open_says_when_there_is_none_and_when_there_is_one_again(self, pair: Pair) -> None:
        opened = []
        while (stream := pair.client.engine.open(pair.client.connection)) is not None:
            opened.append(stream)
            pair.client.write(stream, b"x")
        assert len(opened) == SMALL.max_streams
        pair.run(2)
        assert pair.client.engine.open(pair.client.connection) is None
        assert pair.client.streams_available == 0
        pair.client.finish(opened[-1])
        pair.run(2)
        assert pair.client.streams_available == 0, "the server has not finished its half"
        pair.server.finish(opened[-1])
        pair.until(lambda: pair.client.streams_available == 1)
        assert pair.client.open() > opened[-1]

    @pytest.mark.failure("F09")
    def test_a_stream_that_ended_counts_until_it_is_read(self, pair: Pair) -> None:
        """Else unread bytes would grow with the number of streams."""
        open_stream(pair)
        pair.server.reading = False
        while (stream := pair.client.engine.open(pair.client.connection)) is not None:
            pair.client.write(stream, bytes(1000), end=True)
            pair.until_ended(pair.server, stream)
            pair.server.finish(stream)
        pair.run(3)
        assert len(pair.server.ended) == SMALL.max_streams - 2
        assert pair.client.streams_available == 0
        pair.server.consume_all()
        pair.until(lambda: pair.client.streams_available == 1)

    def test_a_stream_that_ended_makes_room_for_thousands(self, make_pair: MakePair) -> None:
        pair = make_pair(link=Link(delay_s=0.001)).connect()
        open_stream(pair)
        for _ in range(500):
            stream = pair.client.open()
            pair.client.write(stream, b"request", end=True)
            pair.until_ended(pair.server, stream)
            pair.server.write(stream, b"response", end=True)
            pair.until_ended(pair.client, stream)


class TestLiveness:
    def test_a_ping_is_answered(self, pair: Pair) -> None:
        pair.run(1)
        pair.client.engine.ping(pair.client.connection)
        pair.until(lambda: pair.client.pings_answered == 1, 0.5)
        pair.client.engine.ping(pair.client.connection)
        pair.until(lambda: pair.client.pings_answered == 2, 0.5)
        pair.server.engine.ping(pair.server.connection)
        pair.until(lambda: pair.server.pings_answered == 1, 0.5)

    def test_a_ping_into_a_hole_is_answered_when_it_heals(self, pair: Pair) -> None:
        pair.world.network.unreachable.add(CLIENT)
        pair.client.engine.ping(pair.client.connection)
        pair.run(5)
        assert pair.client.pings_answered == 0
        pair.world.network.unreachable.clear()
        pair.until(lambda: pair.client.pings_answered == 1, 10)

    def test_stats_tell_when_the_peer_was_heard_last(self, pair: Pair) -> None:
        before = pair.world.now
        pair.client.engine.ping(pair.client.connection)
        pair.run(0.5)
        stats = pair.client.engine.stats(pair.client.connection)
        assert stats is not None
        assert before < stats.last_received_at <= pair.world.now
        assert 0.03 < stats.rtt_s < 0.2
        heard_at = stats.last_received_at
        pair.world.network.unreachable.add(CLIENT)
        pair.client.engine.ping(pair.client.connection)
        pair.run(3)
        stats = pair.client.engine.stats(pair.client.connection)
        assert stats is not None
        assert stats.last_received_at == heard_at

    def test_packets_are_counted(self, make_pair: MakePair) -> None:
        clean, lossy = make_pair(link=Link()).connect(), make_pair(link=Link(loss=0.1)).connect()
        for pair in (clean, lossy):
            pair.client.write(pair.client.open(), bytes(60_000))
            pair.run(5)
        here, there = clean.client.engine.packets(), clean.server.engine.packets()
        assert here.lost == there.lost == 0
        assert here.sent >= there.received > 10
        assert 0 < lossy.client.engine.packets().lost < lossy.client.engine.packets().sent / 3

    def test_packets_of_connections_that_ended_stay_counted(self, pair: Pair) -> None:
        before = pair.client.engine.packets()
        pair.client.close(Cause.SHUTTING_DOWN.code, "")
        pair.run(60)
        after = pair.client.engine.packets()
        assert after.sent >= before.sent > 0
        assert after.received >= before.received > 0

    def test_silence_ends_a_connection_after_the_idle_timeout(self, pair: Pair) -> None:
        pair.run(1)
        pair.until(lambda: pair.client.closed is not None and pair.server.closed is not None, SMALL.idle_timeout_s + 1)
        assert pair.client.closed is not None
        assert (pair.client.closed.cause, pair.client.closed.by_peer) == (Cause.PEER_SILENT, False)

    def test_a_client_that_moves_keeps_its_connection(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.world.network.rebind(CLIENT, ("203.0.113.9", 60_000))
        pair.client.write(stream, payload(50_000), end=True)
        pair.until_ended(pair.server, stream)
        pair.server.write(stream, payload(50_000), end=True)
        assert pair.until_ended(pair.client, stream) == payload(50_000)


class TestClosing:
    def test_code_and_reason_reach_the_peer(self, pair: Pair) -> None:
        pair.client.close(Cause.SHUTTING_DOWN.code, "good night")
        pair.until(lambda: pair.server.closed is not None, 1)
        assert pair.server.closed is not None
        assert (pair.server.closed.cause, pair.server.closed.by_peer) == (Cause.SHUTTING_DOWN, True)
        assert "good night" in pair.server.closed.detail

    def test_an_orderly_close_has_no_cause(self, pair: Pair) -> None:
        pair.server.close(Cause.NONE.code, "done")
        pair.until(lambda: pair.client.closed is not None, 1)
        assert pair.client.closed is not None
        assert (pair.client.closed.cause, pair.client.closed.by_peer) == (Cause.NONE, True)

    def test_the_closer_is_told_too_and_only_once(self, pair: Pair) -> None:
        pair.client.close(Cause.SHUTTING_DOWN.code, "")
        pair.client.close(Cause.SHUTTING_DOWN.code, "")
        pair.run(5)
        assert [event.cause for event in pair.client.events(Closed) if isinstance(event, Closed)] == [
            Cause.SHUTTING_DOWN
        ]
        assert pair.client.closed is not None
        assert not pair.client.closed.by_peer

    def test_after_the_end_calls_do_nothing(self, pair: Pair) -> None:
        stream = open_stream(pair)
        pair.client.close(Cause.SHUTTING_DOWN.code, "")
        pair.until(lambda: pair.client.closed is not None and pair.server.closed is not None, 1)
        pair.run(60)
        for side in (pair.client, pair.server):
            assert side.send(stream, b"late") == 0
            assert side.engine.open(side.connection) is None
            assert side.engine.stats(side.connection) is None
            side.finish(stream)
            side.reset(stream, CODE)
            side.stop(stream, CODE)
            side.consume(stream, 1)
            side.engine.ping(side.connection)
            side.engine.accept(side.connection)
            side.close(0, "")
        pair.run(60)
        assert pair.client.engine.get_timer() is None
        assert pair.server.engine.get_timer() is None

    def test_a_close_before_the_handshake_is_complete_ends_it(self, make_pair: MakePair) -> None:
        pair = make_pair()
        pair.client.connect(pair.world.now)
        pair.client.close(Cause.SHUTTING_DOWN.code, "")
        pair.until(lambda: pair.client.closed is not None, 1)
        pair.run(60)
        assert not pair.client.connected
        assert pair.client.engine.get_timer() is None
        assert pair.server.engine.get_timer() is None


SIX_STREAMS = replace(SMALL, greeting_streams=6)
BAD_PATHS = {
    "loss": Link(loss=0.1),
    "reorder": Link(jitter_s=0.02, reorder=0.3),
    "duplicate": Link(duplicate=0.3),
    "corrupt": Link(corrupt=0.05),
    "all": Link(delay_s=0.05, jitter_s=0.03, loss=0.05, reorder=0.1, duplicate=0.05, corrupt=0.02),
}


class TestBadPaths:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("path", BAD_PATHS)
    def test_everything_still_arrives_byte_exact(self, make_pair: MakePair, path: str, seed: int) -> None:
        pair = make_pair(SIX_STREAMS, BAD_PATHS[path], seed).connect()
        rng = Random(seed)
        up = {pair.client.open(): rng.randrange(100_000) for _ in range(6)}
        down = {stream: rng.randrange(100_000) for stream in up}
        for stream, size in up.items():
            pair.client.write(stream, payload(size, stream), end=True)
        pair.until(lambda: up.keys() <= pair.server.received.keys(), 60)
        for stream, size in down.items():
            pair.server.write(stream, payload(size, stream + 1), end=True)
        pair.until(lambda: up.keys() <= pair.server.ended and up.keys() <= pair.client.ended, 120)
        for stream in up:
            assert pair.server.received[stream] == payload(up[stream], stream)
            assert pair.client.received[stream] == payload(down[stream], stream + 1)

    @pytest.mark.parametrize("seed", range(5))
    def test_resets_and_stops_still_arrive(self, make_pair: MakePair, seed: int) -> None:
        pair = make_pair(link=BAD_PATHS["all"], seed=seed).connect()
        stopped, reset = pair.client.open(), pair.client.open()
        for stream in (stopped, reset):
            pair.client.write(stream, bytes(3 * WINDOW))
        pair.until(lambda: {stopped, reset} <= pair.server.received.keys(), 60)
        pair.server.stop(stopped, CODE)
        pair.client.reset(reset, CODE)
        pair.until(lambda: pair.client.stopped == {stopped: CODE} and pair.server.resets == {reset: CODE}, 60)

    @pytest.mark.failure("F15")
    @pytest.mark.parametrize("seed", range(5))
    def test_streams_come_back_even_if_the_news_of_it_is_lost(self, make_pair: MakePair, seed: int) -> None:
        pair = make_pair(link=Link(delay_s=0.01, jitter_s=0.01, loss=0.2), seed=seed).connect()
        pair.server.on_event = lambda event: (
            pair.server.finish(event.stream) if isinstance(event, Data) and event.end else None
        )
        ours = set()
        for _ in range(100):
            while (stream := pair.client.engine.open(pair.client.connection)) is None:
                seen = pair.client.streams_available
                pair.until(partial(lambda seen: pair.client.streams_available > seen, seen), 60)
            ours.add(stream)
            pair.client.write(stream, bytes(3_000), end=True)
        pair.until(lambda: ours <= pair.client.ended, 120)

    @pytest.mark.parametrize("noise", [b"", b"\0", b"\xff" * 20, bytes(1200), bytes(range(256)) * 6])
    def test_noise_changes_nothing(self, pair: Pair, noise: bytes) -> None:
        stream = open_stream(pair)
        for side in (pair.client, pair.server):
            side.engine.receive(noise, max(1, len(noise)), ("198.51.100.7", 9), pair.world.now)
            side.engine.receive(noise * 3, max(1, len(noise)), ("198.51.100.7", 9), pair.world.now)
        pair.client.write(stream, b"y", end=True)
        assert pair.until_ended(pair.server, stream) == b"xy"
