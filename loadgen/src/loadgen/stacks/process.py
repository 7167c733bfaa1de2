"""One program of a stack as a process: its addresses learnt from its log, its end by pid.

Rules
- stderr goes straight into PROGRAM.log: whoever started the program may be slow, and the program never waits for it. A
  log longer than `LOG_BYTES` is emptied, the old text kept beside it as PROGRAM.log.1.
- Started means: each listener has logged where it listens, and /readyz says 200; both within `START_TIMEOUT_S`.
- Stopped means: SIGTERM, at most `STOP_TIMEOUT_S`, then SIGKILL. Signals go to the pid and to nothing else.
- The program is in a session of its own, so that Ctrl-C in a terminal reaches only the one who started it; on Linux it
  gets a SIGTERM when that one dies.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from loadgen.stack_api import StackError
from servicekit.address import Address

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 30.0
LOG_BYTES = 32 * 1024 * 1024
"""Worst case on disk: twice this for each program."""

_POLL_S = 0.02
_LOG_CHECK_S = 5.0
_LAST_LINES = 20

_END_WITH_THE_PARENT: tuple[str, ...] = ()
"""What a command is started through. Not a preexec_fn: that is not safe where the parent has threads."""
if sys.platform == "linux":
    _END_WITH_THE_PARENT = (
        sys.executable,
        "-ISc",
        "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])",
    )  # PR_SET_PDEATHSIG, SIGTERM


def find_program(name: str) -> str:
    """Returns the path of a program: next to this Python, else on PATH. Raises StackError."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise StackError(f"{name} is not installed next to {sys.executable} nor on PATH; `make setup` installs it")
    return found


class Program:
    """A running program. Made by `start`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self.addresses: dict[str, Address] = {}
        """Where it listens, by the listener's name in its log."""
        self._process = process
        self._log_watch: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        listeners: Sequence[str],
        logs: Path,
        environment: Mapping[str, str] | None = None,
    ) -> "Program":
        """Starts `command` and waits until it is ready: its `listeners` and "metrics" are then in `addresses`.

        `environment` replaces the inherited one. Raises StackError, with the last lines of its log, when it is not
        ready in time; then, and when it is cancelled, the process has been ended.
        """
        log = logs / f"{name}.log"
        with log.open("ab") as stderr:
            stderr.truncate(0)
            process = await asyncio.create_subprocess_exec(
                *_END_WITH_THE_PARENT,
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=stderr,
                env=None if environment is None else dict(environment),
                start_new_session=True,
            )
        program = cls(name, process, log)
        try:
            await program._until_ready({*listeners, "metrics"})
        except BaseException:
            await program.stop()
            raise
        program._log_watch = asyncio.create_task(_cap(log))
        return program

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.returncode

    @property
    def metrics_url(self) -> str:
        return f"http://{self.addresses['metrics']}/metrics"

    async def stop(self) -> int:
        """Ends the process, if it still runs, and returns its exit code. A cancellation kills it at once."""
        if self._log_watch:
            self._log_watch.cancel()
        try:
            if self._process.returncode is None:
                self._signal(signal.SIGTERM)
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._process.wait()
        except TimeoutError:
            pass
        finally:
            if self._process.returncode is None:
                self._signal(signal.SIGKILL)
        return await self._process.wait()

    def last_lines(self) -> str:
        """The end of its log, for people."""
        with self.log.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 64 * 1024, 0))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-_LAST_LINES:])

    def _signal(self, number: signal.Signals) -> None:
        try:
            self._process.send_signal(number)
        except ProcessLookupError:  # it ended between the look and the signal
            pass

    async def _until_ready(self, listeners: set[str]) -> None:
        deadline_s = monotonic() + START_TIMEOUT_S
        read_bytes, rest = 0, b""
        waits_for = ""
        while monotonic() < deadline_s:
            if self._process.returncode is not None:
                raise self._not_started(f"ended with exit code {self._process.returncode}")
            with self.log.open("rb") as file:
                file.seek(read_bytes)
                fresh = file.read()
            read_bytes += len(fresh)
            *lines, rest = (rest + fresh).split(b"\n")
            self.addresses |= dict(filter(None, map(_listening, lines)))
            if missing := listeners - self.addresses.keys():
                waits_for = f"no listener {', '.join(sorted(missing))}"
            elif not (waits_for := await asyncio.to_thread(_unready, self.addresses["metrics"])):
                return
            await asyncio.sleep(_POLL_S)
        raise self._not_started(f"is not ready after {START_TIMEOUT_S:g} s: {waits_for}")

    def _not_started(self, reason: str) -> StackError:
        lines = self.last_lines()
        return StackError(f"{self.name} {reason}; the end of its log:\n{lines or 'nothing was logged'}")


def _listening(line: bytes) -> tuple[str, Address] | None:
    """Reads a `listening` event: (listener, address); None for every other line."""
    try:
        event = json.loads(line)
        return (event["listener"], Address.parse(event["address"])) if event["event"] == "listening" else None
    except (ValueError, KeyError, TypeError):
        return None


def _unready(metrics: Address) -> str:
    """Asks /readyz; returns the reason why it is not ready, empty when it is."""
    opener = build_opener(ProxyHandler({}))  # whatever proxy the environment names is not for loopback
    try:
        with opener.open(f"http://{metrics}/readyz", timeout=2):
            return ""
    except HTTPError as error:
        with error:
            return error.read(500).decode(errors="replace").strip()
    except OSError as error:
        return str(error)


async def _cap(log: Path) -> None:
    """Keeps a log that its program appends to below a size, for as long as it is not cancelled."""
    while True:
        await asyncio.sleep(_LOG_CHECK_S)
        await asyncio.to_thread(_cut, log)


def _cut(log: Path) -> None:
    if log.stat().st_size > LOG_BYTES:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)
