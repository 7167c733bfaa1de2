"""A transaction stalls: both proxies are asked about its stream while it is still there, and log what they know.

A proxy tells by itself of a stream that waits for something. Where an end got lost, one side or both may not know that
anybody waits: to them the stream is idle. The client's proxy knows it by the application's address, and says how the
server's proxy knows it.

Rules
- Only proxies whose metrics port is known are asked. One that is not ours does not know, and that is an answer.
- Bounded: MOST_IN_60_S transactions, each for TIMEOUT_S and proxy at most; a run does not wait for an answer.
"""

import asyncio
import json
import urllib.parse
from collections import deque
from collections.abc import Callable, Mapping
from http.client import HTTPException
from time import monotonic
from typing import Any
from urllib.parse import urljoin

from loadgen.measure.scrape import TIMEOUT_S, open_url

MOST_IN_60_S = 20
"""As many as a proxy puts into its log."""

CLIENT, SERVER = "proxy-client", "proxy-server"


class Inquiry:
    """`metrics` are URLs by program. For use in the event loop."""

    def __init__(self, metrics: Mapping[str, str], clock: Callable[[], float] = monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._asked_at: deque[float] = deque(maxlen=MOST_IN_60_S)
        self._under_way: set[asyncio.Task[None]] = set()

    def about(self, application: str) -> None:
        """Asks about the stream of the connection that comes from `application`. Returns at once."""
        now = self._clock()
        if CLIENT not in self._metrics or not application:
            return
        if len(self._asked_at) == MOST_IN_60_S and now - self._asked_at[0] < 60.0:
            return
        self._asked_at.append(now)
        task = asyncio.create_task(self._ask(application))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def over(self) -> None:
        """When nothing is under way any more."""
        await asyncio.gather(*self._under_way)

    async def _ask(self, application: str) -> None:
        match await asyncio.to_thread(_get, self._metrics[CLIENT], {"application": application}):
            case {"session": str(session), "streams": [{"quic_stream": int(number)}]} if SERVER in self._metrics:
                await asyncio.to_thread(_get, self._metrics[SERVER], {"session": session, "quic_stream": number})


def _get(metrics: str, query: Mapping[str, str | int]) -> Any:
    url = f"{urljoin(metrics, 'evidence')}?{urllib.parse.urlencode(query)}"
    try:
        with open_url(url, timeout=TIMEOUT_S) as answer:
            return json.load(answer)
    except (OSError, HTTPException, ValueError):
        return None
