"""From an anomaly to what both proxies logged of the same stream.

    anomaly ──application──▶ evidence of proxy-client ──session, quic_stream──▶ evidence of proxy-server

Rules
- Read are PROGRAM.log and PROGRAM.log.1 beside the report, as far as they are there. A line that is no evidence, or is
  cut short, is passed over.
- Ports are used again: what an application's address leads to happened within NEAR_S of the anomaly.
- Bounded: LINES_MAX lines of a program, SHOWN of all that lead from an anomaly.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from loadgen.report.files import Document, json_object

PROXIES = ("proxy-client", "proxy-server")
LINES_MAX = 2000
SHOWN = 40
NEAR_S = 60.0
"""No phase of a transaction lasts longer, nor does a proxy take longer to give a stream up."""

_MARK = '"event": "evidence"'

Stream = tuple[str, int]
"""session, quic_stream"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One log line, as the page shows it."""

    anchor: str
    program: str
    time: str
    why: str
    session: str
    state: Mapping[str, Any]
    """Of the stream that the anomaly is about."""
    last_events: Sequence[str]


def read(directory: Path) -> dict[str, list[Document]]:
    """The evidence of each proxy, oldest first."""
    return {program: list(_lines(directory, program)) for program in PROXIES}


class Evidence:
    """Gives each line that an anomaly leads to a place on the page."""

    def __init__(self, lines: Mapping[str, Sequence[Document]]) -> None:
        self.entries: list[Entry] = []
        self._left_out: set[tuple[str, int]] = set()
        self._by_application: dict[str, list[tuple[Document, Mapping[str, Any]]]] = {}
        self._by_stream: dict[Stream, list[tuple[Document, Mapping[str, Any]]]] = {}
        self._anchors: dict[tuple[str, int], str] = {}
        for line in lines.get("proxy-client", ()):
            for state in _states(line):
                if state.get("application"):
                    self._by_application.setdefault(str(state["application"]), []).append((line, state))
        for line in lines.get("proxy-server", ()):
            for state in _states(line):
                self._by_stream.setdefault(_stream(line, state), []).append((line, state))

    @property
    def left_out(self) -> int:
        """Lines that lead from an anomaly and are not on the page."""
        return len(self._left_out)

    def of(self, anomaly: Document) -> tuple[str, ...]:
        """The anchors of the lines about the anomaly's connection, the client's first."""
        named = self._by_application.get(str(anomaly.get("application") or ""), ())
        at_client = [(line, state) for line, state in named if _near(line, anomaly)]
        anchors = [self._place("proxy-client", line, state) for line, state in at_client]
        streams = dict.fromkeys(_stream(line, state) for line, state in at_client if "quic_stream" in state)
        for stream in streams:
            anchors += [self._place("proxy-server", line, state) for line, state in self._by_stream.get(stream, ())]
        return tuple(dict.fromkeys(anchor for anchor in anchors if anchor))

    def _place(self, program: str, line: Document, state: Mapping[str, Any]) -> str:
        key = (program, id(state))
        if key not in self._anchors:
            if len(self.entries) == SHOWN:
                self._left_out.add(key)
                return ""
            self._anchors[key] = f"evidence-{len(self.entries) + 1}"
            events = [str(event) for event in _list(line, "last_events")]
            of_stream = f"stream {state.get('quic_stream')} "
            own = [event for event in events if of_stream in event or " stream " not in event]
            self.entries.append(
                Entry(
                    self._anchors[key],
                    program,
                    str(line.get("time", "")),
                    str(line.get("why", "")),
                    str(line.get("session", "")),
                    state,
                    own or events,
                )
            )
        return self._anchors[key]


def _states(line: Document) -> Sequence[Mapping[str, Any]]:
    return [state for state in _list(line, "streams") if isinstance(state, dict)]


def _list(line: Document, name: str) -> Sequence[Any]:
    value = line.get(name)
    return value if isinstance(value, list) else []


def _near(one: Document, other: Document) -> bool:
    try:
        apart = datetime.fromisoformat(str(one.get("time"))) - datetime.fromisoformat(str(other.get("time")))
    except (TypeError, ValueError):  # No time, or one without its zone.
        return False
    return abs(apart.total_seconds()) <= NEAR_S


def _stream(line: Document, state: Mapping[str, Any]) -> Stream:
    number = state.get("quic_stream")
    return str(line.get("session", "")), number if isinstance(number, int) else -1


def _lines(directory: Path, program: str) -> Iterator[Document]:
    found = 0
    for path in (directory / f"{program}.log.1", directory / f"{program}.log"):
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                if _MARK in text and found < LINES_MAX and (line := json_object(text)) is not None:
                    found += 1
                    yield line
