"""What is told of a fault while it happens: it begins, it has healed, or it went wrong.

Whoever drives the faults tells; whoever generates the load listens. In the local stack that is one process. In the
stack of containers it is two: the driver appends lines to a file that the generator's container has mounted, and the
generator follows it.

Rules
- A fault is announced before it begins: a transaction that it can touch is never taken for one of a quiet time.
- A mark carries no time: whoever hears of it takes the time by its own clock.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from loadgen.faults.plan import Fault

FILE = "marks.jsonl"
LOOK_EVERY_S = 0.05
AHEAD_S = 3 * LOOK_EVERY_S
"""How long an announcement waits for its reader."""


class MarksError(Exception):
    """The marks cannot be followed: nobody knows any more what is broken. The message says why."""


class Marks(Protocol):
    """Listens. Names are those of the plan."""

    def planned(self, faults: Sequence[Fault]) -> None: ...
    def began(self, name: str) -> None: ...
    def healed(self, name: str) -> None: ...
    def failed(self, name: str, reason: str) -> None: ...
    def misbehaved(self, name: str, reason: str) -> None: ...


class MarksFile:
    """A listener that writes down what it hears, for `follow`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._path.write_text("", encoding="utf-8")
        self._path.chmod(0o644)  # Its reader is another user.

    def planned(self, faults: Sequence[Fault]) -> None:
        self._put(planned=[fault.model_dump(mode="json", exclude_none=True) for fault in faults])

    def began(self, name: str) -> None:
        self._put(began=name)

    def healed(self, name: str) -> None:
        self._put(healed=name)

    def failed(self, name: str, reason: str) -> None:
        self._put(failed=name, reason=reason)

    def misbehaved(self, name: str, reason: str) -> None:
        self._put(misbehaved=name, reason=reason)

    def _put(self, **mark: object) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(mark) + "\n")


async def follow(directory: Path, marks: Marks) -> None:
    """Passes on every line of the file, as it comes, until it is cancelled. Raises MarksError."""
    path = directory / FILE
    read_bytes, rest = 0, b""
    while True:
        try:
            with path.open("rb") as file:
                file.seek(read_bytes)
                fresh = file.read()
        except OSError as error:
            raise MarksError(f"{path}: {error.strerror}") from error
        read_bytes += len(fresh)
        *lines, rest = (rest + fresh).split(b"\n")
        for line in lines:
            try:
                pass_on(json.loads(line), marks)
            except (ValueError, LookupError, RecursionError) as error:
                raise MarksError(f"{path}: {line[:200]!r} is not a mark: {error!r}") from error
        await asyncio.sleep(LOOK_EVERY_S)


def pass_on(mark: dict[str, object], marks: Marks) -> None:
    """One line of the file. Raises ValueError for what is none."""
    match mark:
        case {"planned": list(faults)}:
            marks.planned([Fault.model_validate(fault) for fault in faults])
        case {"began": str(name)}:
            marks.began(name)
        case {"healed": str(name)}:
            marks.healed(name)
        case {"failed": str(name), "reason": str(reason)}:
            marks.failed(name, reason)
        case {"misbehaved": str(name), "reason": str(reason)}:
            marks.misbehaved(name, reason)
        case _:
            raise ValueError(f"not a mark: {mark!r}")
