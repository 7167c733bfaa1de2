"""What the compose stack does to itself, through the engine.

Rules
- A container that was killed or stopped stays down until it is started: the engine takes it for the operator's wish,
  whatever the restart policy says.
- Started means: its own health check passes, asked here and now, not at the engine's next interval.
- Back on the network means: with the aliases and the address that it had.
- The engine's errors become StackError.
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic, sleep

from docker.errors import APIError, DockerException
from docker.models.containers import Container

from loadgen.link.plan import Window
from loadgen.stack_api import StackError
from loadgen.stacks.link_control import LinkControl, LinkPlan
from loadgen.stacks.local_faults import control_of
from loadgen.stacks.process import AT_ONCE_TIMEOUT_S
from loadgen.stacks.program_log import Event, events
from loadgen.stacks.project import STOP_TIMEOUT_S, Project

_TERM_AGAIN_S = 0.2
"""Between two SIGTERMs: two at once would be one."""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Where a container was on a network."""

    network: str
    address: str
    aliases: tuple[str, ...]


class ComposeFaults:
    """See `loadgen.stack_api.Faults`."""

    def __init__(self, project: Project, programs: Sequence[str], plan: LinkPlan | None) -> None:
        self._project = project
        self._programs = programs
        self._link = None if plan is None else LinkControl(plan, self._send_to_link, self._events_of_link)
        self._left: dict[str, list[_Endpoint]] = {}

    async def impair(self, windows: Sequence[Window]) -> None:
        await control_of(self._link).impair(windows)

    async def rebind(self) -> None:
        await control_of(self._link).rebind()

    async def pause(self, program: str) -> None:
        await self._do(program, _pause)

    async def resume(self, program: str) -> None:
        await self._do(program, _resume)

    async def kill(self, program: str) -> None:
        await self._do(program, _kill)

    async def stop(self, program: str, *, at_once: bool) -> None:
        await self._do(program, _stop_at_once if at_once else _stop)

    async def start(self, program: str) -> None:
        await self._do(program, lambda container: container.start())
        await self._project.wait_ready(program)

    async def disconnect(self, program: str) -> None:
        if program in self._left:
            raise StackError(f"{program} is disconnected already")
        await self._do(program, self._leave)

    async def connect(self, program: str) -> None:
        await self._do(program, self._join)

    async def _do(self, program: str, action: Callable[[Container], None]) -> None:
        """Does it to the program's container as it is now, off the event loop. Raises StackError."""
        if program not in self._programs:
            raise StackError(f"there is no {program} in this stack; there are {', '.join(self._programs)}")

        def do() -> None:
            action(self._project.container(program))

        try:
            await asyncio.to_thread(do)
        except (DockerException, OSError) as error:  # OSError: what the engine's socket raises
            raise StackError(f"{program}: {error}") from error

    def _leave(self, container: Container) -> None:
        _must_run(container)
        networks = container.attrs["NetworkSettings"]["Networks"]
        self._left[container.labels["com.docker.compose.service"]] = [
            _Endpoint(name, endpoint["IPAddress"], tuple(endpoint["Aliases"] or ()))
            for name, endpoint in networks.items()
        ]
        for name in networks:
            self._project.client.networks.get(name).disconnect(container)

    def _join(self, container: Container) -> None:
        endpoints = self._left.pop(container.labels["com.docker.compose.service"], [])
        for endpoint in endpoints:
            network = self._project.client.networks.get(endpoint.network)
            try:
                network.connect(container, aliases=list(endpoint.aliases), ipv4_address=endpoint.address)
            except APIError:  # somebody has the address by now; the name goes on
                network.connect(container, aliases=list(endpoint.aliases))

    async def _send_to_link(self, number: signal.Signals) -> None:
        await self._do("link", lambda container: container.kill(signal=number.name))

    async def _events_of_link(self) -> Sequence[Event]:
        text = ""

        def read(container: Container) -> None:
            nonlocal text
            text = container.logs(stdout=False).decode(errors="replace")

        await self._do("link", read)
        return events(text)


def _must_run(container: Container) -> None:
    if container.status not in ("running", "paused"):
        raise StackError(f"{container.labels['com.docker.compose.service']} does not run, it is {container.status}")


def _pause(container: Container) -> None:
    _must_run(container)
    container.pause()


def _resume(container: Container) -> None:
    _must_run(container)
    if container.status == "paused":
        container.unpause()


def _kill(container: Container) -> None:
    _must_run(container)
    container.kill()
    container.wait()


def _stop(container: Container) -> None:
    _must_run(container)
    _resume(container)  # a frozen one would not hear it
    container.stop(timeout=STOP_TIMEOUT_S)


def _stop_at_once(container: Container) -> None:
    _must_run(container)
    _resume(container)
    deadline_s = monotonic() + AT_ONCE_TIMEOUT_S
    while container.status == "running":
        try:
            container.kill(signal="SIGTERM" if monotonic() < deadline_s else "SIGKILL")
        except APIError:  # it ended before the signal
            pass
        sleep(_TERM_AGAIN_S)
        container.reload()
