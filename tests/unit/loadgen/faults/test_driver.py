"""The driver: what it does to a stack, in which order, and that it always undoes it. Time is the test's."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from loadgen.faults.driver import Driver
from loadgen.faults.plan import Fault, FaultPlan
from loadgen.link.plan import Window
from loadgen.stack_api import ProgramEndedBadlyError, StackError

LOSS = {"kind": "loss", "loss": 0.05, "at_s": 1, "for_s": 4}
HOLE = {"kind": "blackhole", "at_s": 2, "for_s": 1}
REAL_SLEEP = asyncio.sleep
KILL = {"kind": "kill", "program": "proxy-server", "at_s": 6, "for_s": 1}


class Diary:
    """A stack and a listener that write down what happens, and a clock that only moves when everybody waits."""

    def __init__(self, fails: str = "", error: Callable[[str], StackError] = StackError) -> None:
        self.lines: list[str] = []
        self.now_s = 0.0
        self.fails = fails
        self.error = error

    # ---- a stack

    async def impair(self, windows: Sequence[Window]) -> None:
        said = [str(w.model_dump(exclude_none=True, exclude={"from_s", "to_s"})) for w in windows]
        await self._do("link " + (" ".join(said) or "as it was"))

    async def rebind(self) -> None:
        await self._do("rebind")

    async def pause(self, program: str) -> None:
        await self._do(f"pause {program}")

    async def resume(self, program: str) -> None:
        await self._do(f"resume {program}")

    async def kill(self, program: str) -> None:
        await self._do(f"kill {program}")

    async def stop(self, program: str, *, at_once: bool) -> None:
        await self._do(f"stop {program} {'at once' if at_once else 'drained'}")

    async def start(self, program: str) -> None:
        await self._do(f"start {program}")

    async def disconnect(self, program: str) -> None:
        await self._do(f"disconnect {program}")

    async def connect(self, program: str) -> None:
        await self._do(f"connect {program}")

    # ---- a listener

    def planned(self, faults: Sequence[Fault]) -> None: ...

    def began(self, name: str) -> None:
        self._write(f"began {name}")

    def healed(self, name: str) -> None:
        self._write(f"healed {name}")

    def failed(self, name: str, reason: str) -> None:
        self._write(f"failed {name}: {reason}")

    def misbehaved(self, name: str, reason: str) -> None:
        self._write(f"misbehaved {name}: {reason}")

    # ----

    async def _do(self, what: str) -> None:
        self._write(what)
        if self.fails and what.startswith(self.fails):
            raise self.error("it does not want to")

    def _write(self, what: str) -> None:
        self.lines.append(f"{self.now_s:g} {what}")


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a plan on a diary, on virtual time."""

    async def run(diary: Diary, *faults: dict[str, Any], ahead_s: float = 0.0) -> list[str]:
        sleepers: list[tuple[float, asyncio.Future[None]]] = []

        async def sleep(seconds: float) -> None:
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            sleepers.append((diary.now_s + seconds, woken))
            await woken

        monkeypatch.setattr(asyncio, "sleep", sleep)
        plan = FaultPlan.model_validate({"fault": faults})
        task = asyncio.create_task(Driver(plan, diary, diary, ahead_s, clock=lambda: diary.now_s).run(0.0))
        while not task.done():
            for _ in range(20):
                await REAL_SLEEP(0)
            if sleepers:
                sleepers.sort(key=lambda sleeper: sleeper[0])
                at_s, woken = sleepers.pop(0)
                diary.now_s = max(math.nextafter(diary.now_s, math.inf), at_s)  # Time never stands still.
                woken.set_result(None)
        await task
        return diary.lines

    return run


async def test_faults_of_the_link_add_up(drive: Callable[..., Any]) -> None:
    assert await drive(Diary(), LOSS, HOLE) == [
        "1 began loss",
        "1 link {'loss': 0.05}",
        "2 began blackhole",
        "2 link {'loss': 0.05} {'blackhole': True}",
        "3 link {'loss': 0.05}",
        "3 healed blackhole",
        "5 link as it was",
        "5 healed loss",
    ]


@pytest.mark.parametrize(
    ("kind", "does", "undoes"),
    [
        ("pause", "pause proxy-server", "resume proxy-server"),
        ("kill", "kill proxy-server", "start proxy-server"),
        ("disconnect", "disconnect proxy-server", "connect proxy-server"),
    ],
)
async def test_faults_of_a_program(drive: Callable[..., Any], kind: str, does: str, undoes: str) -> None:
    lines = await drive(Diary(), {**KILL, "kind": kind})
    assert lines == [f"6 began {kind}", f"6 {does}", f"7 {undoes}", f"7 healed {kind}"]


@pytest.mark.parametrize(("kind", "does"), [("drain", "drained"), ("restart", "at once")])
async def test_faults_that_take_as_long_as_they_take(drive: Callable[..., Any], kind: str, does: str) -> None:
    lines = await drive(Diary(), {"kind": kind, "program": "proxy-server", "at_s": 6})
    assert lines == [
        f"6 began {kind}", f"6 stop proxy-server {does}", "6 start proxy-server", f"6 healed {kind}",
    ]  # fmt: skip


async def test_a_rebind(drive: Callable[..., Any]) -> None:
    assert await drive(Diary(), {"kind": "rebind", "at_s": 6}) == ["6 began rebind", "6 rebind", "6 healed rebind"]


async def test_a_fault_is_announced_ahead(drive: Callable[..., Any]) -> None:
    lines = await drive(Diary(), KILL, ahead_s=0.15)
    assert lines[:2] == ["5.85 began kill", "6 kill proxy-server"]
    lines = await drive(Diary(), {**KILL, "at_s": 0}, ahead_s=0.15)
    assert lines[:2] == ["0 began kill", "0.15 kill proxy-server"], "however early it is"


async def test_a_fault_that_cannot_be_done_is_undone_all_the_same(drive: Callable[..., Any]) -> None:
    lines = await drive(Diary(fails="kill"), KILL, HOLE)
    assert lines[-4:] == [
        "6 kill proxy-server", "6 failed kill: it does not want to", "6 start proxy-server", "6 healed kill",
    ]  # fmt: skip
    assert "3 healed blackhole" in lines


async def test_a_program_that_does_not_drain_is_to_blame_and_is_started_all_the_same(drive: Callable[..., Any]) -> None:
    diary = Diary(fails="stop", error=lambda why: ProgramEndedBadlyError("proxy-server", -9, why))
    lines = await drive(diary, {"kind": "drain", "program": "proxy-server", "at_s": 6})
    assert lines[-3].startswith("6 misbehaved drain: proxy-server ended badly, with exit code -9")
    assert lines[-2:] == ["6 start proxy-server", "6 healed drain"]


async def test_a_program_suffers_one_fault_after_the_other(drive: Callable[..., Any]) -> None:
    """A drain takes as long as it takes: what was planned behind it waits."""
    diary = Diary()

    async def stop(program: str, *, at_once: bool) -> None:
        diary.now_s += 10.0

    diary.stop = stop  # type: ignore[method-assign]
    lines = await drive(diary, {"kind": "drain", "program": "proxy-server", "at_s": 1}, KILL)
    assert lines == [
        "1 began drain", "11 start proxy-server", "11 healed drain",
        "11 began kill", "11 kill proxy-server", "12 start proxy-server", "12 healed kill",
    ]  # fmt: skip


async def test_a_program_that_does_not_come_back(drive: Callable[..., Any]) -> None:
    lines = await drive(Diary(fails="start"), KILL)
    assert lines[-2:] == ["7 start proxy-server", "7 failed kill: it does not want to"]


@pytest.mark.parametrize(
    ("ahead_s", "until", "then"),
    [
        (0.0, "0 link {'blackhole': True}", ["0 link as it was", "0 healed blackhole"]),
        (1000.0, "0 began blackhole", ["0 healed blackhole"]),
    ],
    ids=["in the middle", "announced only"],
)
async def test_a_cancelled_driver_heals_what_is_open(ahead_s: float, until: str, then: list[str]) -> None:
    diary = Diary()
    plan = FaultPlan.model_validate({"fault": [{**HOLE, "at_s": 0, "for_s": 1000}]})
    task = asyncio.create_task(Driver(plan, diary, diary, ahead_s).run(asyncio.get_running_loop().time() - 1))
    while until not in diary.lines:  # noqa: ASYNC110 -- a list sets no event.
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert diary.lines[diary.lines.index(until) + 1 :] == then
