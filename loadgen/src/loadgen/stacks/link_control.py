"""The link of a stack, told what to do while it runs.

Rules
- The link always has a `--plan` of the stack's own: the base of the plan that was asked for, and behind its windows
  those of the faults. Flags stay flags: they go before the base.
- The file is replaced, never written in place: the link reads the old one or the new one, and nothing in between.
- Told means acknowledged: the link has logged that it did what the signal says, within `ANSWER_TIMEOUT_S`. Each line of
  the link is another one (it has its time, most have a number); where it stands says nothing: the log may be emptied.
"""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from pathlib import Path
from time import monotonic
from typing import Any

from loadgen.link.plan import Plan, Window, read
from loadgen.stack_api import StackError
from loadgen.stacks.program_log import Event
from loadgen.toml_file import UnusableFileError

PLAN_FILE = "plan.toml"
ANSWER_TIMEOUT_S = 5.0
_POLL_S = 0.02


class LinkPlan:
    """The plan file of a stack's own, in a directory that holds nothing else."""

    def __init__(self, asked: Sequence[str], directory: Path) -> None:
        """`asked` are arguments of `loadgen link`. Raises StackError for a plan that cannot be used."""
        self.flags, file = _without_plan(asked)
        try:
            self._base = Plan() if file is None else read(file)
        except UnusableFileError as error:
            raise StackError(f"the link's plan: {error}") from error
        self.directory = directory
        # A container's user has to read it, whatever our umask.
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        self.write(())

    def arguments(self, directory: str | None = None) -> list[str]:
        """The arguments for `loadgen link`, for which the file is in `directory`."""
        return [*self.flags, "--plan", f"{directory or self.directory}/{PLAN_FILE}"]

    def write(self, windows: Sequence[Window]) -> None:
        """Replaces what the file says on top of the plan that was asked for. Raises StackError."""
        plan = self._base.model_copy(update={"at": (*self._base.at, *windows)})
        fresh = self.directory / f".{PLAN_FILE}"
        try:
            fresh.write_text(toml(plan.model_dump(exclude_defaults=True)), encoding="utf-8")
            fresh.chmod(0o644)
            os.replace(fresh, self.directory / PLAN_FILE)
        except OSError as error:
            raise StackError(f"the link's plan cannot be written: {error}") from error


class LinkControl:
    """Makes a running link read its plan again, or rebind.

    `send` sends it a signal. `events` is what it has logged so far.
    """

    def __init__(
        self,
        plan: LinkPlan,
        send: Callable[[signal.Signals], Awaitable[None]],
        events: Callable[[], Awaitable[Sequence[Event]]],
    ) -> None:
        self._plan = plan
        self._send = send
        self._events = events
        self._one_at_a_time = asyncio.Lock()  # the answer is then to the question

    async def impair(self, windows: Sequence[Window]) -> None:
        """See `loadgen.stack_api.Faults.impair`. Raises StackError."""
        async with self._one_at_a_time:
            self._plan.write(windows)
            answer = await self._tell(signal.SIGHUP, "plan_reread", "plan_refused")
        if answer["event"] == "plan_refused":
            raise StackError(f"the link refuses its plan: {answer.get('reason', answer)}")

    async def rebind(self) -> None:
        """See `loadgen.stack_api.Faults.rebind`. Raises StackError."""
        async with self._one_at_a_time:
            answer = await self._tell(signal.SIGUSR1, "rebound")
        if answer.get("flows") == 0:
            raise StackError("no flow to rebind: nobody sends through the link, or it gets no socket")

    async def _tell(self, number: signal.Signals, *answers: str) -> Event:
        """Sends a signal, and returns the first of `answers` that was not logged before."""
        before = await self._answers(answers)
        await self._send(number)
        deadline_s = monotonic() + ANSWER_TIMEOUT_S
        while monotonic() < deadline_s:
            for event in await self._answers(answers):
                if event not in before:
                    return event
            await asyncio.sleep(_POLL_S)
        raise StackError(f"the link does not answer {number.name} within {ANSWER_TIMEOUT_S:g} s")

    async def _answers(self, names: Sequence[str]) -> list[Event]:
        """What it has logged under these names; not what it did by itself, because its plan says so."""
        return [event for event in await self._events() if event["event"] in names and not event.get("planned")]


def _without_plan(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """Takes `--plan FILE` out: (the other arguments, the file)."""
    rest: list[str] = []
    file = None
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, inline = argument.partition("=")
        if name != "--plan":
            rest.append(argument)
        elif value := inline if equals else next(remaining, ""):
            file = Path(value)
        else:
            raise StackError("the link's --plan: expected the name of a file")
    return rest, file


def toml(table: dict[str, Any]) -> str:
    """A table as TOML: plain values, lists of them, and lists of tables of them."""
    tables = {name: value for name, value in table.items() if _is_tables(value)}
    lines = [f"{name} = {_value(value)}" for name, value in table.items() if name not in tables]
    for name, rows in tables.items():
        for row in rows:
            lines += ["", f"[[{name}]]", *(f"{key} = {_value(value)}" for key, value in row.items())]
    return "\n".join([*lines, ""])


def _is_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], dict)


def _value(value: object) -> str:
    match value:
        case Enum():
            return _value(value.value)
        case bool() | str():
            return json.dumps(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            return f"{value}"
