"""The stack as processes on loopback: proxy-client -> (link) -> proxy-server -> http-target, each on a free port.

Rules
- The real binaries, started the way an operator starts them; nothing of them is imported.
- Verified TLS: proxy-server makes a CA, a certificate and a token in the stack's own temporary directory.
- The egress policy of proxy-server allows this machine's own addresses: anything local can be reached through it.
- Started in the order of need, ended in the reverse: proxy-client drains while all the others are still there.
- Variables in the environment that set these programs are not passed on: a stack is what its settings say.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from loadgen.stack_api import Faults, Stack, StackSettings
from loadgen.stacks.process import Program, find_program
from servicekit.address import Address
from servicekit.logs import get_logger

FREE_PORT = "127.0.0.1:0"
ENGINES = {"client": "aioquic", "server": "aioquic"}
"""What the proxies use unless their arguments say otherwise."""

_PREFIXES = ("PROXY_CLIENT_", "PROXY_SERVER_", "HTTP_TARGET_", "LOADGEN_")

log = get_logger()


@dataclass(frozen=True, slots=True)
class LocalStack:
    """A running stack; see `loadgen.stack_api.Stack`."""

    proxy: Address
    target: Address
    server_first: Address
    metrics: dict[str, str]
    pids: dict[str, int]
    engine: dict[str, str]
    faults: Faults | None = None


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

    async def start(name: str, command: Sequence[str], listeners: Sequence[str], *defaults: tuple[str, str]) -> Program:
        further = settings.arguments.get(name, ())
        metrics = ("--metrics-listen", FREE_PORT)
        line = [find_program(command[0]), *command[1:], *_flags([*defaults, metrics], further), *further]
        program = await Program.start(name, line, listeners, logs, environment)
        exits.push_async_callback(_stop, program)
        programs[name] = program
        return program

    target = await start(
        "http-target",
        ["http-target"],
        ["http", "server_first"],
        ("--listen", FREE_PORT),
        ("--server-first-listen", FREE_PORT),
    )
    server = await start(
        "proxy-server",
        ["proxy-server"],
        ["quic"],
        ("--listen", FREE_PORT),
        ("--dev-certificate", str(certificate)),
        ("--egress-allow", "own"),
    )
    way_in = server.addresses["quic"]
    if settings.link is not None:
        link = await start(
            "link",
            ["loadgen", "link", *settings.link],
            ["link"],
            ("--listen", FREE_PORT),
            ("--upstream", str(way_in)),
        )
        way_in = link.addresses["link"]
    client = await start(
        "proxy-client",
        ["proxy-client"],
        ["socks"],
        ("--listen", FREE_PORT),
        ("--server", str(way_in)),
        ("--server-name", "proxy-server"),
        ("--ca-file", str(certificate / "ca.pem")),
        ("--token-file", str(certificate / "token")),
    )
    return LocalStack(
        proxy=client.addresses["socks"],
        target=target.addresses["http"],
        server_first=target.addresses["server_first"],
        metrics={name: program.metrics_url for name, program in programs.items()},
        pids={name: program.pid for name, program in programs.items()},
        engine=engines(settings),
    )


async def _stop(program: Program) -> None:
    code = await program.stop()
    if code != 0:
        log.warning("program_ended_badly", program=program.name, exit_code=code, last_lines=program.last_lines())


def _flags(defaults: Sequence[tuple[str, str]], further: Sequence[str]) -> list[str]:
    """The default flags that `further` does not give itself."""
    given = {argument.partition("=")[0] for argument in further}
    return [part for flag, value in defaults if flag not in given for part in (flag, value)]


def engines(settings: StackSettings) -> dict[str, str]:
    """Returns the QUIC engine of each side: what the proxies are asked to use, else their default."""
    asked = dict(ENGINES)
    for side in ENGINES:
        for flag, value in pairwise((*settings.arguments.get(f"proxy-{side}", ()), "")):
            name, equals, inline = flag.partition("=")
            if name == "--engine":
                asked[side] = inline if equals else value
    return asked
