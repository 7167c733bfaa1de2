"""Processes around an acceptance script: ended with all that they have made, and by an id that is still theirs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from acceptance import proxies

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux has them")

SHELL = "/bin/sh"


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each signal to a session: whether the id was still its leader's."""
    seen: list[bool] = []
    kill = os.killpg

    def look_and_kill(pid: int, number: int) -> None:
        seen.append(Path(f"/proc/{pid}").exists())
        kill(pid, number)

    monkeypatch.setattr(os, "killpg", look_and_kill)
    return seen


def run(directory: Path, script: str, ready: Callable[[], bool]) -> None:
    with proxies._running([SHELL, "-c", script], directory / "log", ready):
        pass


def test_what_is_left_of_a_session_is_ended_after_its_leader(tmp_path: Path, signalled: list[bool]) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    deaf = tmp_path / "deaf"
    script = f"(trap '' TERM; echo > {deaf}; while :; do sleep 1; done) & wait"

    real = subprocess.Popen

    def popen(*arguments: object, **how: object) -> object:
        return real(*arguments, **how, pass_fds=[writing])  # type: ignore[call-overload]

    with pytest.MonkeyPatch.context() as passing:
        passing.setattr(subprocess, "Popen", popen)
        run(tmp_path, script, deaf.exists)
    os.close(writing)

    assert signalled == [True, True]
    with open(reading, "rb") as pipe:
        assert pipe.read() == b""  # its end: nobody of them is left


def test_one_that_ended_at_once_is_said_and_nobody_else_is_signalled(tmp_path: Path, signalled: list[bool]) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)did not start: .*no luck"):
        run(tmp_path, "echo no luck", lambda: False)

    assert signalled == [True, True]


def test_what_is_not_installed_is_said_with_what_would_help() -> None:
    with pytest.raises(SystemExit, match="no-such is not installed; on Debian: apt-get install"):
        proxies.must_be_installed("no-such")
