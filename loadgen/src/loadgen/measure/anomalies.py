"""`anomalies.jsonl`: one JSON line for whatever was not as it should be, written when it happens.

Rules
- What went well leaves no line.
- `anomalies.jsonl` is the first file and stays: the beginning of trouble is the most precious. A full file is followed
  by `anomalies.jsonl.1`, `.2` and so on, of which the newest stay: MAX_FILES in all, of MAX_FILE_BYTES at most.
- A file that follows a dropped one begins with a line of kind `dropped`: how many lines are gone since the run began.
- A file that cannot be written any more (a full disk) ends the record, not the soak.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from servicekit.logs import get_logger

MAX_FILE_BYTES = 8_000_000
"""About 20,000 lines."""
MAX_FILES = 4


class Anomalies:
    """A context manager around the files of one run. What an earlier run left at `path` is overwritten."""

    def __init__(self, path: Path, max_file_bytes: int = MAX_FILE_BYTES, max_files: int = MAX_FILES) -> None:
        self.dropped_lines = 0
        self._path = path
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files
        self._followers: list[tuple[Path, int]] = []
        """Full files that may be dropped, oldest first, and their lines."""
        self._number = 0
        self._works = True
        for old in path.parent.glob(f"{path.name}.*"):
            old.unlink()
        self._open(path)

    def write(self, kind: str, **fields: Any) -> None:
        """Adds a line with the time, `kind` and `fields`."""
        if not self._works:
            return
        line = _line(kind, fields)
        try:
            if self._bytes + len(line) > self._max_file_bytes and self._lines:
                self._next_file()
            self._put(line)
            self._lines += 1
        except OSError as error:
            self._works = False
            get_logger().warning("anomalies_not_written", error=error.strerror)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):  # it has been told of, by the write that failed
            self._file.close()

    def _open(self, path: Path) -> None:
        self._file: TextIO = path.open("w", encoding="ascii", buffering=1)
        self._bytes = self._lines = 0

    def _put(self, line: str) -> None:
        self._file.write(line)
        self._bytes += len(line)

    def _next_file(self) -> None:
        self._file.close()
        if self._number:
            self._followers.append((self._named(self._number), self._lines))
        dropping = len(self._followers) > self._max_files - 2  # the first file and the new one stay
        if dropping:
            oldest, lines = self._followers.pop(0)
            oldest.unlink(missing_ok=True)
            self.dropped_lines += lines
        self._number += 1
        self._open(self._named(self._number))
        if dropping:
            self._put(_line("dropped", {"lines": self.dropped_lines}))

    def _named(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _line(kind: str, fields: dict[str, Any]) -> str:
    """ASCII, so that its length is its size."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": time, "kind": kind, **fields}) + "\n"
