"""What the programs of the stack say of themselves at one moment: memory, descriptors, the FIN ledger, their engine.

Memory and descriptors come from /proc where the process id is known, else from `process_*` metrics; else they are null.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loadgen.measure.scrape import Scrape, scrape_all

ENDS = "tunnel_ends_total"
ENGINE = "tunnel_engine_info"
EVENTS = ("received", "forwarded", "confirmed", "rescued", "abandoned")

Ledger = dict[str, dict[str, dict[str, int]]]
"""hop (program) -> direction -> event -> number of ends"""


@dataclass(frozen=True, slots=True)
class Resources:
    """Of one process; None: not known."""

    rss_bytes: int | None = None
    fds: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of the stack."""

    resources: Mapping[str, Resources]
    ends: Ledger
    """Since each program was started."""
    instances: Mapping[str, float] = field(default_factory=dict)
    """When each program was started, by its own clock: another value is another process."""
    engines: Mapping[str, str] = field(default_factory=dict)
    """The QUIC engine that is used, by side: client, server."""


async def snapshot(metrics: Mapping[str, str], pids: Mapping[str, int]) -> Snapshot:
    """Looks at every program that is known by metrics URL or process id, and at this process."""
    scrapes = await scrape_all(metrics, only=(ENDS, ENGINE, "process_"))
    resources = {"loadgen": _of_process(os.getpid())}
    for program in sorted({*scrapes, *pids}):
        seen = _of_process(pids[program]) if program in pids else Resources()
        resources[program] = seen if seen.rss_bytes is not None else _of_metrics(scrapes.get(program))
    ends = {program: counted for program, scrape in scrapes.items() if (counted := _ends(scrape))}
    instances = {
        program: started_at
        for program, scrape in scrapes.items()
        if scrape is not None and (started_at := scrape.value("process_start_time_seconds")) is not None
    }
    engines = {side: engine for scrape in scrapes.values() if scrape for side, engine in _engines(scrape)}
    return Snapshot(resources, ends, instances, engines)


def rescued(ends: Ledger) -> int:
    """Ends that only the rescue brought through, over all hops and directions."""
    return sum(events["rescued"] for directions in ends.values() for events in directions.values())


def _of_process(pid: int) -> Resources:
    try:
        resident_pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return Resources()
    return Resources(resident_pages * os.sysconf("SC_PAGE_SIZE"), descriptors)


def _of_metrics(scrape: Scrape | None) -> Resources:
    if scrape is None:
        return Resources()
    rss_bytes, fds = scrape.value("process_resident_memory_bytes"), scrape.value("process_open_fds")
    return Resources(None if rss_bytes is None else int(rss_bytes), None if fds is None else int(fds))


def _ends(scrape: Scrape | None) -> dict[str, dict[str, int]]:
    counted: dict[str, dict[str, int]] = {}
    for pairs, value in (scrape.series(ENDS) if scrape else {}).items():
        match dict(pairs):
            case {"direction": direction, "event": event}:
                events = counted.setdefault(direction, dict.fromkeys(EVENTS, 0))
                if event in events:
                    events[event] += int(value)
    return counted


def _engines(scrape: Scrape) -> Iterator[tuple[str, str]]:
    for pairs in scrape.series(ENGINE):
        match dict(pairs):
            case {"role": role, "engine": engine}:
                yield role, engine
