"""After the load: every gauge of the proxies has to come back to zero, within a bound, or it is named.

Rules
- A gauge that is not back is a leak: a stream, a connection or bytes that nobody is going to fetch any more.
- Back is what is at zero in two looks in a row: a proxy that passes bytes on may be seen between two of them.
- A gauge of ours that is not there at all is no zero: it is pending too, as "missing".
- A proxy whose gauges are not back is asked which streams are open (`/pending`); it may not know, if it is not ours.
"""

import asyncio
import json
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from time import monotonic
from typing import Any
from urllib.parse import urljoin

from loadgen.measure.scrape import TIMEOUT_S, Scrape, scrape_all

_OF_BOTH = (
    "tunnel_streams_active",
    "tunnel_half_closed_streams",
    "tunnel_buffered_bytes",
    "tunnel_oldest_unconfirmed_end_timestamp_seconds",
)
_OF_CLIENT = "socks_connections_active"
_OF_SERVER = "tunnel_dials_active"
GAUGES = (*_OF_BOTH, _OF_SERVER, _OF_CLIENT)
LOOK_EVERY_S = 0.25
MOST_STREAMS = 20
"""Named of each program."""
_SAID_OF_A_STREAM = ("connection", "stream", "quic_stream", "direction", "state", "age_s", "since_end_s")

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Drain:
    """How it went. `seconds` counts from the end of the load; `pending` names what is not back."""

    seconds: float
    pending: tuple[Mapping[str, Any], ...] = ()
    observed: bool = True
    """Whether any program's gauges could be looked at."""

    @property
    def complete(self) -> bool:
        return not self.pending


@dataclass(frozen=True, slots=True)
class Watched:
    """What came of watching the gauges; `observed` as in `Drain`."""

    pending: tuple[Mapping[str, Any], ...] = ()
    observed: bool = False


async def watch_gauges(metrics: Mapping[str, str], within_s: float) -> Watched:
    """Waits until every gauge is at zero twice in a row; returns what is pending then.

    `metrics` are URLs by program. It takes at most `within_s`, and a second look where the last one finds all at zero.
    """
    if not metrics:
        return Watched()
    deadline_s = monotonic() + within_s
    was_clean = False
    while True:
        scrapes = await scrape_all(metrics)
        pending = _pending(scrapes)
        is_over = was_clean if not pending else monotonic() >= deadline_s
        if is_over:
            return Watched(await _with_streams(pending, metrics), any(map(_gauges_of, scrapes.values())))
        was_clean = not pending
        await asyncio.sleep(LOOK_EVERY_S)


def _gauges_of(scrape: Scrape | None) -> tuple[str, ...]:
    """What has to be there: of a program of ours all that it has, of another one what it happens to call the same."""
    if scrape is None:
        return ()
    if scrape.has("socks_"):
        return (*_OF_BOTH, _OF_CLIENT)
    if scrape.has("tunnel_"):
        return (*_OF_BOTH, _OF_SERVER)
    return ()


def _pending(scrapes: Mapping[str, Scrape | None]) -> tuple[dict[str, Any], ...]:
    found: list[dict[str, Any]] = []
    for program, scrape in scrapes.items():
        if scrape is None:
            found.append({"program": program, "what": "metrics", "value": "unreachable"})
            continue
        for gauge in _gauges_of(scrape):
            series = scrape.series(gauge)
            if not series:
                found.append({"program": program, "what": gauge, "value": "missing"})
            for labels, value in series.items():
                if value != 0:
                    found.append({"program": program, "what": gauge, "labels": dict(labels), "value": value})
    return tuple(found)


async def _with_streams(pending: Iterable[dict[str, Any]], metrics: Mapping[str, str]) -> tuple[Mapping[str, Any], ...]:
    """Each program's open streams, with the first thing that is pending of it."""
    first_of: dict[str, dict[str, Any]] = {}
    for item in (items := tuple(pending)):
        if item["what"] != "metrics":
            first_of.setdefault(item["program"], item)
    found = await asyncio.gather(*(asyncio.to_thread(_open_streams, metrics[program]) for program in first_of))
    for item, streams in zip(first_of.values(), found, strict=True):
        if streams:
            item["streams"] = streams
    return items


def _open_streams(url: str) -> list[dict[str, Any]]:
    """What the program names, the oldest first; nothing where it does not know, or says something unexpected."""
    try:
        with _OPENER.open(urljoin(url, "pending"), timeout=TIMEOUT_S) as response:
            lines = json.load(response)["streams"][:MOST_STREAMS]
            return [{name: line[name] for name in _SAID_OF_A_STREAM if name in line} for line in lines]
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return []
