"""`anomalies.jsonl`: one JSON line for whatever was not as it should be, written when it happens.

Rules
- What went well leaves no line. At most MAX_LINES are written; what comes on top is counted in a last line.
- A file that cannot be written any more (a full disk) ends the file, not the soak.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from servicekit.logs import get_logger

MAX_LINES = 20_000
"""About 8 MB."""


class Anomalies:
    """A context manager around one file."""

    def __init__(self, path: Path, max_lines: int = MAX_LINES) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._max_lines = max_lines
        self._written = self.suppressed = 0

    def write(self, kind: str, **fields: Any) -> None:
        """Adds a line with the time, `kind` and `fields`."""
        if self._written >= self._max_lines:
            self.suppressed += 1
            return
        self._written += 1
        self._put({"time": _now(), "kind": kind, **fields})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.suppressed:
            self._put({"time": _now(), "kind": "suppressed", "count": self.suppressed})
        self._file.close()

    def _put(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line) + "\n")
        except OSError as error:
            self._max_lines = 0
            get_logger().warning("anomalies_not_written", error=error.strerror)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
