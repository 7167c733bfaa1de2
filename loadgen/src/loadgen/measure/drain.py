"""After the load: every gauge of the proxies has to come back to zero, within a bound, or it is named.

A gauge that is not back is a leak: a stream, a connection or bytes that nobody is going to fetch any more.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from loadgen.measure.scrape import Scrape, scrape_all

GAUGES = (
    "tunnel_streams_active",
    "tunnel_half_closed_streams",
    "tunnel_buffered_bytes",
    "tunnel_dials_active",
    "tunnel_oldest_unconfirmed_end_timestamp_seconds",
    "socks_connections_active",
)
LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Drain:
    """How it went. `seconds` counts from the end of the load; `pending` names what is not back."""

    seconds: float
    pending: tuple[Mapping[str, Any], ...] = ()

    @property
    def complete(self) -> bool:
        return not self.pending


async def watch_gauges(metrics: Mapping[str, str], within_s: float) -> tuple[Mapping[str, Any], ...]:
    """Waits until every gauge is at zero, at most `within_s`; returns what is pending then."""
    deadline_s = monotonic() + within_s
    while pending := _pending(await scrape_all(metrics)):
        if monotonic() >= deadline_s:
            return pending
        await asyncio.sleep(LOOK_EVERY_S)
    return ()


def _pending(scrapes: Mapping[str, Scrape | None]) -> tuple[Mapping[str, Any], ...]:
    found: list[Mapping[str, Any]] = []
    for program, scrape in scrapes.items():
        if scrape is None:
            found.append({"program": program, "what": "metrics", "value": "unreachable"})
            continue
        for gauge in GAUGES:
            for labels, value in scrape.series(gauge).items():
                if value != 0:
                    found.append({"program": program, "what": gauge, "labels": dict(labels), "value": value})
    return tuple(found)
