"""What a report directory holds, read back.

Rules
- `verdict.json` has to be there; everything else may be missing, cut short by a run that died, or of an older version.
- Anomalies are read from the oldest on, and only so many: a report is for people. The others are counted.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ANOMALIES_SHOWN = 200
_DROPPED = '"dropped"'

Document = Mapping[str, Any]


class ReportError(Exception):
    """There is nothing to report; the message says why."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The first anomalies, how many `more` there are in the files, and how many more were `dropped` from them."""

    lines: Sequence[Document] = field(default_factory=tuple)
    more: int = 0
    dropped: int = 0


def read_document(directory: Path) -> Document:
    """`verdict.json`. Raises ReportError."""
    path = directory / "verdict.json"
    document = _json(path)
    if document is None:
        raise ReportError(f"{path} is not there, or is not JSON: the run has not come to a verdict")
    if not isinstance(document, dict) or "verdict" not in document:
        raise ReportError(f"{path} is not a verdict")
    return document


def read_timeline(directory: Path) -> Document | None:
    """`timeline.json`; None where there is none."""
    timeline = _json(directory / "timeline.json")
    return timeline if isinstance(timeline, dict) else None


def read_anomalies(directory: Path, limit: int = ANOMALIES_SHOWN) -> Excerpt:
    """The first `limit` lines of `anomalies.jsonl` and of the files that follow it."""
    lines: list[Document] = []
    more = dropped = 0
    for text in _lines(directory):
        if len(lines) >= limit and _DROPPED not in text:
            more += 1
            continue
        line = json_object(text)
        if line is None:
            continue
        if line.get("kind") == "dropped":
            lines_gone = line.get("lines")  # It counts from the begin of the run.
            dropped = lines_gone if isinstance(lines_gone, int) else dropped
        elif len(lines) < limit:
            lines.append(line)
        else:
            more += 1
    return Excerpt(tuple(lines), more, dropped)


def _lines(directory: Path) -> Iterator[str]:
    following = [path for path in directory.glob("anomalies.jsonl.*") if path.suffix[1:].isdecimal()]
    for path in (directory / "anomalies.jsonl", *sorted(following, key=lambda path: int(path.suffix[1:]))):
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                yield from file


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def json_object(text: str) -> Document | None:
    """None for what is not one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
