"""What the generator makes of marks: the gauge, the windows, and the transactions that were under way."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from loadgen.faults.plan import FaultPlan
from loadgen.measure.anomalies import Anomalies
from loadgen.measure.metrics import SoakMetrics
from loadgen.measure.tally import Tally
from loadgen.soak.fault_watch import FaultWatch
from loadgen.transaction.phases import Limits, Phase
from loadgen.transaction.transaction import Arrival, Transaction, Window
from loadgen.transaction.watchdog import Watchdog

PLAN = FaultPlan.model_validate(
    {
        "fault": [
            {"kind": "pause", "program": "proxy-server", "at_s": 1, "for_s": 4, "recovery_s": 2},
            {"kind": "pause", "program": "proxy-client", "at_s": 2, "for_s": 4},
        ]
    }
)


@dataclass
class Scene:
    """A watch, a tally and a clock of the test's."""

    tally: Tally
    watchdog: Watchdog
    registry: CollectorRegistry
    watch: FaultWatch
    now_s: float = 0.0

    def transaction(self, think_s: float = 0.0) -> Transaction:
        arrival = Arrival(0, 0.0, "get", seed=1, size_bytes=1)
        made = Transaction(arrival, Limits.default(), self.tally, 0.0, lambda: self.now_s)
        made.enter(Phase.TTFB, allowance_s=think_s)
        self.watchdog.watch(made)
        return made

    def active(self) -> float | None:
        return self.registry.get_sample_value("soak_fault_active", {"fault": "pause"})


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    registry = CollectorRegistry()
    metrics = SoakMetrics(registry, ("get",))
    with Anomalies(tmp_path / "anomalies.jsonl") as anomalies:
        tally = Tally(("get",), metrics, anomalies)
        tally.load_begins(0.0)
        watchdog = Watchdog(tally.loop_lag)
        watch = FaultWatch(tally, metrics, watchdog, clock=lambda: made.now_s)
        made = Scene(tally, watchdog, registry, watch)
        watch.planned(PLAN.faults)
        yield made


def test_the_gauge_counts_what_is_active(scene: Scene) -> None:
    assert scene.active() == 0
    scene.watch.began("pause")
    scene.watch.began("pause 2")
    assert scene.active() == 2
    scene.watch.healed("pause")
    scene.watch.healed("pause 2")
    assert scene.active() == 0


def test_what_was_under_way_belongs_to_the_fault_unless_it_was_stalled_before(scene: Scene) -> None:
    stalled, near, over = scene.transaction(), scene.transaction(), scene.transaction()
    stalled.stall()
    scene.watchdog.release(over)
    scene.now_s = 1.6  # Of the 3 s of ttfb.
    going = scene.transaction()
    scene.watch.began("pause")
    windows = [transaction.window for transaction in (going, stalled, near, over)]
    assert windows == [Window.FAULT, Window.QUIET, Window.QUIET, Window.QUIET]
    assert scene.tally.windows.faults["pause"].touched == 3


def test_a_think_time_is_no_silence(scene: Scene) -> None:
    thinking = scene.transaction(think_s=10.0)
    scene.now_s = 9.0
    scene.watch.began("pause")
    assert thinking.window is Window.FAULT


def test_windows_follow_the_marks(scene: Scene) -> None:
    seen = []
    for at_s, mark in ((1.0, scene.watch.began), (5.0, scene.watch.healed)):
        scene.now_s = at_s
        mark("pause")
        seen += [scene.tally.window_of(at_s), scene.tally.window_of(at_s + 2.0)]
    assert seen == [Window.FAULT, Window.FAULT, Window.RECOVERY, Window.QUIET]


def test_it_is_over_when_every_fault_is(scene: Scene) -> None:
    watch = scene.watch
    assert not watch.is_over
    watch.began("pause")
    watch.healed("pause")
    watch.began("pause 2")
    assert not watch.is_over
    watch.failed("pause 2", "it does not wake up")
    assert not watch.is_over, "it may still be healed"
    assert not watch.is_calm
    watch.healed("pause 2")
    assert watch.is_over
    assert watch.is_calm
