"""What a soak needs to know of a stack, and nothing of how the stack is made.

Rules
- A stack is an async context manager: everything in it is up and ready on entry, and ended (by pid or container id) on
  exit. What cannot be brought up raises StackError, the reason in words.
- Processes of a stack do not get the terminal's Ctrl-C (they start in a session of their own): the soak drains first.
- Names of programs are the keys everywhere: "proxy-client", "proxy-server", "http-target", "link".
- What a stack does not know it leaves out (an empty mapping); a soak then measures less, and says so.

The implementations, imported when they are asked for:
    loadgen.stacks.local:local_stack(settings: StackSettings) -> AsyncContextManager[Stack]
    loadgen.stacks.compose:compose_stack(settings: StackSettings) -> AsyncContextManager[GeneratingStack]
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from servicekit.address import Address


class StackError(Exception):
    """The stack cannot be brought up; the message says why and what would help."""


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
        """Process ids in the generator's own /proc, by program."""

    @property
    def engine(self) -> Mapping[str, str]:
        """The QUIC engine of each side: {"client": "aioquic", "server": "aioquic"}; empty where it is not known."""


class GeneratingStack(Stack, Protocol):
    """A stack with a generator of its own (the `loadgen` container); addresses are as that generator reaches them."""

    async def soak(self, arguments: Sequence[str], report: Path) -> int:
        """Runs `loadgen soak ARGUMENTS --report SOMEWHERE` in the stack; output appears here as it comes.

        `arguments` are complete: `--stack external` with the addresses and metrics of this stack is among them.
        Afterwards the files of the run's report directory are in `report`. Returns the exit code. A cancellation
        sends SIGTERM, which drains and still makes a report. A continuous load of the stack's own is paused
        meanwhile: the drain phase waits until every gauge is back at zero.
        """


StackFactory = Callable[[StackSettings], AbstractAsyncContextManager[Stack]]
