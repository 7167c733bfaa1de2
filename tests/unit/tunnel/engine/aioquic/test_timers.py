"""tunnel.engine.aioquic.timers: one time an owner, the earliest first, and no heap that grows."""

from hypothesis import given
from hypothesis import strategies as st

from tunnel.engine.aioquic.timers import STALE_ENTRIES, Timers


def test_the_last_time_counts() -> None:
    timers = Timers[str]()
    timers.set("a", 5.0)
    timers.set("b", 4.0)
    timers.set("b", 6.0)
    assert timers.earliest() == 5.0
    timers.set("a", None)
    assert timers.earliest() == 6.0
    assert timers.take_due(5.9) == []
    assert timers.take_due(6.0) == ["b"]
    assert timers.earliest() is None
    assert len(timers) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.floats(0, 100)), max_size=50))
def test_it_is_a_table_of_times(changes: list[tuple[str, float | None]]) -> None:
    timers, table = Timers[str](), dict[str, float]()
    for owner, when in changes:
        timers.set(owner, when)
        table.pop(owner, None)
        if when is not None:
            table[owner] = when
        assert timers.earliest() == min(table.values(), default=None)
        assert len(timers) == len(table)
    due = timers.take_due(50)
    assert sorted(due) == sorted(owner for owner, when in table.items() if when <= 50)
    assert due == sorted(due, key=table.__getitem__)


def test_the_heap_stays_small_however_often_a_time_changes() -> None:
    timers = Timers[int]()
    for change in range(10_000):
        timers.set(change % 10, 1e9 - change)
        assert len(timers._heap) <= 2 * 10 + STALE_ENTRIES
