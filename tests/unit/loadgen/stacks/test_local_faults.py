"""The local stack, with stand-ins for the programs, broken on purpose."""

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from loadgen.link.plan import Plan, Window, read
from loadgen.stack_api import RTT_20_MS, Faults, ProgramEndedBadlyError, StackError, StackSettings
from loadgen.stacks import link_control, process
from loadgen.stacks.local import local_stack

BLACKHOLE = Window(from_s=0, blackhole=True)


pytestmark = pytest.mark.usefixtures("stand_ins")


async def test_process_ids_follow_a_restart(record: Any) -> None:
    async with local_stack(StackSettings()) as stack:
        assert stack.faults is not None
        before, metrics = stack.pids, dict(stack.metrics)
        await stack.faults.kill("proxy-server")
        assert "proxy-server" not in stack.pids
        await stack.faults.start("proxy-server")

        assert stack.pids["proxy-server"] != before["proxy-server"]
        assert {**stack.pids, "proxy-server": 0} == {**before, "proxy-server": 0}
        assert stack.metrics == metrics

    assert record.order()[3:] == ["start proxy-server", "end proxy-client", "end proxy-server", "end http-target"]


async def test_a_stack_ends_whatever_state_its_programs_are_in(record: Any) -> None:
    async with local_stack(StackSettings()) as stack:
        assert stack.faults is not None
        await stack.faults.pause("proxy-client")
        await stack.faults.stop("proxy-server", at_once=True)
        await stack.faults.kill("http-target")

    assert record.order()[3:] == ["end proxy-server", "end proxy-client"]


async def test_the_link_gets_a_plan_and_a_signal_and_answers(record: Any) -> None:
    async with local_stack(StackSettings(link=RTT_20_MS)) as stack:
        assert stack.faults is not None
        flags = record.flags("link")
        plan = Path(flags[flags.index("--plan") + 1])
        assert read(plan) == Plan()

        await stack.faults.impair([BLACKHOLE])
        assert read(plan) == Plan(at=(BLACKHOLE,))
        await stack.faults.impair([])
        assert read(plan) == Plan()
        await stack.faults.rebind()

    assert record.order()[4:7] == ["hup link", "hup link", "usr1 link"]


async def test_a_further_plan_goes_before_the_one_that_was_asked_for(record: Any, tmp_path: Path) -> None:
    (tmp_path / "asked.toml").write_text("loss = 0.5")
    settings = StackSettings(link=RTT_20_MS, arguments={"link": ("--plan", str(tmp_path / "asked.toml"))})

    async with local_stack(settings):
        flags = record.flags("link")

        assert flags.count("--plan") == 1
        assert read(Path(flags[flags.index("--plan") + 1])) == Plan(loss=0.5)


async def test_a_link_that_refuses_or_does_not_answer_is_an_error(
    behave: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_control, "ANSWER_TIMEOUT_S", 0.2)
    behave({"link": "refuses"})
    async with local_stack(StackSettings(link=RTT_20_MS)) as stack:
        assert stack.faults is not None
        with pytest.raises(StackError, match="refuses its plan: not today"):
            await stack.faults.impair([BLACKHOLE])
    behave({"link": "mute"})
    async with local_stack(StackSettings(link=RTT_20_MS)) as stack:
        assert stack.faults is not None
        with pytest.raises(StackError, match="does not answer SIGUSR1"):
            await stack.faults.rebind()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda faults: faults.pause("link"), "there is no link in this stack; there are http-target"),
        (lambda faults: faults.impair([]), "there is no link in this stack"),
        (lambda faults: faults.rebind(), "there is no link in this stack"),
        (lambda faults: faults.disconnect("proxy-server"), "only in the compose stack"),
        (lambda faults: faults.connect("proxy-server"), "only in the compose stack"),
    ],
)
async def test_what_cannot_be_done_is_said(fault: Callable[[Faults], Awaitable[None]], reason: str) -> None:
    async with local_stack(StackSettings()) as stack:
        assert stack.faults is not None
        with pytest.raises(StackError, match=reason):
            await fault(stack.faults)


async def test_faults_of_what_has_ended_are_errors() -> None:
    async with local_stack(StackSettings(link=())) as stack:
        assert stack.faults is not None
        await stack.faults.kill("link")

        with pytest.raises(StackError, match="link does not run"):
            await stack.faults.stop("link", at_once=False)
        with pytest.raises(StackError, match="link does not run"):
            await stack.faults.impair([])


async def test_a_drain_that_needs_a_sigkill_is_the_programs_failure(
    behave: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STOP_TIMEOUT_S", 0.2)
    behave({"http-target": "deaf"})
    async with local_stack(StackSettings()) as stack:
        assert stack.faults is not None
        with pytest.raises(ProgramEndedBadlyError, match=r"(?s)http-target ended badly, with exit code -9.*listening"):
            await stack.faults.stop("http-target", at_once=False)

        assert "http-target" not in stack.pids


@pytest.mark.parametrize(
    ("code", "drained_badly", "stopped_badly"),
    [(0, False, False), (1, True, False), (-15, True, False), (143, True, False), (-9, True, True), (70, True, True)],
)
def test_what_is_cut_at_once_may_be_said_in_the_exit_code(code: int, drained_badly: bool, stopped_badly: bool) -> None:
    assert process.ended_badly(code, at_once=False) is drained_badly
    assert process.ended_badly(code, at_once=True) is stopped_badly


async def test_another_executable_takes_the_place_of_a_program(
    record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}
    start = process.Program.start

    async def look(name: str, command: list[str], *rest: Any) -> Any:
        seen[name] = command[0]
        return await start(name, command, *rest)

    monkeypatch.setattr(process.Program, "start", look)
    other = tmp_path / "other"
    other.touch(mode=0o755)

    async with local_stack(StackSettings(programs={"proxy-server": other})):
        pass
    assert seen == {"http-target": "http-target", "proxy-server": str(other), "proxy-client": "proxy-client"}

    other.chmod(0o644)
    with pytest.raises(StackError, match="other, which is to be proxy-server, is not an executable file"):
        async with local_stack(StackSettings(programs={"proxy-server": other})):
            pass


def test_nothing_can_be_asked_of_a_program_that_is_not_there() -> None:
    with pytest.raises(StackError, match="there is none in this stack"):
        StackSettings(arguments={"link": ("--seed", "1")})
    with pytest.raises(StackError, match="no program proxy in a stack"):
        StackSettings(programs={"proxy": Path("/bin/true")})


async def test_a_program_that_somebody_else_killed_is_told_of_at_the_end() -> None:
    with capture_logs() as logged:
        async with local_stack(StackSettings()) as stack:
            process_of = stack.programs["http-target"]  # type: ignore[attr-defined]
            process_of.signal(signal.SIGKILL)

    assert [line["program"] for line in logged if line["event"] == "program_ended_badly"] == ["http-target"]
