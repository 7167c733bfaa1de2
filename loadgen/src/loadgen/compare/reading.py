"""The runs of one side, from their `verdict.json`.

Rules
- A side is a report directory, a verdict.json, or a directory of report directories: repeated runs of the same thing.
- Only what is compared is read. What came later than the first release has a default, None: not known.
- A run that left a report without a verdict did not end by itself: it is not skipped in silence.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadgen.verdict.verdict import Verdict

VERDICT = "verdict.json"
_TRACE = "anomalies.jsonl"
"""What a run writes from its begin on."""


class ReadError(ValueError):
    """There is nothing to compare; the message says where, and why not."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Percentiles(_Part):
    p50: float | None
    p99: float | None


class Stalled(_Part):
    count: int


class Window(_Part):
    completed: int
    outcomes: Mapping[str, int]
    stalls: Mapping[str, int]
    timeouts: Mapping[str, int]
    latency_ms: Percentiles


class Windows(_Part):
    quiet: Window
    recovery: Window | None = None


class Scenario(_Part):
    latency_ms: Percentiles


class About(_Part):
    """Which run it was. Two runs can be compared where these agree."""

    id: str
    revision: str = "unknown"
    stack: str
    duration_s: float
    mix: str | None = None
    arrivals: str | None = None
    rate_per_s: float | None = None
    link: str | None = None


class Totals(_Part):
    scheduled: int
    dropped: int
    completed: int


class Ends(_Part):
    rescued: int


class Drained(_Part):
    seconds: float
    pending: tuple[object, ...]


class Imbalance(_Part):
    missing: int
    given_up: int = 0


class Ledger(_Part):
    balanced: bool | None
    """None where nobody keeps a ledger."""
    imbalances: tuple[Imbalance, ...]


class Generator(_Part):
    saturated: bool


class Fault(_Part):
    kind: str | None = None
    program: str | None = None
    name: str
    at_s: float | None = None
    for_s: float | None = None
    conditions: Mapping[str, float | str] = {}
    recovery_s: float | None = None


class Used(_Part):
    rss_start_bytes: int | None
    rss_end_bytes: int | None
    fds_start: int | None
    fds_end: int | None


class Report(_Part):
    """What is compared of a run."""

    schema_: Literal[1] = Field(alias="schema")
    verdict: Verdict
    reasons: tuple[str, ...]
    run: About
    totals: Totals
    offered_per_s: float
    outcomes: Mapping[str, int]
    scenarios: Mapping[str, Scenario]
    stalls: Mapping[str, Stalled]
    timeouts: Mapping[str, int]
    windows: Windows | None = None
    faults: tuple[Fault, ...] = ()
    unsupported: Mapping[str, str] = Field(default_factory=dict)
    ends: Mapping[str, Mapping[str, Ends]]
    ledger: Ledger | None = None
    drain: Drained
    generator: Generator
    resources: Mapping[str, Used]

    @property
    def is_old(self) -> bool:
        """Whether it is of the first release, which did not tell all that is compared."""
        return self.windows is None


@dataclass(frozen=True, slots=True)
class Side:
    """The runs of one side, at least one. `unfinished`: directories of runs that have no verdict."""

    path: Path
    runs: tuple[Report, ...]
    unfinished: tuple[Path, ...] = ()


def read(path: Path) -> Side:
    """Reads one side. Raises ReadError."""
    if path.is_file():
        return Side(path, (_report(path),))
    if (path / VERDICT).is_file():
        return Side(path, (_report(path / VERDICT),))
    if not path.is_dir():
        raise ReadError(f"{path}: there is no such file or directory")
    below = sorted({entry.resolve() for entry in path.iterdir() if entry.is_dir()})
    runs = tuple(_report(entry / VERDICT) for entry in below if (entry / VERDICT).is_file())
    if not runs:
        raise ReadError(f"{path}: there is no {VERDICT} in it, nor in a directory in it")
    unfinished = tuple(entry for entry in below if (entry / _TRACE).exists() and not (entry / VERDICT).is_file())
    return Side(path, runs, unfinished)


def _report(path: Path) -> Report:
    try:
        return Report.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise ReadError(f"{path}: is no {VERDICT} of a soak: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise ReadError(f"{path}: is not JSON: {error}") from error
