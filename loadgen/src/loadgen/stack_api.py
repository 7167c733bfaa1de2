"""What a soak needs to know of a stack, and nothing of how the stack is made.

Rules
- A stack is an async context manager: everything in it is up and ready on entry, and ended (by pid or container id) on
  exit. What cannot be brought up raises StackError, the reason in words.
- Processes of a stack do not get the terminal's Ctrl-C (they start in a session of their own): the soak drains first.
- Names of programs are the keys everywhere: "proxy-client", "proxy-server", "http-target", "link".
- What a stack does not know it leaves out (an empty mapping); a soak then measures less, and says so.
- A stack can break itself on request (`Faults`), where it is this project that runs it.

The implementations, imported when they are asked for:
    loadgen.stacks.local:local_stack(settings: StackSettings) -> AsyncContextManager[Stack]
    loadgen.stacks.compose:compose_stack(settings: StackSettings) -> AsyncContextManager[GeneratingStack]
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from loadgen.link.plan import Window
from servicekit.address import Address


class StackError(Exception):
    """The stack cannot be brought up, or not do what is asked of it; the message says why and what would help."""


class ProgramEndedBadlyError(StackError):
    """What was asked of the stack is done, but the program did not end as it should: the failure is the program's."""

    def __init__(self, program: str, exit_code: int, last_lines: str) -> None:
        """`exit_code` as the stack has it; for a signal -9 in the local stack is 137 in containers."""
        super().__init__(
            f"{program} ended badly, with exit code {exit_code};"
            f" the end of its log:\n{last_lines or 'nothing was logged'}"
        )
        self.program = program
        self.exit_code = exit_code
        self.last_lines = last_lines


PROGRAMS = ("proxy-client", "proxy-server", "http-target", "link")
"""What a stack can be made of."""

RTT_20_MS = ("--delay-ms", "10")
"""What `link` does unless asked otherwise: 10 ms each way."""


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What is asked of a stack."""

    link: tuple[str, ...] | None = None
    """Arguments of `loadgen link` besides its addresses; None: no link between the proxies."""
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further arguments, by program."""
    logs_directory: Path | None = None
    """Where each program's stderr goes, as PROGRAM.log; None: a temporary directory of the stack's own."""
    programs: Mapping[str, Path] = field(default_factory=dict)
    """Stack local: another executable for a program."""

    def __post_init__(self) -> None:
        """Raises StackError where something is asked of a program that is not in the stack."""
        asked = {*self.programs, *(name for name, arguments in self.arguments.items() if arguments)}
        if self.link is None and "link" in asked:
            raise StackError("something is asked of the link, and there is none in this stack; --link adds one")
        if unknown := sorted(asked - {*PROGRAMS}):
            raise StackError(f"there is no program {unknown[0]} in a stack; there are {', '.join(PROGRAMS)}")


class Faults(Protocol):
    """What a stack can do to itself. Each returns when it is in force, and raises StackError where it cannot be.

    Whatever is still in force when the stack ends is undone by its end: no process and no container stays.
    """

    async def impair(self, windows: Sequence[Window]) -> None:
        """What the link does from now on, on top of its own plan; no windows: nothing more than its own plan.

        Replaces what an earlier call asked for. `from_s` and `to_s` of the windows count from the start of the link:
        0 and infinity for what shall hold from now until the next call.
        """

    async def rebind(self) -> None:
        """As behind a NAT that has forgotten its flows: each gets a new source port towards the server."""

    async def pause(self, program: str) -> None:
        """Stops its clock (SIGSTOP); it neither reads nor answers, its sockets stay."""

    async def resume(self, program: str) -> None:
        """Goes on after `pause`."""

    async def kill(self, program: str) -> None:
        """SIGKILL, and it has ended."""

    async def stop(self, program: str, *, at_once: bool) -> None:
        """SIGTERM, and it has ended: after its drain, or `at_once` (a second SIGTERM). SIGKILL after a bound.

        Raises ProgramEndedBadlyError where it has ended, but by SIGKILL, or with an exit code that is none of an
        orderly end: 0, and `at_once` also 1 (what was open had to be cut).
        """

    async def start(self, program: str) -> None:
        """The same program again after `kill` or `stop`, at the same addresses, and it is ready."""

    async def disconnect(self, program: str) -> None:
        """Off the network, both ways. Stack compose only."""

    async def connect(self, program: str) -> None:
        """On the network again, under the same name."""


class Stack(Protocol):
    """Addresses and processes of a running stack."""

    @property
    def proxy(self) -> Address:
        """Where SOCKS5 is spoken, as the generator reaches it."""

    @property
    def target(self) -> Address:
        """http-target, as the *proxy's far end* reaches it (a name is resolved there)."""

    @property
    def server_first(self) -> Address:
        """http-target's port that speaks first."""

    @property
    def metrics(self) -> Mapping[str, str]:
        """URL of the Prometheus text, by program: {"proxy-client": "http://127.0.0.1:9101/metrics"}."""

    @property
    def pids(self) -> Mapping[str, int]:
        """Process ids in the generator's own /proc, by program; asked again after a restart they are the new ones."""

    @property
    def faults(self) -> Faults | None:
        """How to break it; None for what somebody else runs."""


class GeneratingStack(Stack, Protocol):
    """A stack with a generator of its own (the `loadgen` container); addresses are as that generator reaches them."""

    async def soak(
        self,
        arguments: Sequence[str],
        report: Path,
        *,
        on_line: Callable[[str], None] | None = None,
        marks: Path | None = None,
    ) -> int:
        """Runs `loadgen soak ARGUMENTS --report SOMEWHERE` in the stack; output appears here as it comes.

        `arguments` are complete: `--stack external` with the addresses and metrics of this stack is among them.
        `on_line` gets each line of the generator's stderr, without its end, in the event loop's thread. `marks` is a
        directory of this machine that the generator sees as /marks, read-only.
        Afterwards the files of the run's report directory are in `report`. Returns the exit code. A cancellation
        sends SIGTERM, which drains and still makes a report. A continuous load of the stack's own is paused
        meanwhile: the drain phase waits until every gauge is back at zero.
        """


StackFactory = Callable[[StackSettings], AbstractAsyncContextManager[Stack]]
