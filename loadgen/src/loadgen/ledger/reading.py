"""Where books come from: the programs' own metrics, or a Prometheus that watches them.

Rules
- Counts are taken as they are. `increase()` extrapolates between scrapes, and a ledger of estimates proves nothing.
- Over a time, what was there before is subtracted. What a program has counted since a restart within it is not compared
  with what others have counted.
- Whoever does not answer is named: silence is no balance.
- A sample that lacks a label, or has no finite number, is somebody else's: it is passed over.
"""

import json
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from math import isfinite
from typing import Any

from loadgen.ledger.books import CLIENT, GENERATOR, SERVER, Books
from loadgen.measure.observe import ENDS, EVENTS
from loadgen.measure.scrape import TIMEOUT_S, Labels, open_url, scrape_all

OVERDUE_ENDS = "tunnel_ends_overdue"
TARGET_ENDS = "http_target_ends_total"
OUTCOMES = "soak_transactions_total"
STALLED = "soak_stalled_transactions"
STARTED = "process_start_time_seconds"
NAMES = (ENDS, OVERDUE_ENDS, TARGET_ENDS, OUTCOMES, STALLED)

SCRAPES_APART_S = 15.0
"""A Prometheus has read one program at most so much later than another."""
TOGETHER_S = 60.0
"""Programs of a stack begin within this; one that began later has been restarted."""

HOPS = {"client": CLIENT, "server": SERVER}
"""By the label `role`."""

Series = Mapping[str, Mapping[Labels, float]]
"""metric -> labels -> value"""


class ReadError(Exception):
    """A Prometheus that cannot be asked; the message is for people."""


async def of_programs(urls: Mapping[str, str]) -> Books:
    """Reads each program's metrics port, all at the same time."""
    scrapes = await scrape_all(urls, only=(*NAMES, STARTED))
    series: dict[str, dict[Labels, float]] = {}
    began: dict[str, float] = {}
    for program, scrape in scrapes.items():
        if scrape is not None:
            began[program] = scrape.value(STARTED) or 0.0
            for name in NAMES:
                _add(series.setdefault(name, {}), scrape.series(name).items())
    silent = tuple(program for program, scrape in scrapes.items() if scrape is None)
    return books(series, restarted=began_anew(began), silent=silent)


def of_prometheus(base: str, over_s: float | None = None) -> Books:
    """Asks a Prometheus: since the programs began, or over the last seconds. Raises ReadError."""
    now = time.time()
    series = {name: _query(base, name, now) for name in NAMES}
    began: dict[str, float] = {}
    for labels, at in _query(base, STARTED, now).items():
        job = dict(labels).get("job", "")
        began[job] = max(at, began.get(job, 0.0))
    unsure = max(books(series).passed - books({ENDS: _query(base, ENDS, now - SCRAPES_APART_S)}).passed, 0)
    if over_s is None:
        return books(series, restarted=began_anew(began), unsure=unsure)
    for name in (ENDS, TARGET_ENDS, OUTCOMES):
        for labels, value in _query(base, name, now - over_s).items():
            if series[name].get(labels, 0.0) >= value:  # Else it began anew, and all it has is of this time.
                series[name][labels] -= value
    return books(series, restarted=began_anew(began, now - over_s), unsure=unsure)


def books(
    series: Series, restarted: frozenset[str] = frozenset(), silent: tuple[str, ...] = (), unsure: int = 0
) -> Books:
    """Sums over instances."""
    target = {"received": 0, "sent": 0}
    for labels, value in series.get(TARGET_ENDS, {}).items():
        if (event := dict(labels).get("event")) in target:
            target[event] += round(value)
    return Books(
        _by_hop(series.get(ENDS, {})),
        _by_hop(series.get(OVERDUE_ENDS, {})),
        target=target if series.get(TARGET_ENDS) else None,
        missed=_missed(series),
        restarted=restarted,
        silent=silent,
        unsure=unsure,
    )


def _by_hop(samples: Mapping[Labels, float]) -> dict[str, dict[str, dict[str, int]]]:
    hops: dict[str, dict[str, dict[str, int]]] = {}
    for labels, value in samples.items():
        match dict(labels):
            case {"role": role, "direction": direction, "event": event}:
                directions = hops.setdefault(HOPS.get(role, role), {})
                events = directions.setdefault(direction, dict.fromkeys(EVENTS, 0))
                if event in events:
                    events[event] += round(value)
    return hops


def began_anew(began: Mapping[str, float], since: float | None = None) -> frozenset[str]:
    """Programs that began after `since`; without it, later than those of their stack. The generator may come any time:
    it only counts what it misses."""
    if since is None:
        others = [at for program, at in began.items() if program != GENERATOR]
        since = max(min(others, default=0.0) + TOGETHER_S, began.get(GENERATOR, 0.0))
    return frozenset(program for program, at in began.items() if at > since)


def _missed(series: Series) -> int | None:
    if not series.get(OUTCOMES):
        return None
    ended = _sum(series[OUTCOMES], outcome="eof_missing")
    return ended + _sum(series.get(STALLED, {}), phase="eof_wait")


def _sum(samples: Mapping[Labels, float], **wanted: str) -> int:
    return round(sum(value for labels, value in samples.items() if wanted.items() <= dict(labels).items()))


def _add(samples: dict[Labels, float], more: Iterable[tuple[Labels, float]]) -> None:
    for labels, value in more:
        samples[labels] = samples.get(labels, 0.0) + value


def _query(base: str, expression: str, at: float) -> dict[Labels, float]:
    asked = urllib.parse.urlencode({"query": expression, "time": f"{at:.3f}"})
    url = f"{base.rstrip('/')}/api/v1/query?{asked}"
    try:
        with open_url(url, timeout=TIMEOUT_S) as answer:
            document: dict[str, Any] = json.load(answer)
        found = {
            tuple(sorted(sample["metric"].items())): float(sample["value"][1]) for sample in document["data"]["result"]
        }
    except (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ReadError(f"{base} does not answer as a Prometheus does: {error}") from error
    return {labels: value for labels, value in found.items() if isfinite(value)}
