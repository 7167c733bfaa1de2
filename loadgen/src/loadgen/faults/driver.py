"""Does to a stack what a plan says, at the times that it says, and undoes it.

Rules
- Times count from the begin of the load. A fault is announced before it begins, and healed only when what it hit is
  in order again (a program that was started again: when it is ready).
- What the link does is what all of its open faults say together; of one field, what the one says that began last.
- A program suffers one fault at a time: the next one waits until it has healed.
- A fault that cannot be done, or undone, within HEAL_WITHIN_S is reported; the others go on.
- However the driver ends, what it broke it heals, as far as it can.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from time import monotonic

from loadgen.faults.marks import Marks
from loadgen.faults.plan import KINDS, Fault, FaultPlan, Kind
from loadgen.stack_api import Faults, ProgramEndedBadlyError, StackError
from loadgen.waiting import sleep_until
from servicekit.logs import get_logger

HEAL_WITHIN_S = 60.0
"""A program's own drain timeout and its start, with room to spare. The bound of each step of a fault."""

log = get_logger()


class Driver:
    """Drives one plan on one stack. `ahead_s` is how long before it begins a fault is announced."""

    def __init__(
        self, plan: FaultPlan, stack: Faults, marks: Marks, ahead_s: float = 0.0, clock: Callable[[], float] = monotonic
    ) -> None:
        self._plan = plan
        self._stack = stack
        self._marks = marks
        self._ahead_s = ahead_s
        self._clock = clock
        self._of_link: list[Fault] = []
        """What the link is told, in the order in which it began."""
        self._link = asyncio.Lock()
        self._turns: defaultdict[str | None, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self, began_s: float) -> None:
        """Drives the plan; `began_s` is when the load began. A cancellation heals what is open, and then ends it."""
        async with asyncio.TaskGroup() as tasks:
            for fault in self._plan.faults:
                tasks.create_task(self._drive(fault, began_s))

    async def _drive(self, fault: Fault, began_s: float) -> None:
        await sleep_until(began_s + fault.at_s - self._ahead_s, self._clock)
        if fault.program is None:
            await self._suffer(fault, began_s)
            return
        async with self._turns[fault.program]:
            await self._suffer(fault, began_s)

    async def _suffer(self, fault: Fault, began_s: float) -> None:
        self._marks.began(fault.name)
        log.info("fault", name=fault.name, suffers=fault.program or "link", at_s=fault.at_s, for_s=fault.for_s)
        has_begun = False
        try:
            await sleep_until(max(began_s + fault.at_s, self._clock() + self._ahead_s), self._clock)
            has_begun = True
            begun_s = self._clock()
            if await self._attempt(fault, self._begin(fault)):
                await sleep_until(begun_s + (fault.for_s or 0.0), self._clock)
        finally:
            if not has_begun or await self._attempt(fault, self._heal(fault)):
                self._marks.healed(fault.name)
                log.info("fault_healed", name=fault.name)

    async def _attempt(self, fault: Fault, step: Awaitable[None]) -> bool:
        try:
            async with asyncio.timeout(HEAL_WITHIN_S):
                await step
        except TimeoutError:
            reason = f"not done within {HEAL_WITHIN_S:g} s"
        except ProgramEndedBadlyError as error:
            self._marks.misbehaved(fault.name, str(error))
            log.error("program_misbehaved", name=fault.name, reason=str(error))
            return True
        except StackError as error:
            reason = str(error)
        else:
            return True
        self._marks.failed(fault.name, reason)
        log.error("fault_failed", name=fault.name, reason=reason)
        return False

    async def _begin(self, fault: Fault) -> None:
        stack, program = self._stack, fault.program or ""
        match fault.kind:
            case Kind.REBIND:
                await stack.rebind()
            case Kind.PAUSE:
                await stack.pause(program)
            case Kind.KILL:
                await stack.kill(program)
            case Kind.RESTART | Kind.DRAIN:
                await stack.stop(program, at_once=fault.kind is Kind.RESTART)
            case Kind.DISCONNECT:
                await stack.disconnect(program)
            case _:
                assert KINDS[fault.kind].of_link
                self._of_link.append(fault)
                await self._impair()

    async def _heal(self, fault: Fault) -> None:
        stack, program = self._stack, fault.program or ""
        match fault.kind:
            case Kind.REBIND:
                pass
            case Kind.PAUSE:
                await stack.resume(program)
            case Kind.KILL | Kind.RESTART | Kind.DRAIN:
                await stack.start(program)
            case Kind.DISCONNECT:
                await stack.connect(program)
            case _:
                self._of_link.remove(fault)
                await self._impair()

    async def _impair(self) -> None:
        """Tells the link all of its open faults. One at a time: the last one to be told is what holds."""
        async with self._link:
            await self._stack.impair([fault.window() for fault in self._of_link])
