"""Reads the metrics port of another program.

Rules
- A program that does not answer within TIMEOUT_S gives None: that is an answer too, and the caller says what it means.
- The environment's HTTP proxies are not used: a metrics port is reached directly.
"""

import asyncio
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from math import isfinite

from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 5.0

Labels = tuple[tuple[str, str], ...]

open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
"""Past the environment's HTTP proxies."""


class Scrape:
    """The samples of one moment; `only` those whose name begins so, as reading all of them takes a while.

    What is not a number (NaN, infinite) is left out: nobody could count with it. Raises ValueError.
    """

    def __init__(self, text: str, only: tuple[str, ...] = ()) -> None:
        self._samples: dict[str, dict[Labels, float]] = {}
        if only:
            text = "".join(line for line in text.splitlines(keepends=True) if line.startswith(only))
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if not isfinite(sample.value):
                    continue
                labels = tuple(sorted(sample.labels.items()))
                self._samples.setdefault(sample.name, {})[labels] = sample.value

    def series(self, name: str) -> Mapping[Labels, float]:
        """Value by labels; empty where there is no such sample."""
        return self._samples.get(name, {})

    def value(self, name: str) -> float | None:
        """The value of a sample without labels."""
        return self.series(name).get(())

    def has(self, prefix: str) -> bool:
        """Whether there is any sample whose name begins so."""
        return any(name.startswith(prefix) for name in self._samples)


async def scrape(url: str, only: tuple[str, ...] = ()) -> Scrape | None:
    """Reads one metrics port; None where it does not answer, or not with metrics."""
    try:
        return await asyncio.to_thread(_read, url, only)
    except (OSError, HTTPException, ValueError):  # A program that ends in the middle of an answer is no answer.
        return None


async def scrape_all(urls: Mapping[str, str], only: tuple[str, ...] = ()) -> dict[str, Scrape | None]:
    """Reads several at the same time, by program."""
    scrapes = await asyncio.gather(*(scrape(url, only) for url in urls.values()))
    return dict(zip(urls, scrapes, strict=True))


def _read(url: str, only: tuple[str, ...]) -> Scrape:
    with open_url(url, timeout=TIMEOUT_S) as response:
        return Scrape(response.read().decode(), only)
