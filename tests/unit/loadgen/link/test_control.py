"""What changes a link while it runs: a plan read again, and rebinds, on a clock that the test moves."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
from structlog.testing import capture_logs

from loadgen.link.control import Control
from loadgen.link.plan import Plan
from loadgen.link.relay import Relay
from loadgen.toml_file import UnusableFileError


class FakeRelay:
    """A relay with two flows that notes what is done to it; its time is the test's."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.rebound_s: list[float] = []
        self.plans: list[Plan] = []

    def rebind(self) -> int:
        self.rebound_s.append(self.now_s)
        return 2

    def follow(self, plan: Plan) -> None:
        self.plans.append(plan)


class FakeLoop:
    """Timers that ring when the test's time has come to them."""

    def __init__(self, relay: FakeRelay) -> None:
        self._relay = relay
        self._timers: list[tuple[float, Callable[[], None], FakeLoop.Handle]] = []

    class Handle:
        cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

    def call_later(self, pause_s: float, ring: Callable[[], None]) -> Handle:
        handle = FakeLoop.Handle()
        self._timers.append((self._relay.now_s + pause_s, ring, handle))
        return handle

    def pass_to(self, until_s: float) -> None:
        while due := sorted((timer for timer in self._timers if timer[0] <= until_s), key=lambda timer: timer[0]):
            self._timers.remove(due[0])
            self._relay.now_s, ring, handle = due[0]
            if not handle.cancelled:
                ring()
        self._relay.now_s = until_s


@pytest.fixture
def relay() -> FakeRelay:
    return FakeRelay()


@pytest.fixture
def loop(relay: FakeRelay, monkeypatch: pytest.MonkeyPatch) -> FakeLoop:
    loop = FakeLoop(relay)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


def make_control(relay: FakeRelay, read: Callable[[], Plan] | None = None) -> Control:
    return Control(cast(Relay, relay), read)


def test_it_rebinds_at_each_moment_of_the_plan(relay: FakeRelay, loop: FakeLoop) -> None:
    control = make_control(relay)
    control.expect(Plan(rebind_at_s=(3, 1)))

    loop.pass_to(0.9)
    assert relay.rebound_s == []
    loop.pass_to(10)

    assert relay.rebound_s == [1, 3]
    assert control.rebinds == 2


def test_of_another_plan_only_the_moments_still_to_come_count_and_the_old_ones_are_gone(
    relay: FakeRelay, loop: FakeLoop
) -> None:
    plan = Plan(rebind_at_s=(2, 6, 8))
    control = make_control(relay, lambda: plan)
    control.expect(Plan(rebind_at_s=(1, 5, 7)))

    loop.pass_to(3)
    control.reread()
    loop.pass_to(10)

    assert relay.rebound_s == [1, 6, 8]
    assert relay.plans == [plan]


def test_a_moment_that_is_due_when_another_plan_comes_is_not_forgotten(relay: FakeRelay, loop: FakeLoop) -> None:
    control = make_control(relay, Plan)
    control.expect(Plan(rebind_at_s=(1,)))

    relay.now_s = 1.5  # the loop was late
    control.reread()

    assert control.rebinds == 1


def test_after_its_end_nothing_is_done_any_more(relay: FakeRelay, loop: FakeLoop) -> None:
    control = make_control(relay)
    control.expect(Plan(rebind_at_s=(1,)))

    control.close()
    loop.pass_to(10)

    assert relay.rebound_s == []


def test_a_rebind_says_whether_the_plan_wanted_it(relay: FakeRelay, loop: FakeLoop) -> None:
    control = make_control(relay)
    control.expect(Plan(rebind_at_s=(1,)))

    with capture_logs() as logged:
        control.rebind()
        loop.pass_to(1)

    assert [line["planned"] for line in logged if line["event"] == "rebound"] == [False, True]


def test_what_is_done_has_a_number(relay: FakeRelay, loop: FakeLoop, capsys: pytest.CaptureFixture[str]) -> None:
    control = make_control(relay, lambda: Plan(delay_ms=5))

    for _ in range(2):
        control.reread()
        control.rebind()

    logged = capsys.readouterr()
    lines = [line for line in (logged.out + logged.err).splitlines() if "number" in line]
    assert [("plan_reread" in line, "rebound" in line) for line in lines] == [(True, False), (False, True)] * 2
    assert relay.plans == [Plan(delay_ms=5)] * 2
    assert (control.plan_reads, control.rebinds) == (2, 2)


def test_a_plan_that_cannot_be_used_changes_nothing(
    relay: FakeRelay, loop: FakeLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> Plan:
        raise UnusableFileError("plan.toml: loss: must be less than or equal to 1, not 2")

    control = make_control(relay, refuse)
    control.expect(Plan(rebind_at_s=(1,)))

    control.reread()
    loop.pass_to(2)

    logged = capsys.readouterr()
    assert "plan_refused" in logged.out + logged.err
    assert "not 2" in logged.out + logged.err
    assert relay.plans == []
    assert (control.plan_reads, control.rebinds) == (0, 1)


def test_without_a_plan_there_is_nothing_to_read_again(
    relay: FakeRelay, loop: FakeLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    control = make_control(relay)

    control.reread()

    logged = capsys.readouterr()
    assert "plan_not_reread" in logged.out + logged.err
    assert control.plan_reads == 0
