"""Deadlines by key."""

from hypothesis import given
from hypothesis import strategies as st

from tunnel.session.timers import Timers


def test_due_keys_come_in_order_and_once() -> None:
    timers: Timers[str] = Timers()
    timers.set("late", 3.0)
    timers.set("early", 1.0)
    timers.set("moved", 0.5)
    timers.set("moved", 2.0)
    timers.set("cancelled", 1.5)
    timers.cancel("cancelled")
    assert timers.next() == 1.0
    assert list(timers.due(2.5)) == ["early", "moved"]
    assert list(timers.due(2.5)) == []
    assert timers.next() == 3.0


def test_a_deadline_that_only_comes_nearer() -> None:
    timers: Timers[str] = Timers()
    timers.set_at_latest("key", 2.0)
    timers.set_at_latest("key", 3.0)
    assert timers.next() == 2.0
    timers.set_at_latest("key", 1.0)
    assert list(timers.due(5.0)) == ["key"]
    assert timers.next() is None


def test_setting_again_inside_the_iteration() -> None:
    timers: Timers[str] = Timers()
    timers.set("again", 1.0)
    for key in timers.due(1.0):
        timers.set(key, 2.0)
    assert timers.next() == 2.0


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 50), st.booleans()), max_size=400))
def test_agrees_with_a_dictionary_and_stays_small(steps: list[tuple[int, int, bool]]) -> None:
    timers: Timers[int] = Timers()
    model: dict[int, float] = {}
    for key, at, keep in steps:
        if keep:
            timers.set(key, float(at))
            model[key] = float(at)
        else:
            timers.cancel(key)
            model.pop(key, None)
        assert timers.next() == min(model.values(), default=None)
    assert len(timers._heap) <= 65 + 4 * max(len(model), 21)
    assert sorted(timers.due(100.0)) == sorted(model)
