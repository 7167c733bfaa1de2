"""The plan file of a stack's own, and what the link has to answer."""

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadgen.link.plan import Direction, Plan, Window, read
from loadgen.stack_api import StackError
from loadgen.stacks import link_control
from loadgen.stacks.link_control import LinkControl, LinkPlan
from loadgen.stacks.program_log import Event

BLACKHOLE = Window(from_s=0, blackhole=True, direction=Direction.CLIENT_TO_SERVER)


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """A plan that somebody asks for."""
    path = tmp_path / "asked.toml"
    path.write_text("delay_ms = 7\nat = [{from_s = 1, to_s = 2, loss = 1e-05}]\n")
    return path


@pytest.mark.parametrize("spelling", [("--plan", "{}"), ("--plan={}",)])
def test_flags_stay_and_the_plan_becomes_the_stacks_own(tmp_path: Path, asked: Path, spelling: Sequence[str]) -> None:
    given = [part.format(asked) for part in spelling]
    plan = LinkPlan(["--jitter-ms", "2", *given, "--seed=3"], tmp_path / "link")

    assert plan.arguments("/plan") == ["--jitter-ms", "2", "--seed=3", "--plan", "/plan/plan.toml"]
    assert read(tmp_path / "link" / "plan.toml") == read(asked)


def test_windows_lie_on_top_of_the_plan_until_others_do(tmp_path: Path, asked: Path) -> None:
    plan = LinkPlan(["--plan", str(asked)], tmp_path / "link")
    own = tmp_path / "link" / "plan.toml"

    plan.write([BLACKHOLE])
    assert read(own) == Plan(delay_ms=7, at=(*read(asked).at, BLACKHOLE))
    plan.write([])
    assert read(own) == read(asked)


def test_a_reader_never_sees_half_a_plan(tmp_path: Path) -> None:
    plan = LinkPlan([], tmp_path / "link")
    with (tmp_path / "link" / "plan.toml").open() as old:
        plan.write([BLACKHOLE])

        assert old.read().strip() == ""
    assert [path.name for path in (tmp_path / "link").iterdir()] == ["plan.toml"]


def test_a_plan_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("loss = 2")

    with pytest.raises(StackError, match=r"bad\.toml: loss"):
        LinkPlan(["--plan", str(tmp_path / "bad.toml")], tmp_path / "link")
    with pytest.raises(StackError, match="name of a file"):
        LinkPlan(["--plan"], tmp_path / "link")


class FakeLink:
    """A link that answers a signal with these events."""

    def __init__(self, *answers: Event) -> None:
        self.answers = answers
        self.signals: list[signal.Signals] = []
        self.logged: list[Event] = [{"event": "plan_reread", "number": 1}, {"event": "rebound", "number": 1}]

    async def send(self, number: signal.Signals) -> None:
        self.signals.append(number)
        self.logged += [{**answer, "number": len(self.logged)} for answer in self.answers]

    async def events(self) -> Sequence[Event]:
        return self.logged


def control_of(link: FakeLink, directory: Path) -> LinkControl:
    return LinkControl(LinkPlan([], directory / "link"), link.send, link.events)


async def test_what_is_told_is_in_force_when_the_link_says_so(tmp_path: Path) -> None:
    link = FakeLink({"event": "other"}, {"event": "plan_reread"}, {"event": "rebound"})
    control = control_of(link, tmp_path)

    await control.impair([BLACKHOLE])
    await control.rebind()

    assert link.signals == [signal.SIGHUP, signal.SIGUSR1]


async def test_an_earlier_answer_is_none_to_this_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_control, "ANSWER_TIMEOUT_S", 0.1)
    control = control_of(FakeLink(), tmp_path)

    with pytest.raises(StackError, match="does not answer SIGHUP"):
        await control.impair([])
    with pytest.raises(StackError, match="does not answer SIGUSR1"):
        await control.rebind()


async def test_a_refused_plan_is_an_error(tmp_path: Path) -> None:
    control = control_of(FakeLink({"event": "plan_refused", "reason": "not today"}), tmp_path)

    with pytest.raises(StackError, match="refuses its plan: not today"):
        await control.impair([])


async def test_an_answer_counts_in_a_log_that_was_emptied_too(tmp_path: Path) -> None:
    link = FakeLink()
    control = control_of(link, tmp_path)

    async def send_and_empty(number: signal.Signals) -> None:
        link.logged = [{"event": "plan_reread", "number": 2}]

    control._send = send_and_empty

    await control.impair([])


async def test_what_the_link_does_by_its_plan_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_control, "ANSWER_TIMEOUT_S", 0.1)
    control = control_of(FakeLink({"event": "rebound", "flows": 1, "planned": True}), tmp_path)

    with pytest.raises(StackError, match="does not answer SIGUSR1"):
        await control.rebind()


async def test_a_rebind_of_no_flow_is_an_error(tmp_path: Path) -> None:
    control = control_of(FakeLink({"event": "rebound", "flows": 0, "planned": False}), tmp_path)

    with pytest.raises(StackError, match="no flow to rebind"):
        await control.rebind()


async def test_a_plan_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    control = control_of(FakeLink(), tmp_path)
    (tmp_path / "link" / ".plan.toml").mkdir()

    with pytest.raises(StackError, match="the link's plan cannot be written"):
        await control.impair([BLACKHOLE])
