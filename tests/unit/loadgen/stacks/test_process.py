"""One program as a process: ready, not ready, deaf, dead."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadgen.stack_api import StackError
from loadgen.stacks import process, program_log
from loadgen.stacks.process import Program, find_program
from servicekit.address import Address

SOCKS = {"socks": "--listen"}


@pytest.fixture
def command(record: Any, fake_command: Callable[[str], list[str]]) -> list[str]:
    return fake_command("proxy-client")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_program_is_started_when_it_listens_and_is_ready(command: list[str], tmp_path: Path) -> None:
    program = await Program.start("proxy-client", command, SOCKS, tmp_path)

    assert program.addresses["socks"] == Address("127.0.0.1", 1)
    assert program.metrics_url == f"http://{program.addresses['metrics']}/metrics"
    assert alive(program.pid)
    assert await program.stop() == 0
    assert not alive(program.pid)
    assert "a line that is no JSON" in program.last_lines()


async def test_addresses_of_an_earlier_run_in_the_same_log_are_not_taken(command: list[str], tmp_path: Path) -> None:
    stale = '{"event": "listening", "listener": "socks", "address": "127.0.0.1:9"}\n'
    (tmp_path / "proxy-client.log").write_text(stale)

    program = await Program.start("proxy-client", command, SOCKS, tmp_path)
    await program.stop()

    assert program.addresses["socks"] == Address("127.0.0.1", 1)


async def test_a_program_that_ends_while_starting_is_reported_with_its_last_lines(
    command: list[str], tmp_path: Path, behave: Callable[..., None]
) -> None:
    behave({"proxy-client": "dies"})

    with pytest.raises(StackError, match=r"(?s)proxy-client ended with exit code 3.*cannot bind: no such luck"):
        await Program.start("proxy-client", command, SOCKS, tmp_path)


async def test_a_program_that_never_gets_ready_is_ended_and_its_reason_reported(
    command: list[str], tmp_path: Path, behave: Callable[..., None], record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave({"proxy-client": "never ready"})
    monkeypatch.setattr(process, "START_TIMEOUT_S", 0.5)

    with pytest.raises(StackError, match=r"is not ready after 0\.5 s: no tunnel connection yet"):
        await Program.start("proxy-client", command, SOCKS, tmp_path)

    assert record.order() == ["start proxy-client", "end proxy-client"]


async def test_a_missing_listener_is_named(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_TIMEOUT_S", 0.5)

    with pytest.raises(StackError, match="no listener http, server_first"):
        await Program.start(
            "proxy-client", command, {"http": "--listen", "server_first": "--server-first-listen"}, tmp_path
        )


async def test_a_program_deaf_to_sigterm_is_killed_after_the_bound(
    command: list[str], tmp_path: Path, behave: Callable[..., None], record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave({"proxy-client": "deaf"})
    monkeypatch.setattr(process, "STOP_TIMEOUT_S", 0.2)
    program = await Program.start("proxy-client", command, SOCKS, tmp_path)

    assert await program.stop() == -signal.SIGKILL
    assert record.order() == ["start proxy-client", "deaf proxy-client"]


async def test_a_cancelled_start_leaves_no_process(
    command: list[str], tmp_path: Path, behave: Callable[..., None], record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave({"proxy-client": "never ready"})
    started: list[asyncio.subprocess.Process] = []
    create = asyncio.create_subprocess_exec

    async def create_and_note(*command: Any, **how: Any) -> Any:
        started.append(await create(*command, **how))
        return started[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", create_and_note)
    start = asyncio.create_task(Program.start("proxy-client", command, SOCKS, tmp_path))
    while not record.lines():  # noqa: ASYNC110  # another process writes it
        await asyncio.sleep(0.01)

    pid = started[0].pid
    assert alive(pid)

    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start

    assert not alive(pid)


async def test_a_program_ends_with_the_process_that_started_it(command: list[str], tmp_path: Path, record: Any) -> None:
    if sys.platform != "linux":
        pytest.skip("PR_SET_PDEATHSIG is Linux's")
    source = (
        "import asyncio, os, pathlib, sys\n"
        "from loadgen.stacks.process import Program\n"
        "async def main():\n"
        "    await Program.start('proxy-client', sys.argv[2:], {'socks': '--listen'}, pathlib.Path(sys.argv[1]))\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", source, str(tmp_path), *command)

    assert await asyncio.wait_for(parent.wait(), 20) == -signal.SIGKILL
    async with asyncio.timeout(10):
        while record.order() != ["start proxy-client", "end proxy-client"]:  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.01)


async def test_a_program_does_not_start_where_the_one_that_starts_it_is_dead(command: list[str], record: Any) -> None:
    if sys.platform != "linux":
        pytest.skip("PR_SET_PDEATHSIG is Linux's")
    source = (
        "import os, subprocess, sys\n"
        "from loadgen.stacks.process import ending_with_us\n"
        "command = ending_with_us(sys.argv[1:])\n"
        "print(subprocess.Popen(command, stderr=subprocess.DEVNULL).pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"  # long before the Python of the command has done anything
    )
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", source, *command, stdout=pipe)
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 20))
    try:
        await asyncio.wait_for(parent.stdout.read(), 5)  # to its end: then nobody has it any more
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)

    assert await parent.wait() == -signal.SIGKILL
    assert record.order() == []


async def test_a_long_log_is_emptied_and_its_text_kept_beside_it(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_log, "LOG_BYTES", 1000)
    monkeypatch.setattr(program_log, "_CHECK_S", 0.01)
    program = await Program.start("proxy-client", command, SOCKS, tmp_path)
    kept = tmp_path / "proxy-client.log.1"

    with program.log.path.open("a") as file:
        file.write("x" * 2000)
    async with asyncio.timeout(5):
        while not kept.exists() or program.log.path.read_text():  # noqa: ASYNC110  # a task of the program's does it
            await asyncio.sleep(0.01)
    await program.stop()

    assert kept.read_text().endswith("x" * 2000)


def test_a_program_that_is_not_installed_is_said() -> None:
    with pytest.raises(StackError, match="no-such-program is not installed"):
        find_program("no-such-program")
