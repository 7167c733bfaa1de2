"""What the compose stack does to itself, through the engine.

Rules
- A container that was killed or stopped stays down until it is started: the engine takes it for the operator's wish,
  whatever the restart policy says.
- Started means: its own health check passes, asked here and now, not at the engine's next interval.
- Back on the network means: with the aliases and the address that it had.
- The engine's errors become StackError.
- One thing at a time is done to a program. A request that was sent cannot be taken back: who is cancelled meanwhile
  does not wait for its end, but whatever is done to that program next does, the healing above all.
"""

import asyncio
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from time import monotonic, sleep
from typing import Any

from docker.errors import APIError
from docker.models.containers import Container

from loadgen.link.plan import Window
from loadgen.stack_api import ProgramEndedBadlyError, StackError
from loadgen.stacks.link_control import LinkControl, LinkPlan
from loadgen.stacks.local_faults import control_of
from loadgen.stacks.process import AT_ONCE_TIMEOUT_S, ended_badly
from loadgen.stacks.program_log import Event, events
from loadgen.stacks.project import ENGINE_ERRORS, LAST_LINES, STOP_TIMEOUT_S, Project

_LOG_LINES = 200
"""Of the link's log: its answer is among the last of them."""
_TERM_AGAIN_S = 0.2
"""Between two SIGTERMs: two at once would be one."""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """What a container was on a network."""

    address: str
    aliases: tuple[str, ...]


class ComposeFaults:
    """See `loadgen.stack_api.Faults`."""

    def __init__(self, project: Project, programs: Sequence[str], plan: LinkPlan | None) -> None:
        self._project = project
        self._programs = programs
        self._link = None if plan is None else LinkControl(plan, self._send_to_link, self._events_of_link)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._left: dict[str, dict[str, _Endpoint]] = {}
        """What was begun to be taken off the network, by program and network, until it is back on all of them."""

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
        with _in_words(program):
            await self._project.wait_ready(program)

    async def disconnect(self, program: str) -> None:
        await self._do(program, self._leave)

    async def connect(self, program: str) -> None:
        await self._do(program, self._join)

    async def _do(self, program: str, action: Callable[[Container], None]) -> None:
        """Does it to the program's container as it is now, off the event loop. Raises StackError."""
        if program not in self._programs:
            raise StackError(f"there is no {program} in this stack; there are {', '.join(self._programs)}")

        def do() -> None:
            action(self._project.container(program))

        lock = self._locks[program]
        await lock.acquire()
        doing = asyncio.ensure_future(asyncio.to_thread(do))
        doing.add_done_callback(lambda _: lock.release())
        with _in_words(program):
            await asyncio.shield(doing)

    def _leave(self, container: Container) -> None:
        _must_run(container)
        program, networks = _service(container), _networks(container)
        if not networks:
            raise StackError(f"{program} is disconnected already")
        # Before it is done: where the engine fails, nobody knows how far it came. `_join` looks.
        self._left.setdefault(program, {}).update(
            {name: _Endpoint(each["IPAddress"], tuple(each["Aliases"] or ())) for name, each in networks.items()}
        )
        for name in networks:
            self._project.client.networks.get(name).disconnect(container)

    def _join(self, container: Container) -> None:
        program, networks = _service(container), _networks(container)
        left = self._left.get(program, {})
        if not (left or networks):
            raise StackError(f"{program} is on no network, and it was not taken off one here")
        for name in left.keys() - networks.keys():
            network, endpoint = self._project.client.networks.get(name), left[name]
            try:
                network.connect(container, aliases=list(endpoint.aliases), ipv4_address=endpoint.address)
            except APIError:  # somebody has the address by now; the name goes on
                network.connect(container, aliases=list(endpoint.aliases))
        self._left.pop(program, None)

    async def _send_to_link(self, number: signal.Signals) -> None:
        await self._do("link", lambda container: container.kill(signal=number.name))

    async def _events_of_link(self) -> Sequence[Event]:
        text = ""

        def read(container: Container) -> None:
            nonlocal text
            began_s = datetime.fromisoformat(container.attrs["State"]["StartedAt"]).timestamp()
            text = container.logs(stdout=False, since=began_s, tail=_LOG_LINES).decode(errors="replace")

        await self._do("link", read)
        return events(text)


@contextmanager
def _in_words(program: str) -> Iterator[None]:
    """What the engine says as a StackError."""
    try:
        yield
    except ENGINE_ERRORS as error:
        raise StackError(f"{program}: {error}") from error


def _service(container: Container) -> str:
    return str(container.labels["com.docker.compose.service"])


def _networks(container: Container) -> dict[str, Any]:
    return dict(container.attrs["NetworkSettings"]["Networks"])


def _must_run(container: Container) -> None:
    if container.status not in ("running", "paused"):
        raise StackError(f"{_service(container)} does not run, it is {container.status}")


def _must_have_ended_well(container: Container, *, at_once: bool) -> None:
    container.reload()
    code = container.attrs["State"]["ExitCode"]
    if ended_badly(code, at_once=at_once):
        last_lines = container.logs(tail=LAST_LINES).decode(errors="replace").rstrip()
        raise ProgramEndedBadlyError(_service(container), code, last_lines)


def _pause(container: Container) -> None:
    _must_run(container)
    container.pause()


def _resume(container: Container) -> None:
    _must_run(container)
    if container.status == "paused":
        container.unpause()
        container.reload()


def _kill(container: Container) -> None:
    _must_run(container)
    container.kill()
    container.wait(timeout=STOP_TIMEOUT_S)


def _stop(container: Container) -> None:
    _must_run(container)
    _resume(container)  # a frozen one would not hear it
    container.stop(timeout=STOP_TIMEOUT_S)
    _must_have_ended_well(container, at_once=False)


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
    _must_have_ended_well(container, at_once=True)
