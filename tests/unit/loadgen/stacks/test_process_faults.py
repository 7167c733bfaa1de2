"""One program as a process, broken on purpose: paused, killed, stopped, started again."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadgen.stack_api import StackError
from loadgen.stacks import process
from loadgen.stacks.process import Program, pinned
from servicekit.address import Address

SOCKS = {"socks": "--listen"}


@pytest.fixture
def command(record: Any, fake_command: Callable[[str], list[str]]) -> list[str]:
    return fake_command("proxy-client")


@pytest.fixture
async def program(command: list[str], tmp_path: Path) -> Any:
    """A running one."""
    program = await Program.start("proxy-client", command, SOCKS, tmp_path)
    yield program
    await program.stop(at_once=True)


def state_of(pid: int) -> str:
    """One letter: S sleeps, R runs, T stands still."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux_only
async def test_a_paused_program_stands_still_until_it_is_resumed(program: Program) -> None:
    await program.pause()
    assert state_of(program.pid) == "T"

    await program.resume()
    assert state_of(program.pid) in "RS"


async def test_a_pause_on_top_of_a_pause_is_an_error_and_a_resume_too_many_is_none(program: Program) -> None:
    await program.pause()
    with pytest.raises(StackError, match="is paused already"):
        await program.pause()

    await program.resume()
    await program.resume()


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_paused_program_can_be_stopped(program: Program, record: Any, at_once: bool) -> None:
    await program.pause()

    assert await program.stop(at_once=at_once) == 0
    assert record.order() == ["start proxy-client", "end proxy-client"]


async def test_a_killed_program_has_ended_without_a_word(program: Program, record: Any) -> None:
    await program.pause()
    await program.kill()

    assert program.returncode == -signal.SIGKILL
    assert program.ended_by_us
    assert record.order() == ["start proxy-client"]
    for fault in (program.kill, program.pause, program.resume):
        with pytest.raises(StackError, match=r"proxy-client does not run; it ended with exit code -9"):
            await fault()


async def test_one_that_drains_for_ever_ends_when_it_is_told_twice(
    behave: Callable[..., None], record: Any, command: list[str], tmp_path: Path
) -> None:
    behave({"proxy-client": "drains for ever"})
    program = await Program.start("proxy-client", command, SOCKS, tmp_path)

    assert await program.stop(at_once=True) == 0
    assert record.order()[-1] == "end proxy-client"


async def test_one_that_is_deaf_at_once_too_is_killed_after_the_bound(
    behave: Callable[..., None], command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave({"proxy-client": "deaf"})
    monkeypatch.setattr(process, "AT_ONCE_TIMEOUT_S", 0.2)
    program = await Program.start("proxy-client", command, SOCKS, tmp_path)

    assert await program.stop(at_once=True) == -signal.SIGKILL


async def test_a_cancelled_stop_leaves_no_process(
    behave: Callable[..., None], command: list[str], tmp_path: Path, record: Any
) -> None:
    behave({"proxy-client": "deaf"})
    program = await Program.start("proxy-client", command, SOCKS, tmp_path)
    stop = asyncio.create_task(program.stop())
    while "deaf proxy-client" not in record.order():  # noqa: ASYNC110  # another process writes it
        await asyncio.sleep(0.01)

    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop

    assert program.returncode == -signal.SIGKILL


async def test_a_program_that_is_started_again_is_where_it_was(program: Program, record: Any) -> None:
    before, pid = dict(program.addresses), program.pid
    await program.kill()

    await program.start_again()

    assert program.addresses == before
    assert program.pid != pid
    assert alive(program.pid)
    assert not program.ended_by_us
    (_, _, first), (_, _, again) = record.lines()
    assert first == []
    assert again == ["--listen", str(before["socks"]), "--metrics-listen", str(before["metrics"])]


@pytest.mark.parametrize("fault", [Program.kill, Program.stop])
async def test_one_whose_end_was_cancelled_half_way_is_started_again_all_the_same(
    program: Program, fault: Callable[[Program], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal is on its way, the end not seen yet: it only looks as if it ran."""
    pid = program.pid
    with monkeypatch.context() as unseen:
        unseen.setattr(program._process, "wait", asyncio.Event().wait)
        ending = asyncio.ensure_future(fault(program))
        for _ in range(2):  # a stop makes a SIGKILL of the first one, and waits
            await asyncio.sleep(0)
            ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending

    await program.start_again()

    assert program.returncode is None
    assert program.pid != pid
    assert not program.ended_by_us


async def test_one_that_runs_is_not_started_again(program: Program, record: Any) -> None:
    await program.start_again()

    assert record.order() == ["start proxy-client"]


async def test_the_log_of_the_time_before_is_kept(program: Program) -> None:
    await program.kill()
    before = program.log.path.read_text()
    await program.start_again()

    assert program.log.path.read_text() == before + program.log.text()
    assert program.log.text().count("listening") == 2


@pytest.fixture
def taken(program: Program) -> Iterator[Callable[[], socket.socket]]:
    """Somebody listens at the program's metrics port, once it has left it."""
    with socket.socket() as holder:

        def take() -> socket.socket:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", program.addresses["metrics"].port))
            holder.listen()
            return holder

        yield take


async def test_a_port_that_is_taken_for_a_moment_is_waited_for(
    program: Program, taken: Callable[[], socket.socket], record: Any
) -> None:
    await program.kill()
    holder = taken()
    start = asyncio.create_task(program.start_again())
    while record.order().count("start proxy-client") < 3:  # noqa: ASYNC110  # another process writes it
        await asyncio.sleep(0.01)
    assert not start.done()

    holder.close()
    await start

    assert alive(program.pid)


async def test_a_port_that_stays_taken_is_an_error(
    program: Program, taken: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PORT_TIMEOUT_S", 0.1)
    await program.kill()
    taken()

    with pytest.raises(StackError, match=r"(?s)proxy-client ended with exit code 1.*Address already in use"):
        await program.start_again()


async def test_one_that_does_not_come_back_is_reported_with_its_last_lines(
    behave: Callable[..., None], command: list[str], tmp_path: Path
) -> None:
    behave({"proxy-client": "dies again"})
    program = await Program.start("proxy-client", command, SOCKS, tmp_path)
    await program.kill()

    with pytest.raises(StackError, match=r"(?s)proxy-client ended with exit code 3.*cannot bind: no such luck"):
        await program.start_again()
    assert not alive(program.pid)


@linux_only
async def test_a_paused_program_too_ends_with_the_process_that_started_it(
    command: list[str], tmp_path: Path, record: Any
) -> None:
    source = (
        "import asyncio, os, pathlib, sys\n"
        "from loadgen.stacks.process import Program\n"
        "async def main():\n"
        "    command, logs = sys.argv[2:], pathlib.Path(sys.argv[1])\n"
        "    program = await Program.start('proxy-client', command, {'socks': '--listen'}, logs)\n"
        "    await program.pause()\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", source, str(tmp_path), *command)

    assert await asyncio.wait_for(parent.wait(), 20) == -signal.SIGKILL
    async with asyncio.timeout(10):
        while record.order() != ["start proxy-client", "end proxy-client"]:  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.01)


def test_addresses_are_pinned_whatever_was_said_of_them() -> None:
    command = ["proxy", "link", "--listen", "a:0", "--engine=x", "--listen=b:0", "--listen-too", "c:0"]

    assert pinned(command, {"--listen": Address("127.0.0.1", 7)}) == [
        *("proxy", "link", "--engine=x", "--listen-too", "c:0"),
        *("--listen", "127.0.0.1:7"),
    ]
