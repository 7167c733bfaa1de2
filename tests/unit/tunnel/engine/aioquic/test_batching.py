"""Many datagrams at once, in and out: GRO buffers, trains for GSO, one flush and one event a batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.network import Link
from tests.sim.pair import CLIENT, SERVER, Pair
from tests.unit.tunnel.engine.aioquic.harness import endpoint, quic
from tests.unit.tunnel.engine.harness import CODE, MakeRealPair, with_limits

from tunnel.engine.aioquic.endpoint import MAX_SEGMENTS, MAX_TRANSMIT_BYTES, coalesce, split
from tunnel.engine.port import CONTROL_STREAM, Address, Connected, Data, Transmit
from tunnel.engine.settings import MIB

ELSEWHERE: Address = ("192.0.2.9", 9)


def datagrams_of(transmits: list[Transmit]) -> list[tuple[bytes, Address]]:
    return [
        (datagram, transmit.address)
        for transmit in transmits
        for datagram in split(transmit.data, transmit.segment_size)
    ]


class TestCoalesce:
    @given(st.lists(st.tuples(st.sampled_from([1, 2, 3, 1200]), st.sampled_from([CLIENT, ELSEWHERE])), max_size=200))
    def test_the_datagrams_are_the_same_and_in_order(self, shapes: list[tuple[int, Address]]) -> None:
        datagrams = [(bytes([number % 256]) * size, address) for number, (size, address) in enumerate(shapes)]
        transmits = coalesce(datagrams)
        assert datagrams_of(transmits) == datagrams
        for transmit in transmits:
            assert len(transmit.data) <= MAX_TRANSMIT_BYTES
            assert -(-len(transmit.data) // transmit.segment_size) <= MAX_SEGMENTS

    def test_runs_are_as_long_as_they_can_be(self) -> None:
        sizes = [1200] * 100 + [700] + [1200] * 3
        shapes = [
            (transmit.segment_size, len(transmit.data))
            for transmit in coalesce([(bytes(size), CLIENT) for size in sizes])
        ]
        assert shapes == [(1200, 54 * 1200), (1200, 46 * 1200 + 700), (1200, 3 * 1200)]

    def test_the_kernels_number_of_segments_is_respected(self) -> None:
        assert [len(transmit.data) for transmit in coalesce([(bytes(40), CLIENT)] * 100)] == [64 * 40, 36 * 40]

    def test_a_longer_datagram_begins_a_new_run(self) -> None:
        assert [transmit.segment_size for transmit in coalesce([(b"a", CLIENT), (b"bb", CLIENT)])] == [1, 2]

    def test_one_datagram_is_not_copied(self) -> None:
        datagram = bytes(1200)
        assert coalesce([(datagram, CLIENT)])[0].data is datagram


@pytest.mark.parametrize(
    ("segment_size", "expected"),
    [(2, [b"ab", b"cd", b"e"]), (5, [b"abcde"]), (9, [b"abcde"]), (0, [b"abcde"]), (-1, [b"abcde"])],
)
def test_a_buffer_is_split_as_the_kernel_says(segment_size: int, expected: list[bytes]) -> None:
    assert list(split(b"abcde", segment_size)) == expected
    assert list(split(memoryview(b"abcde"), segment_size)) == expected
    assert list(split(b"", segment_size)) == [b""]


@pytest.fixture
def wide(make_pair: MakeRealPair) -> Pair:
    """Windows, caps and a path that let many datagrams out at once."""
    limits = with_limits(stream_window_floor_bytes=1 * MIB, stream_window_cap_bytes=1 * MIB, send_cap_bytes=1 * MIB)
    pair = make_pair(limits, Link(delay_s=0.005)).connect()
    assert pair.client.open() == 0
    pair.client.write(0, bytes(500_000))  # opens the congestion window
    pair.until_received(pair.server, 0, 500_000)
    return pair


def test_bulk_leaves_in_trains(wide: Pair) -> None:
    client = endpoint(wide.client)
    wide.client.send(wide.client.open(), bytes(200_000))
    first = client.poll_transmit(wide.world.now)
    assert first is not None
    assert first.segment_size == 1200
    assert len(first.data) >= 10 * 1200


def test_control_frames_are_in_the_first_datagram_however_much_waits(wide: Pair) -> None:
    client, server = endpoint(wide.client), endpoint(wide.server)
    for _ in range(10):
        wide.client.send(wide.client.open(), bytes(50_000))
    while client.poll_transmit(wide.world.now):  # as much as may leave at once; the rest waits
        pass
    wide.client.send(CONTROL_STREAM, b"urgent")
    wide.world.now += 0.01
    transmit = client.poll_transmit(wide.world.now)
    assert transmit is not None
    server.receive(transmit.data[: transmit.segment_size], transmit.segment_size, CLIENT, wide.world.now)
    events = []
    while (happened := server.poll_event()) is not None:
        events.append(happened[1])
    assert Data(CONTROL_STREAM, b"urgent", False) in events


@pytest.mark.failure("F21")
def test_a_flush_is_bounded(wide: Pair) -> None:
    """A large window must not keep the event loop for as long as it takes to fill it."""
    client = endpoint(wide.client)
    wide.client.send(wide.client.open(), bytes(1 * MIB))
    sent = 0
    while (transmit := client.poll_transmit(wide.world.now)) is not None:
        sent += len(transmit.data)
    assert sent <= 66 * 1200
    due = client.get_timer()
    assert due is not None
    assert due - wide.world.now >= 0.001, "a wake-up for each datagram would cost more than the datagram"


def test_a_buffer_of_many_datagrams_is_one_event_a_stream(wide: Pair) -> None:
    client, server = endpoint(wide.client), endpoint(wide.server)
    streams = [wide.client.open() for _ in range(3)]
    for stream in streams:
        wide.client.send(stream, bytes(5000))
    data = b""
    while (transmit := client.poll_transmit(wide.world.now)) is not None:
        data += transmit.data
    assert len(data) > 10 * 1200
    server.receive(data, 1200, CLIENT, wide.world.now)
    events = []
    while (happened := server.poll_event()) is not None:
        events.append(happened[1])
    assert sorted(event.stream for event in events if isinstance(event, Data)) == streams
    assert sum(len(event.data) for event in events if isinstance(event, Data)) == 15_000


def test_what_nobody_has_polled_yet_is_not_reported_after_stop(wide: Pair) -> None:
    """Several buffers come in before the session looks at the first of their events."""
    client, server = endpoint(wide.client), endpoint(wide.server)
    stopped, other = wide.client.open(), wide.client.open()
    for _ in range(3):
        for stream in (stopped, other):
            wide.client.send(stream, b"x")
        while (transmit := client.poll_transmit(wide.world.now)) is not None:
            server.receive(transmit.data, transmit.segment_size, CLIENT, wide.world.now)
    happened = server.poll_event()
    assert happened == (wide.server.connection, Data(stopped, b"x", False))
    wide.server.stop(stopped, CODE)
    left = []
    while (happened := server.poll_event()) is not None:
        left.append(happened[1])
    assert left == [Data(other, b"x", False)] * 3


def test_datagrams_of_several_connections_in_one_buffer_find_their_way(make_pair: MakeRealPair) -> None:
    pair = make_pair()
    client, server, now = endpoint(pair.client), endpoint(pair.server), pair.world.now
    for _ in range(3):
        client.connect(SERVER, now)
    data = b""
    while (transmit := client.poll_transmit(now)) is not None:
        data += transmit.data
    assert len(data) == 3 * 1200
    server.receive(memoryview(data), 1200, CLIENT, now)
    for _ in range(3):
        while (transmit := server.poll_transmit(now)) is not None:
            client.receive(transmit.data, transmit.segment_size, SERVER, now)
        while (transmit := client.poll_transmit(now)) is not None:
            server.receive(transmit.data, transmit.segment_size, CLIENT, now)
    events = []
    while (happened := server.poll_event()) is not None:
        events.append(happened[1])
    assert events == [Connected(CLIENT)] * 3


def test_only_touched_connections_are_flushed(wide: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    client = endpoint(wide.client)
    wide.run(0.5)
    flushed: list[float] = []

    def flush(now: float) -> list[tuple[bytes, Address]]:
        flushed.append(now)
        return []

    monkeypatch.setattr(quic(wide.client), "datagrams_to_send", flush)
    assert client.poll_transmit(wide.world.now) is None
    assert client.send(wide.client.connection, 999, b"x") == 0
    client.consumed(wide.client.connection, 0, 1)
    assert client.poll_transmit(wide.world.now) is None
    assert flushed == []
    client.ping(wide.client.connection)
    assert client.poll_transmit(wide.world.now) is None
    assert flushed == [wide.world.now]
    assert client.poll_transmit(wide.world.now) is None
    assert flushed == [wide.world.now]


def test_with_something_to_transmit_the_timer_is_due(wide: Pair) -> None:
    client = endpoint(wide.client)
    wide.run(0.5)
    due = client.get_timer()
    assert due is not None
    assert due > wide.world.now
    client.ping(wide.client.connection)
    due = client.get_timer()
    assert due is not None
    assert due <= wide.world.now


@pytest.mark.failure("F21")
def test_a_limit_that_cannot_be_told_yet_does_not_keep_the_endpoint_busy(make_pair: MakeRealPair) -> None:
    """Streams end while the congestion window is full: MAX_STREAMS waits, `poll_transmit` comes back all the same."""
    pair = make_pair().connect()
    assert pair.client.open() == CONTROL_STREAM
    pair.client.write(CONTROL_STREAM, b"HELLO")
    pair.until_received(pair.server, CONTROL_STREAM, 5)
    pair.server.engine.accept(pair.server.connection)
    pair.run(1)
    inside, now = quic(pair.server), pair.world.now
    inside._loss._cc.congestion_window = 0
    inside._loss._cc.bytes_in_flight = MIB
    polls = 0
    for _ in range(14):
        stream = pair.client.open()
        pair.client.write(stream, b"x", end=True)
        pair.run(0.05)
        pair.server.finish(stream)
        inside._streams.pop(stream, None)  # As aioquic discards it when everything is acknowledged.
        inside._streams_queue = [left for left in inside._streams_queue if left.stream_id != stream]
        endpoint(pair.server)._touched[endpoint(pair.server)._links[pair.server.connection]] = None
        while pair.server.engine.poll_transmit(now) is not None:
            polls += 1
            assert polls < 1000
    assert inside._streams_granted > inside._local_max_streams_bidi.sent, "there was something to tell"
