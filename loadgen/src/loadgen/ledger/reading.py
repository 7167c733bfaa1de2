"""Where books come from: the programs' own metrics, or a Prometheus that watches them.

Rules
- Counts are taken as they are. `increase()` extrapolates between scrapes, and a ledger of estimates proves nothing.
- Over a time, what was there before is subtracted; a program that began within it is not judged.
- Whoever does not answer is named: silence is no balance.
"""

import json
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

from loadgen.ledger.books import Books
from loadgen.measure.observe import ENDS, EVENTS
from loadgen.measure.scrape import TIMEOUT_S, Labels, Scrape, open_url, scrape_all

TARGET_ENDS = "http_target_ends_total"
OUTCOMES = "soak_transactions_total"
STALLED = "soak_stalled_transactions"
STARTED = "process_start_time_seconds"

HOPS = {"client": "proxy-client", "server": "proxy-server"}
"""By the label `role`."""

Series = Mapping[str, Mapping[Labels, float]]
"""metric -> labels -> value"""


class ReadError(Exception):
    """A Prometheus that cannot be asked; the message is for people."""


async def of_programs(urls: Mapping[str, str]) -> Books:
    """Reads each program's metrics port, all at the same time."""
    scrapes = await scrape_all(urls, only=(ENDS, TARGET_ENDS, OUTCOMES, STALLED))
    series: dict[str, dict[Labels, float]] = {}
    for scrape in scrapes.values():
        for name in (ENDS, TARGET_ENDS, OUTCOMES, STALLED) if scrape else ():
            _add(series.setdefault(name, {}), _series(scrape, name))
    return books(series, silent=tuple(name for name, scrape in scrapes.items() if scrape is None))


def of_prometheus(base: str, over_s: float | None = None) -> Books:
    """Asks a Prometheus: since the programs began, or over the last seconds. Raises ReadError."""
    now = time.time()
    names = (ENDS, TARGET_ENDS, OUTCOMES, STALLED)
    series = {name: _query(base, name, now) for name in names}
    if over_s is None:
        return books(series)
    for name in (ENDS, TARGET_ENDS, OUTCOMES):
        for labels, value in _query(base, name, now - over_s).items():
            if labels in series[name]:
                series[name][labels] -= value
    began = _query(base, STARTED, now)
    young = frozenset(dict(labels).get("job", "") for labels, at in began.items() if at > now - over_s)
    return books(series, restarted=young)


def books(series: Series, restarted: frozenset[str] = frozenset(), silent: tuple[str, ...] = ()) -> Books:
    """Sums over instances."""
    ends: dict[str, dict[str, dict[str, int]]] = {}
    for labels, value in series.get(ENDS, {}).items():
        of = dict(labels)
        directions = ends.setdefault(HOPS.get(of["role"], of["role"]), {})
        events = directions.setdefault(of["direction"], dict.fromkeys(EVENTS, 0))
        if of["event"] in events:
            events[of["event"]] += round(value)
    target = {"received": 0, "sent": 0}
    for labels, value in series.get(TARGET_ENDS, {}).items():
        target[dict(labels)["event"]] += round(value)
    return Books(
        ends,
        target=target if series.get(TARGET_ENDS) else None,
        missed=_missed(series),
        restarted=restarted & frozenset(HOPS.values()),
        silent=silent,
    )


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


def _series(scrape: Scrape | None, name: str) -> Iterable[tuple[Labels, float]]:
    return scrape.series(name).items() if scrape else ()


def _query(base: str, expression: str, at: float) -> dict[Labels, float]:
    asked = urllib.parse.urlencode({"query": expression, "time": f"{at:.3f}"})
    url = f"{base.rstrip('/')}/api/v1/query?{asked}"
    try:
        with open_url(url, timeout=TIMEOUT_S) as answer:
            document: dict[str, Any] = json.load(answer)
        return {
            tuple(sorted(sample["metric"].items())): float(sample["value"][1]) for sample in document["data"]["result"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadError(f"{base} does not answer as a Prometheus does: {error}") from error
