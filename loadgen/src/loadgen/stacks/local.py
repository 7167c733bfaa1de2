"""The stack as processes on loopback: proxy-client -> (link) -> proxy-server -> http-target, each on a free port.

Rules
- The real binaries, started the way an operator starts them; nothing of them is imported.
- Verified TLS: proxy-server makes a CA, a certificate and a token in the stack's own temporary directory.
- The egress policy of proxy-server allows this machine's own addresses: anything local can be reached through it.
- Started in the order of need, ended in the reverse: proxy-client drains while all the others are still there.
- A program that is started again is where it was: everyone else goes on with the addresses that they know.
- Variables in the environment that set these programs are not passed on: a stack is what its settings say.
"""

import os
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from loadgen.stack_api import Stack, StackError, StackSettings
from loadgen.stacks.link_control import LinkControl, LinkPlan
from loadgen.stacks.local_faults import LocalFaults
from loadgen.stacks.process import Program, find_program
from loadgen.stacks.program_log import Event, events
from servicekit.address import Address
from servicekit.logs import get_logger

FREE_PORT = "127.0.0.1:0"

_LISTENERS = {
    "http-target": {"http": "--listen", "server_first": "--server-first-listen"},
    "proxy-server": {"quic": "--listen"},
    "link": {"link": "--listen"},
    "proxy-client": {"socks": "--listen"},
}
"""Flags that say where a program listens, by the listener's name in its log."""

_PREFIXES = ("PROXY_CLIENT_", "PROXY_SERVER_", "HTTP_TARGET_", "LOADGEN_")

log = get_logger()


@dataclass(frozen=True, slots=True)
class LocalStack:
    """A running stack; see `loadgen.stack_api.Stack`."""

    proxy: Address
    target: Address
    server_first: Address
    metrics: Mapping[str, str]
    faults: LocalFaults
    programs: Mapping[str, Program]

    @property
    def pids(self) -> dict[str, int]:
        """Of the programs that run just now."""
        return {name: program.pid for name, program in self.programs.items() if program.returncode is None}


@asynccontextmanager
async def local_stack(settings: StackSettings) -> AsyncIterator[Stack]:
    """Brings the stack up, and ends every process of it on exit. Raises StackError."""
    async with AsyncExitStack() as exits:
        directory = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="finback-")))
        yield await _start(settings, directory, exits)


async def _start(settings: StackSettings, directory: Path, exits: AsyncExitStack) -> LocalStack:
    logs = settings.logs_directory or directory
    logs.mkdir(parents=True, exist_ok=True)
    certificate = directory / "certificate"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)}
    programs: dict[str, Program] = {}

    def arguments(name: str) -> Sequence[str]:
        return settings.arguments.get(name, ())

    async def start(name: str, *defaults: tuple[str, str], further: Sequence[str]) -> Program:
        listeners = _LISTENERS[name]
        free_ports = [(flag, FREE_PORT) for flag in (*listeners.values(), "--metrics-listen")]
        command = [*_command(settings, name), *_flags([*free_ports, *defaults], further), *further]
        program = await Program.start(name, command, listeners, logs, environment)
        exits.push_async_callback(_stop, program)
        programs[name] = program
        return program

    target = await start("http-target", further=arguments("http-target"))
    server = await start(
        "proxy-server",
        ("--dev-certificate", str(certificate)),
        ("--egress-allow", "own"),
        further=arguments("proxy-server"),
    )
    way_in = server.addresses["quic"]
    control = None
    if settings.link is not None:
        plan = LinkPlan([*settings.link, *arguments("link")], directory / "link")
        link = await start("link", ("--upstream", str(way_in)), further=plan.arguments())
        way_in = link.addresses["link"]
        control = LinkControl(plan, lambda number: _send(link, number), lambda: _events(link))
    client = await start(
        "proxy-client",
        ("--server", str(way_in)),
        ("--server-name", "proxy-server"),
        ("--ca-file", str(certificate / "ca.pem")),
        ("--token-file", str(certificate / "token")),
        further=arguments("proxy-client"),
    )
    return LocalStack(
        proxy=client.addresses["socks"],
        target=target.addresses["http"],
        server_first=target.addresses["server_first"],
        metrics={name: program.metrics_url for name, program in programs.items()},
        faults=LocalFaults(programs, control),
        programs=programs,
    )


async def _stop(program: Program) -> None:
    if program.ended_by_us:
        return
    code = await program.stop()
    if code != 0:
        log.warning("program_ended_badly", program=program.name, exit_code=code, last_lines=program.last_lines())


async def _send(program: Program, number: signal.Signals) -> None:
    program.must_run()
    program.signal(number)


async def _events(program: Program) -> Sequence[Event]:
    return events(program.log.text())


def _command(settings: StackSettings, name: str) -> list[str]:
    """How a program is called, before its flags. Raises StackError for what cannot be run."""
    usual, *subcommand = ("loadgen", "link") if name == "link" else (name,)
    if name not in settings.programs:
        return [find_program(usual), *subcommand]
    asked = settings.programs[name].absolute()
    if not (asked.is_file() and os.access(asked, os.X_OK)):
        raise StackError(f"{asked}, which is to be {name}, is not an executable file")
    return [str(asked), *subcommand]


def _flags(defaults: Sequence[tuple[str, str]], further: Sequence[str]) -> list[str]:
    """The default flags that `further` does not give itself."""
    given = {argument.partition("=")[0] for argument in further}
    return [part for flag, value in defaults if flag not in given for part in (flag, value)]
