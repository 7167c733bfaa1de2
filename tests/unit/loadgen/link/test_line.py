"""One direction of a link on virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.link.line import BUNDLE_SEGMENTS, Departure, Line, bundles
from loadgen.link.plan import Direction, Plan, Timeline, Window


def make_line(plan: Plan, seed: int = 1, capacity_bytes: int = 1 << 20) -> Line[str]:
    return Line(Timeline(plan, Direction.CLIENT_TO_SERVER), str(seed), capacity_bytes)


def leave(line: Line[str], now_s: float) -> list[Departure[str]]:
    """Takes what is due, as a socket that accepts everything."""
    departures = line.depart(now_s)
    for departure in departures:
        line.sent(departure, len(departure.data))
    return departures


def segments_of(departures: list[Departure[str]]) -> list[bytes]:
    return [
        departure.data[start : start + departure.segment_bytes]
        for departure in departures
        for start in range(0, len(departure.data), departure.segment_bytes)
    ]


def numbered(count: int, size: int = 4) -> bytes:
    return b"".join(number.to_bytes(size, "big") for number in range(count))


def test_a_buffer_leaves_whole_after_the_delay() -> None:
    line = make_line(Plan(delay_ms=10))
    line.admit(1.0, "a", b"123456", 4)

    assert line.next_due_s == pytest.approx(1.01)
    assert leave(line, 1.009) == []
    (departure,) = leave(line, 1.0101)

    assert (departure.flow, departure.data, departure.segment_bytes, departure.segments) == ("a", b"123456", 4, 2)
    assert line.next_due_s is None
    assert line.queued_bytes == 0
    assert (line.counts.received, line.counts.forwarded, line.counts.forwarded_bytes) == (2, 2, 6)


def test_jitter_varies_the_delay_within_its_bound_and_keeps_the_order() -> None:
    line = make_line(Plan(delay_ms=10, jitter_ms=5))
    for number in range(200):
        line.admit(number * 0.02, "a", bytes([number]), 1)  # further apart than the jitter: each delay is its own

    departures = leave(line, 100)

    delays_s = [departure.due_s - number * 0.02 for number, departure in enumerate(departures)]
    assert [departure.data[0] for departure in departures] == list(range(200))
    assert min(delays_s) >= 0.005 - 1e-9
    assert max(delays_s) <= 0.015 + 1e-9
    assert max(delays_s) - min(delays_s) > 0.008


def test_jitter_never_lets_a_later_datagram_overtake() -> None:
    line = make_line(Plan(delay_ms=10, jitter_ms=10))
    for number in range(200):
        line.admit(number * 0.0001, "a", bytes([number]), 1)

    assert [departure.data[0] for departure in leave(line, 100)] == list(range(200))


def test_loss_is_decided_for_each_segment_and_survivors_stay_together() -> None:
    line = make_line(Plan(loss=0.3))
    line.admit(0.0, "a", numbered(1000) + b"!", 4)

    (departure,) = leave(line, 0.0)

    survivors = segments_of([departure])
    assert line.counts.lost == 1001 - len(survivors)
    assert 220 < line.counts.lost < 380
    assert survivors == sorted(survivors)
    assert set(survivors) < {*segments_of([departure]), *(n.to_bytes(4, "big") for n in range(1000)), b"!"}


def test_a_reordered_segment_is_overtaken_by_exactly_its_time() -> None:
    line = make_line(Plan(delay_ms=10, reorder=0.5, reorder_ms=7))
    line.admit(0.0, "a", numbered(100), 4)

    on_time, late = leave(line, 1.0)

    assert [on_time.due_s, late.due_s] == pytest.approx([0.010, 0.017])
    assert sorted(segments_of([on_time, late])) == segments_of([Departure(0, 0, "a", numbered(100), 4)])
    assert line.counts.reordered == late.segments > 0
    assert line.counts.forwarded == 100


def test_a_reordered_segment_holds_back_nothing_behind_it() -> None:
    line = make_line(Plan(at=(Window(from_s=0, to_s=1, reorder=1, reorder_ms=1000),)))
    line.admit(0.9, "a", b"late", 4)
    line.admit(1.0, "a", b"next", 4)

    assert [departure.data for departure in leave(line, 1.0)] == [b"next"]
    assert [departure.data for departure in leave(line, 1.9)] == [b"late"]


def test_duplicates_arrive_twice_and_are_counted() -> None:
    line = make_line(Plan(duplicate=1))
    line.admit(0.0, "a", b"123456", 4)

    assert segments_of(leave(line, 0.0)) == [b"1234", b"56", b"1234", b"56"]
    assert (line.counts.received, line.counts.duplicated, line.counts.forwarded) == (2, 2, 4)


def test_a_blackhole_swallows_what_arrives_and_not_what_is_under_way() -> None:
    line = make_line(Plan(delay_ms=10, at=(Window(from_s=5, to_s=6, blackhole=True),)))
    for arrival_s, data in ((4.999, b"a"), (5.0, b"b"), (5.999, b"c"), (6.0, b"d")):
        line.admit(arrival_s, "a", data, 1)

    assert [departure.data for departure in leave(line, 7)] == [b"a", b"d"]
    assert line.counts.lost == 2


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    line = make_line(Plan(delay_ms=10), capacity_bytes=10)
    line.admit(0.0, "a", b"12345678", 4)
    line.admit(0.0, "a", b"12345678", 4)
    line.admit(0.0, "a", b"12", 2)

    assert (line.counts.dropped, line.queued_bytes) == (2, 10)
    assert [departure.data for departure in leave(line, 1)] == [b"12345678", b"12"]
    assert line.queued_bytes == 0


def test_what_the_socket_did_not_take_is_dropped() -> None:
    line = make_line(Plan())
    line.admit(0.0, "a", b"1234567", 3)
    (departure,) = line.depart(0.0)

    line.sent(departure, 3)

    assert (line.counts.forwarded, line.counts.dropped, line.counts.forwarded_bytes) == (1, 2, 3)


def test_an_empty_datagram_is_ignored() -> None:
    line = make_line(Plan(loss=0.5))
    line.admit(0.0, "a", b"", 0)

    assert line.next_due_s is None
    assert line.counts.received == 0


arrivals = st.lists(
    st.tuples(st.floats(0, 0.01), st.integers(1, 200), st.integers(1, 50)), min_size=1, max_size=30
)  # seconds since the one before, bytes, segment bytes


@given(
    arrivals,
    st.integers(0, 1000),
    st.builds(
        Plan,
        delay_ms=st.floats(0, 20),
        jitter_ms=st.floats(0, 20),
        loss=st.floats(0, 1),
        reorder=st.floats(0, 1),
        duplicate=st.floats(0, 1),
    ),
    st.integers(50, 2000),
)
def test_every_segment_ends_in_exactly_one_count(
    schedule: list[tuple[float, int, int]], seed: int, plan: Plan, capacity_bytes: int
) -> None:
    runs = []
    for _ in range(2):
        line = make_line(plan, seed, capacity_bytes)
        now_s, departures = 0.0, []
        for pause_s, size_bytes, segment_bytes in schedule:
            now_s += pause_s
            line.admit(now_s, "a", bytes(size_bytes), segment_bytes)
            departures += leave(line, now_s)
        departures += leave(line, now_s + 1)
        counts = line.counts
        assert counts.received == sum(-(-size // segment) for _, size, segment in schedule)
        assert counts.received + counts.duplicated == counts.forwarded + counts.lost + counts.dropped
        assert counts.forwarded == sum(departure.segments for departure in departures)
        assert line.queued_bytes == 0
        runs.append((departures, counts))

    assert runs[0] == runs[1]  # the same seed, plan and arrivals


def test_neighbours_of_one_flow_and_size_leave_in_one_send_and_a_short_segment_ends_it() -> None:
    sends = [("a", b"1234", 4), ("a", b"56789", 4), ("a", b"0123", 4), ("b", b"4567", 4), ("b", b"89", 2)]
    departures = [Departure(0.0, order, flow, data, size) for order, (flow, data, size) in enumerate(sends)]

    joined = [(bundle.flow, bundle.data, bundle.segment_bytes) for bundle in bundles(departures)]

    assert joined == [("a", b"123456789", 4), ("a", b"0123", 4), ("b", b"4567", 4), ("b", b"89", 2)]


def test_a_bundle_is_no_more_than_one_send_can_carry() -> None:
    small = [Departure(0.0, order, "a", b"x", 1) for order in range(BUNDLE_SEGMENTS + 1)]
    large = [Departure(0.0, order, "a", bytes(20_000), 10_000) for order in range(4)]

    assert [bundle.segments for bundle in bundles(small)] == [BUNDLE_SEGMENTS, 1]
    assert [len(bundle.data) for bundle in bundles(large)] == [60_000, 20_000]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 300), st.integers(1, 5)), max_size=40))
def test_bundling_changes_no_segment(sends: list[tuple[str, int, int]]) -> None:
    departures = [
        Departure(0.0, order, flow, bytes([order]) * size_bytes, segment_bytes)
        for order, (flow, size_bytes, segment_bytes) in enumerate(sends)
    ]

    assert segments_of(list(bundles(departures))) == segments_of(departures)
