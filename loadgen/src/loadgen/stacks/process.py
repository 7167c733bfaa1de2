"""One program of a stack as a process: its addresses learnt from its log, its end by pid.

Rules
- Started means: each listener has logged where it listens, and /readyz says 200; both within `START_TIMEOUT_S`.
- Started again means the same command line, with the addresses pinned that the first start was given.
- Stopped means: SIGTERM, at most `STOP_TIMEOUT_S`, then SIGKILL. Signals go to the pid and to nothing else.
- A paused program hears no SIGTERM: whoever ends it wakes it, and so does the end of this process, however it comes.
- The program is in a session of its own, so that Ctrl-C in a terminal reaches only the one who started it; on Linux it
  gets a SIGTERM when that one dies, and never starts where that one is dead already.
"""

import asyncio
import errno
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from loadgen.stack_api import StackError
from loadgen.stacks.program_log import Event, ProgramLog, events
from servicekit.address import Address

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 30.0
AT_ONCE_TIMEOUT_S = 5.0
"""What a program has for ending at once, after its second SIGTERM."""
PORT_TIMEOUT_S = 5.0
"""How long a program that is started again waits for its port: somebody may have taken it for a moment."""

_ENDS_AT_ONCE = (0, 1, -signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes: 1 where something open had to be cut, SIGTERM's own where the second one found everything done."""

_POLL_S = 0.02
_PORT_POLL_S = 0.2
_TERM_AGAIN_S = 0.1
"""Between two SIGTERMs: two at once would be one."""

# PR_SET_PDEATHSIG, SIGTERM. Who has lost its parent before that hears of it from nobody.
_END_WITH_THE_PARENT = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

_WAKE_AT_THE_END = ("/bin/sh", "-c", 'read -r _; kill -CONT "$0"')
"""Waits for the end of its stdin, which comes with the end of this process, then wakes a pid."""


def ending_with_us(command: Sequence[str]) -> list[str]:
    """The command as one that gets a SIGTERM when this process dies; on Linux, elsewhere as it is.

    `command[0]` is a path. Not a preexec_fn: that is not safe where this process has threads.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-ISc", _END_WITH_THE_PARENT, f"{os.getpid()}", *command]


def find_program(name: str) -> str:
    """Returns the path of a program: next to this Python, else on PATH. Raises StackError."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise StackError(f"{name} is not installed next to {sys.executable} nor on PATH; `make setup` installs it")
    return found


def ended_badly(code: int, *, at_once: bool) -> bool:
    """Whether a program that was told to stop should not have ended with this exit code."""
    return code not in (_ENDS_AT_ONCE if at_once else (0,))


class Program:
    """A program, running most of the time. Made by `start`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        listeners: Mapping[str, str],
        log: ProgramLog,
        environment: Mapping[str, str] | None,
    ) -> None:
        self.name = name
        self.log = log
        self.addresses: dict[str, Address] = {}
        """Where it listens, by the listener's name in its log."""
        self.ended_by_us = False
        """Whether it is down because of `stop` or `kill`."""
        self._command = command
        self._listeners = {**listeners, "metrics": "--metrics-listen"}
        self._environment = environment
        self._process: asyncio.subprocess.Process
        self._log_watch: asyncio.Task[None] | None = None
        self._waker: asyncio.subprocess.Process | None = None  # while it is paused
        self._is_ending = False  # it was told to, and nothing takes that back

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        listeners: Mapping[str, str],
        logs: Path,
        environment: Mapping[str, str] | None = None,
    ) -> "Program":
        """Starts `command` and waits until it is ready: its `listeners` and "metrics" are then in `addresses`.

        `listeners` are the flags that say where to listen, by the listener's name in the log. `environment` replaces
        the inherited one. Raises StackError, with the last lines of its log, when it is not ready in time; then, and
        when it is cancelled, the process has been ended.
        """
        program = cls(name, command, listeners, ProgramLog(logs / f"{name}.log"), environment)
        program.log.empty()
        await program._launch(command)
        return program

    async def start_again(self) -> None:
        """Starts it at the same addresses, and waits until it is ready; nothing where it runs. Raises StackError.

        Where a `kill` or a `stop` was cancelled, its end is waited for.
        """
        if self._is_ending:
            await self._ended()
        if self.returncode is None:
            return
        command = pinned(self._command, {flag: self.addresses[name] for name, flag in self._listeners.items()})
        deadline_s = monotonic() + PORT_TIMEOUT_S
        while True:
            try:
                await self._launch(command)
            except StackError:
                if os.strerror(errno.EADDRINUSE) not in self.log.text() or monotonic() > deadline_s:
                    raise
            else:
                return
            await asyncio.sleep(_PORT_POLL_S)

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

    async def pause(self) -> None:
        """SIGSTOP, and it stands still. Raises StackError where it does not run."""
        self.must_run()
        if self._waker is not None:
            raise StackError(f"{self.name} is paused already")
        self._waker = await asyncio.create_subprocess_exec(
            *_WAKE_AT_THE_END, f"{self.pid}", stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        self.signal(signal.SIGSTOP)
        while sys.platform == "linux" and not _stands_still(self.pid):
            self.must_run()
            await asyncio.sleep(_POLL_S)

    async def resume(self) -> None:
        """SIGCONT; nothing where it is not paused. Raises StackError where it has ended."""
        self.must_run()
        self.signal(signal.SIGCONT)
        await self._no_waker()

    async def kill(self) -> None:
        """SIGKILL, and it has ended. Raises StackError where it had before."""
        self.must_run()
        self._is_ending = True
        self.signal(signal.SIGKILL)
        await self._ended()

    async def stop(self, *, at_once: bool = False) -> int:
        """Ends the process, if it still runs, and returns its exit code. A cancellation kills it at once.

        It drains first, unless it is told twice (`at_once`).
        """
        self._is_ending = True
        try:
            async with asyncio.timeout(AT_ONCE_TIMEOUT_S if at_once else STOP_TIMEOUT_S):
                while self.returncode is None:
                    self.signal(signal.SIGTERM)
                    self.signal(signal.SIGCONT)  # whoever has stopped it
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._process.wait(), _TERM_AGAIN_S if at_once else None)
        except TimeoutError:
            pass
        finally:
            if self.returncode is None:
                self.signal(signal.SIGKILL)
            code = await self._ended()
        return code

    def last_lines(self) -> str:
        """The end of its log, for people."""
        return self.log.last_lines()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, to nobody where it has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _launch(self, command: Sequence[str]) -> None:
        with self.log.begin() as stderr:
            self._process = await asyncio.create_subprocess_exec(
                *ending_with_us(command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=stderr,
                env=None if self._environment is None else dict(self._environment),
                start_new_session=True,
            )
        self._is_ending = False
        try:
            self.addresses = await self._until_ready()
        except BaseException:
            await self.stop()
            raise
        self.ended_by_us = False
        self._log_watch = asyncio.create_task(self.log.cap())

    async def _until_ready(self) -> dict[str, Address]:
        deadline_s = monotonic() + START_TIMEOUT_S
        waits_for = ""
        while monotonic() < deadline_s:
            if self.returncode is not None:
                raise self._not_started(f"ended with exit code {self.returncode}")
            addresses = dict(filter(None, map(_listening, events(self.log.text()))))
            if missing := self._listeners.keys() - addresses.keys():
                waits_for = f"no listener {', '.join(sorted(missing))}"
            elif not (waits_for := await asyncio.to_thread(_unready, addresses["metrics"])):
                return addresses
            await asyncio.sleep(_POLL_S)
        raise self._not_started(f"is not ready after {START_TIMEOUT_S:g} s: {waits_for}")

    def _not_started(self, reason: str) -> StackError:
        lines = self.last_lines()
        return StackError(f"{self.name} {reason}; the end of its log:\n{lines or 'nothing was logged'}")

    def must_run(self) -> None:
        """Raises StackError where it has ended."""
        if self.returncode is not None:
            raise StackError(f"{self.name} does not run; it ended with exit code {self.returncode}")

    async def _ended(self) -> int:
        if self._log_watch is not None:
            self._log_watch.cancel()
        code = await self._process.wait()
        await self._no_waker()
        self.ended_by_us = True
        return code

    async def _no_waker(self) -> None:
        waker, self._waker = self._waker, None
        if waker is not None:
            waker.kill()
            await waker.communicate()


def pinned(command: Sequence[str], flags: Mapping[str, Address]) -> list[str]:
    """`command` with these flags, and no other value of them."""
    kept = []
    arguments = iter(command)
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if name not in flags:
            kept.append(argument)
        elif not equals:
            next(arguments, None)
    return [*kept, *(part for flag, address in flags.items() for part in (flag, str(address)))]


def _listening(event: Event) -> tuple[str, Address] | None:
    """Reads a `listening` event: (listener, address); None for every other one."""
    try:
        return (event["listener"], Address.parse(event["address"])) if event["event"] == "listening" else None
    except (ValueError, KeyError, TypeError):
        return None


def _stands_still(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # it has ended
        return False
    return stat.rpartition(")")[2].split()[0] == "T"


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
