"""What the local stack does to itself: signals to its processes, a plan and signals to its link.

There is one loopback for all of them: nothing can be taken off the network here. The link can blackhole.
"""

from collections.abc import Mapping, Sequence

from loadgen.link.plan import Window
from loadgen.stack_api import ProgramEndedBadlyError, StackError
from loadgen.stacks.link_control import LinkControl
from loadgen.stacks.process import Program, ended_badly


class LocalFaults:
    """See `loadgen.stack_api.Faults`."""

    def __init__(self, programs: Mapping[str, Program], link: LinkControl | None) -> None:
        self._programs = programs
        self._link = link

    async def impair(self, windows: Sequence[Window]) -> None:
        await control_of(self._link).impair(windows)

    async def rebind(self) -> None:
        await control_of(self._link).rebind()

    async def pause(self, program: str) -> None:
        await self._program(program).pause()

    async def resume(self, program: str) -> None:
        await self._program(program).resume()

    async def kill(self, program: str) -> None:
        await self._program(program).kill()

    async def stop(self, program: str, *, at_once: bool) -> None:
        found = self._program(program)
        found.must_run()
        code = await found.stop(at_once=at_once)
        if ended_badly(code, at_once=at_once):
            raise ProgramEndedBadlyError(program, code, found.last_lines())

    async def start(self, program: str) -> None:
        await self._program(program).start_again()

    async def disconnect(self, program: str) -> None:
        raise StackError(f"cannot disconnect {program}: only in the compose stack")

    async def connect(self, program: str) -> None:
        raise StackError(f"cannot connect {program}: only in the compose stack")

    def _program(self, name: str) -> Program:
        if name not in self._programs:
            raise StackError(f"there is no {name} in this stack; there are {', '.join(self._programs)}")
        return self._programs[name]


def control_of(link: LinkControl | None) -> LinkControl:
    """The link's control. Raises StackError where there is no link."""
    if link is None:
        raise StackError("there is no link in this stack")
    return link
