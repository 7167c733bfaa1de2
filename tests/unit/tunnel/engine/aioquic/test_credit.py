"""tunnel.engine.aioquic.credit: limits follow the reader, growth is paid for, and nothing starves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.engine.aioquic.credit import ConnectionCredit, StreamCredit, WindowBudget

FLOOR, CAP, RTT_S = 1000, 8000, 0.01


def consume(credit: StreamCredit, count: int, now: float, budget: WindowBudget) -> int:
    return credit.consume(count, now, RTT_S, CAP, budget)


def test_a_limit_is_what_was_consumed_plus_the_window() -> None:
    credit = StreamCredit(FLOOR, 0.0)
    assert credit.limit_bytes == FLOOR
    consume(credit, 300, 5.0, WindowBudget(0))
    assert credit.limit_bytes == FLOOR + 300


def test_a_quarter_of_the_window_is_worth_telling() -> None:
    credit = StreamCredit(FLOOR, 0.0)
    consume(credit, FLOOR // 4 - 1, 5.0, WindowBudget(0))
    assert not credit.worth_telling(FLOOR)
    consume(credit, 1, 5.0, WindowBudget(0))
    assert credit.worth_telling(FLOOR)


def test_a_window_doubles_for_each_window_within_two_round_trips_up_to_the_cap() -> None:
    credit, budget, now = StreamCredit(FLOOR, 0.0), WindowBudget(100 * CAP), 0.0
    windows = []
    for _ in range(5):
        now += 2 * RTT_S
        consume(credit, credit.window_bytes, now, budget)
        windows.append(credit.window_bytes)
    assert windows == [2000, 4000, 8000, 8000, 8000]
    assert budget.left_bytes == 100 * CAP - (CAP - FLOOR)


def test_a_slow_reader_gets_no_more() -> None:
    credit, budget, now = StreamCredit(FLOOR, 0.0), WindowBudget(100 * CAP), 0.0
    for _ in range(20):
        now += 2.01 * RTT_S
        assert consume(credit, credit.window_bytes, now, budget) == 0
    assert credit.window_bytes == FLOOR


def test_without_a_budget_nothing_grows_and_nothing_stops() -> None:
    credit, budget = StreamCredit(FLOOR, 0.0), WindowBudget(FLOOR - 1)
    for turn in range(20):
        assert consume(credit, FLOOR, turn * RTT_S, budget) == 0
    assert credit.limit_bytes == 21 * FLOOR
    assert budget.left_bytes == FLOOR - 1


def test_growth_of_one_stream_can_be_given_to_another() -> None:
    budget = WindowBudget(FLOOR)
    first, second = StreamCredit(FLOOR, 0.0), StreamCredit(FLOOR, 0.0)
    assert consume(first, FLOOR, RTT_S, budget) == FLOOR
    assert consume(second, FLOOR, RTT_S, budget) == 0
    budget.give_back(first.growth_bytes)
    assert consume(second, FLOOR, 2 * RTT_S, budget) == FLOOR


@pytest.mark.failure("F11")
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 3 * FLOOR)), max_size=60), st.integers(0, 7))
def test_a_stream_always_has_room_in_the_connection_for_its_own_window(
    reads: list[tuple[int, int]], stalled_from: int
) -> None:
    """Streams fill their windows; those from `stalled_from` on are never read. None lacks connection credit."""
    connection = ConnectionCredit(max_streams=8, floor_bytes=FLOOR, control_window_bytes=100)
    streams, budget = [StreamCredit(FLOOR, 0.0) for _ in range(8)], WindowBudget(20 * FLOOR)
    told = connection.limit_bytes(0)
    for turn, (which, count) in enumerate(reads):
        used = sum(stream.limit_bytes for stream in streams)
        assert used <= told, "all streams may use up their windows at the same time"
        if which < stalled_from:
            count = min(count, streams[which].window_bytes)
            connection.growth_bytes += consume(streams[which], count, turn * RTT_S / 4, budget)
            connection.consumed_bytes += count
            told = connection.limit_bytes(told)


@given(st.lists(st.integers(0, 5 * FLOOR), max_size=50))
def test_a_connection_limit_never_moves_back(changes: list[int]) -> None:
    connection = ConnectionCredit(max_streams=4, floor_bytes=FLOOR, control_window_bytes=0)
    told = connection.limit_bytes(0)
    for change in changes:
        connection.growth_bytes = change  # up, and down again when a stream ends
        connection.consumed_bytes += change // 3
        now_told = connection.limit_bytes(told)
        assert now_told >= told
        told = now_told
