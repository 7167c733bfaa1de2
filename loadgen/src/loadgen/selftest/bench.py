"""The programs that a self test takes, as processes: http-target, and the faulty proxy.

Each row has a listener of the faulty proxy to itself, so that what struck there struck that row.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from loadgen.faulty.command import listener_names
from loadgen.measure.anomalies import Anomalies
from loadgen.stacks.process import Program, find_program
from loadgen.stacks.program_log import events
from loadgen.transaction.route import Route
from servicekit.address import Address

_FREE_PORT = "127.0.0.1:0"
_PREFIXES = ("HTTP_TARGET_", "LOADGEN_")


@dataclass(frozen=True, slots=True)
class Bench:
    """Where everything is."""

    proxies: Mapping[str, Address]
    """By listener."""
    target: Address
    server_first: Address
    anomalies: Anomalies
    strikes: Callable[[str], Sequence[float]]
    """When the fault of a listener struck, on the machine's monotonic clock, which all processes share."""

    def route(self, listener: str) -> Route:
        """The way through that listener of the faulty proxy."""
        return Route(self.proxies[listener], self.target, self.server_first)


@asynccontextmanager
async def programs(faults: Sequence[str]) -> AsyncIterator[Bench]:
    """Starts both programs, with a listener for each of `faults`, and ends them on exit. Raises StackError."""
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
        asked = dict.fromkeys(listener_names(faults), "--listen")
        which = [part for fault in faults for part in ("--fault", fault)]
        faulty = await start("faulty", [find_program("loadgen"), "faulty", *which], asked)

        def strikes(listener: str) -> Sequence[float]:
            logged = (event for event in events(faulty.log.text()) if event["event"] == "struck")
            return [float(event["at_s"]) for event in logged if event["listener"] == listener]

        yield Bench(
            {listener: faulty.addresses[listener] for listener in asked},
            target.addresses["http"],
            target.addresses["server_first"],
            exits.enter_context(Anomalies(directory / "anomalies.jsonl")),
            strikes,
        )
