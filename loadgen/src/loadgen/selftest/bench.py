"""The programs that a self test takes, as processes: http-target, and the faulty proxy with a listener a fault."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from loadgen.measure.anomalies import Anomalies
from loadgen.stacks.process import Program, find_program
from loadgen.transaction.route import Route
from servicekit.address import Address

_FREE_PORT = "127.0.0.1:0"
_PREFIXES = ("HTTP_TARGET_", "LOADGEN_")


@dataclass(frozen=True, slots=True)
class Bench:
    """Where everything is."""

    proxies: Mapping[str, Address]
    """By fault."""
    target: Address
    server_first: Address
    anomalies: Anomalies

    def route(self, fault: str) -> Route:
        """The way through the proxy with that fault."""
        return Route(self.proxies[fault], self.target, self.server_first)


@asynccontextmanager
async def programs(faults: Iterable[str]) -> AsyncIterator[Bench]:
    """Starts both programs and ends them on exit. Raises StackError."""
    async with AsyncExitStack() as exits:
        directory = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="finback-selftest-")))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)}

        async def start(name: str, command: Sequence[str], listeners: Mapping[str, str]) -> Program:
            flags = ["--metrics-listen", *dict.fromkeys(listeners.values())]
            ports = [part for flag in flags for part in (flag, _FREE_PORT)]
            program = await Program.start(name, [*command, *ports], listeners, directory, environment)
            exits.push_async_callback(program.stop)
            return program

        of_target = {"http": "--listen", "server_first": "--server-first-listen"}
        target = await start("http-target", [find_program("http-target")], of_target)
        asked = dict.fromkeys(faults, "--listen")
        which = [part for fault in asked for part in ("--fault", fault)]
        faulty = await start("faulty", [find_program("loadgen"), "faulty", *which], asked)
        yield Bench(
            {fault: faulty.addresses[fault] for fault in asked},
            target.addresses["http"],
            target.addresses["server_first"],
            exits.enter_context(Anomalies(directory / "anomalies.jsonl")),
        )
