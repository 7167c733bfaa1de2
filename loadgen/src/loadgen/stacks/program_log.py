"""The log of a program: written by the program itself, read here while it grows.

Rules
- The program appends to the file and never waits for its reader.
- Each run of the program appends; what an earlier run said is kept for people, and not taken for what this one says.
- A log longer than `LOG_BYTES` is emptied, the old text kept beside it as PROGRAM.log.1.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

LOG_BYTES = 32 * 1024 * 1024
"""Worst case on disk: twice this for each program."""

_CHECK_S = 5.0
_LAST_LINES = 20

Event = Mapping[str, Any]


class ProgramLog:
    """A program's stderr as a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._run_begins_bytes = 0

    def empty(self) -> None:
        """Forgets what is there from another time."""
        self.path.write_bytes(b"")

    def begin(self) -> BinaryIO:
        """Opens it for a run of the program, behind what it holds already."""
        file = self.path.open("ab")
        self._run_begins_bytes = file.tell()
        return file

    def text(self) -> str:
        """What the present run has said so far."""
        with self.path.open("rb") as file:
            size_bytes = file.seek(0, os.SEEK_END)
            file.seek(self._run_begins_bytes if self._run_begins_bytes <= size_bytes else 0)  # else it was emptied
            return file.read().decode(errors="replace")

    def last_lines(self) -> str:
        """The end of it, for people."""
        with self.path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 64 * 1024, 0))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-_LAST_LINES:])

    async def cap(self) -> None:
        """Keeps it below its size, for as long as this is not cancelled."""
        while True:
            await asyncio.sleep(_CHECK_S)
            await asyncio.to_thread(self._cut)

    def _cut(self) -> None:
        if self.path.stat().st_size > LOG_BYTES:
            shutil.copyfile(self.path, self.path.with_suffix(".log.1"))
            os.truncate(self.path, 0)


def events(text: str) -> Sequence[Event]:
    """The complete lines that are events, JSON objects; other lines are not for programs."""
    found = []
    for line in text.split("\n")[:-1]:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            found.append(event)
    return found
