"""Windows of quinn's: they start small, grow with a reader that reads, and are bounded by what stands in the limits."""

from random import Random

import pytest
from tests.sim.network import Link, Network
from tests.sim.pair import SERVER, Pair, Side
from tests.sim.world import World
from tests.unit.tunnel.engine.harness import FAST, MakeRealPair, Server, payload, with_limits

from tunnel.engine.port import CONTROL_STREAM
from tunnel.engine.settings import KIB, MIB, EngineLimits

FLOOR, CAP = 64 * KIB, 1 * MIB
START = CAP // 8 + FLOOR
GROWING = with_limits(stream_window_floor_bytes=FLOOR, stream_window_cap_bytes=CAP, send_cap_bytes=4 * MIB)


def taken_until_blocked(pair: Pair, stream: int) -> int:
    """How much a client's stream takes while nobody reads it."""
    taken = 0
    while count := pair.client.send(stream, bytes(4 * MIB)):
        taken += count
        pair.run(1)
    return taken


class TestGrowth:
    @pytest.fixture
    def pair(self, make_pair: MakeRealPair) -> Pair:
        pair = make_pair(GROWING, FAST).connect()
        pair.server.reading = False
        return pair

    def test_a_stream_starts_with_less_than_the_cap(self, pair: Pair) -> None:
        assert taken_until_blocked(pair, pair.client.open()) == START

    def test_a_reader_of_less_than_an_eighth_makes_nothing_grow(self, pair: Pair) -> None:
        stream = pair.client.open()
        taken = taken_until_blocked(pair, stream)
        pair.server.consume(stream, CAP // 8 - FLOOR - 1)
        pair.run(1)
        assert taken + taken_until_blocked(pair, stream) == START

    def test_a_reader_of_an_eighth_gets_the_cap(self, pair: Pair) -> None:
        stream = pair.client.open()
        taken = taken_until_blocked(pair, stream)
        read = CAP // 8
        while read:
            count = min(read, FLOOR)
            pair.server.consume(stream, count)
            read -= count
            pair.run(1)
        taken += taken_until_blocked(pair, stream)
        assert CAP <= taken - CAP // 8 <= CAP + FLOOR

    @pytest.mark.parametrize("floor", [16 * KIB, FLOOR, 256 * KIB, 512 * KIB])
    def test_without_a_reader_nothing_grows_whatever_the_floor(self, make_pair: MakeRealPair, floor: int) -> None:
        limits = with_limits(stream_window_floor_bytes=floor, stream_window_cap_bytes=CAP, send_cap_bytes=4 * MIB)
        pair = make_pair(limits, FAST).connect()
        pair.server.reading = False
        assert taken_until_blocked(pair, pair.client.open()) == CAP // 8 + floor

    def test_streams_that_have_not_grown_stay_as_they_are(self, pair: Pair) -> None:
        reads, waits = pair.client.open(), pair.client.open()
        pair.server.reading = True
        pair.client.write(reads, payload(4 * CAP))
        pair.until_received(pair.server, reads, 4 * CAP)
        pair.server.reading = False
        assert taken_until_blocked(pair, waits) == START

    def test_all_that_have_grown_stall_and_another_one_still_has_all_its_window(self, make_pair: MakeRealPair) -> None:
        """The connection's window grows with the streams' (F11)."""
        limits = with_limits(
            stream_window_floor_bytes=FLOOR, stream_window_cap_bytes=CAP, send_cap_bytes=32 * MIB, max_streams=8
        )
        pair = make_pair(limits, FAST).connect()
        assert pair.client.open() == CONTROL_STREAM
        streams = [pair.client.open() for _ in range(6)]
        for stream in streams:
            pair.client.write(stream, bytes(2 * CAP))
            pair.until_received(pair.server, stream, 2 * CAP)
        pair.server.reading = False
        for stream in streams:
            assert taken_until_blocked(pair, stream) > CAP - CAP // 8
        assert taken_until_blocked(pair, pair.client.open()) == START


class TestBudget:
    def test_when_it_is_used_up_new_connections_do_not_grow_until_it_is_back(self, make_pair: MakeRealPair) -> None:
        limits = with_limits(
            stream_window_floor_bytes=FLOOR,
            stream_window_cap_bytes=CAP,
            send_cap_bytes=4 * MIB,
            window_budget_bytes=4 * (CAP - FLOOR),
            wide_streams=4,
        )
        world = World(Network(Random(1), FAST))
        server = Server(make_pair.server(limits))
        world.add(SERVER, server)
        sides = [Side(make_pair.client(limits)) for _ in range(3)]
        for number, side in enumerate(sides):
            world.add(("192.0.2.1", 50_000 + number), side)

        def connected_with_stream(side: Side) -> int:
            side.connect(world.now)
            assert world.run(1, lambda: side.connected)
            world.run(0.2)
            stream = side.open()
            side.write(stream, bytes(2 * CAP))
            assert world.run(5, lambda: not side.waits(stream))
            world.run(0.2)
            return stream

        def window(side: Side, stream: int) -> int:
            """What it may still send when the server stops reading."""
            server.work = lambda now: None  # type: ignore[method-assign]
            taken = 0
            while count := side.send(stream, bytes(4 * MIB)):
                taken += count
                world.run(0.2)
            server.work = Server.work.__get__(server)  # type: ignore[method-assign]
            world.run(1)
            return taken

        first = connected_with_stream(sides[0])
        second = connected_with_stream(sides[1])
        assert window(sides[0], first) > CAP - CAP // 8
        assert window(sides[1], second) <= 2 * FLOOR
        sides[0].finish(first)
        sides[0].reset(first, 1)
        sides[0].close(0, "")
        world.run(1)
        third = connected_with_stream(sides[2])
        assert window(sides[2], third) > CAP - CAP // 8

    @pytest.mark.failure("F15")
    def test_a_wide_connection_has_few_streams_and_tells_when_one_is_free(self, make_pair: MakeRealPair) -> None:
        limits = with_limits(
            stream_window_floor_bytes=FLOOR, stream_window_cap_bytes=CAP, max_streams=8, wide_streams=4
        )
        pair = make_pair(limits, FAST).connect()
        streams = self.open_all(pair)
        assert len(streams) == 4
        pair.client.write(streams[1], b"x", end=True)
        pair.until_ended(pair.server, streams[1], 5)
        pair.server.finish(streams[1])
        pair.until(lambda: pair.client.streams_available > 0)
        pair.run(1)
        assert len(self.open_all(pair)) == 1

    def test_without_a_budget_a_connection_has_all_streams_with_the_floor(self, make_pair: MakeRealPair) -> None:
        limits = with_limits(
            stream_window_floor_bytes=FLOOR,
            stream_window_cap_bytes=CAP,
            max_streams=8,
            wide_streams=4,
            window_budget_bytes=4 * (CAP - FLOOR) - 1,
        )
        pair = make_pair(limits, FAST).connect()
        pair.server.reading = False
        streams = self.open_all(pair)
        assert len(streams) == 8
        assert taken_until_blocked(pair, streams[1]) == 2 * FLOOR  # The window, and what was read ahead.

    @staticmethod
    def open_all(pair: Pair) -> list[int]:
        """Streams until there is no more."""
        streams = []
        while (stream := pair.client.engine.open(pair.client.connection)) is not None:
            streams.append(stream)
        return streams


class TestUnread:
    @pytest.mark.failure("F09")
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("limits", [EngineLimits(), GROWING], ids=["defaults", "small"])
    def test_a_reader_that_stops_anywhere_leaves_a_window_and_256_kib_at_most(
        self, make_pair: MakeRealPair, limits: EngineLimits, seed: int
    ) -> None:
        rng = Random(seed)
        pair = make_pair(limits, FAST, seed).connect()
        pair.server.reading = False
        stream, taken, read = pair.client.open(), 0, 0
        for _ in range(10):
            for _ in range(rng.randrange(20)):
                taken += pair.client.send(stream, bytes(1 * MIB))
                pair.run(0.005)
                waiting = len(pair.server.received.get(stream, b"")) - read
                count = rng.randrange(waiting + 1)
                pair.server.consume(stream, count)
                read += count
            taken += taken_until_blocked(pair, stream)
            assert taken - read <= limits.stream_window_cap_bytes + 256 * KIB
            assert len(pair.server.received[stream]) - read <= 256 * KIB


class TestTurns:
    @pytest.mark.failure("F10")
    @pytest.mark.parametrize("streams", [2, 8, 20])
    def test_blocked_streams_get_their_turns(self, make_pair: MakeRealPair, streams: int) -> None:
        """Equal sizes and one small send window: nobody starves, and at no time is anybody far behind."""
        limits = with_limits(stream_window_floor_bytes=1 * MIB, stream_window_cap_bytes=1 * MIB, max_streams=32)
        pair = make_pair(limits, Link(delay_s=0.02)).connect()
        assert pair.client.open() == CONTROL_STREAM
        numbers = [pair.client.open() for _ in range(streams)]
        for stream in numbers:
            pair.client.write(stream, bytes(1 * MIB), end=True)
        first_cap = limits.send_cap_bytes
        while not pair.server.ended:
            pair.run(0.05)
            shares = [len(pair.server.received.get(stream, b"")) for stream in numbers]
            if sum(shares) > 4 * streams * 64 * KIB and not pair.server.ended:
                # The first one took the whole cap, because nobody waited then.
                assert max(shares) - min(shares) <= first_cap + 3 * 64 * KIB, shares
        pair.until(lambda: set(numbers) <= pair.server.ended, 30)

    def test_one_that_waits_for_its_reader_holds_up_nobody(self, make_pair: MakeRealPair) -> None:
        pair = make_pair(with_limits(max_streams=32), Link(delay_s=0.02)).connect()
        pair.server.reading = False
        stalled = [pair.client.open() for _ in range(10)]
        for stream in stalled:
            pair.client.write(stream, bytes(1 * MIB))
        pair.run(1)
        pair.server.reading = True
        moving = [pair.client.open() for _ in range(4)]
        for stream in moving:
            pair.client.write(stream, payload(1 * MIB), end=True)
        for stream in moving:
            assert pair.until_ended(pair.server, stream, 10) == payload(1 * MIB)
        assert all(pair.client.waits(stream) for stream in stalled)
