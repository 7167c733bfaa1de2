"""A transaction stalls: both proxies are asked about its stream while it is still there, and log what they know.

A proxy tells by itself of a stream that waits for something. Where an end got lost, one side or both may not know that
anybody waits: to them the stream is idle. The client's proxy knows it by the application's address, and says how the
server's proxy knows it.

Rules
- Only proxies whose metrics port is known are asked. One that is not ours does not know, and that is an answer.
- Bounded: MOST_IN_60_S transactions, each for TIMEOUT_S and proxy at most; a run does not wait for an answer. Those of
  a fault's time are expected to stall, and have MOST_PLANNED_IN_60_S of these.
- In the event loop: threads that wait for a proxy that stands still would keep those waiting who look up a name.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import httpx

MOST_IN_60_S = 20
"""As many as a proxy puts into its log."""
MOST_PLANNED_IN_60_S = 8

TIMEOUT_S = 2.0

CLIENT, SERVER = "proxy-client", "proxy-server"


class Inquiry:
    """`metrics` are URLs by program. An async context manager; leaving it waits for what is under way."""

    def __init__(self, metrics: Mapping[str, str], clock: Callable[[], float] = monotonic) -> None:
        self.left_out = 0
        """Transactions that nobody was asked about, because there were too many."""
        self._metrics = metrics
        self._clock = clock
        self._asked_at: deque[float] = deque(maxlen=MOST_IN_60_S)
        self._planned_at: deque[float] = deque(maxlen=MOST_PLANNED_IN_60_S)
        self._under_way: set[asyncio.Task[None]] = set()
        self._http = httpx.AsyncClient(verify=False, trust_env=False, timeout=TIMEOUT_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*self._under_way)
        await self._http.aclose()

    def about(self, application: str, *, planned: bool = False) -> None:
        """Asks about the stream of the connection that comes from `application`, which stalled in the time of a planned
        fault or not. Returns at once."""
        if CLIENT not in self._metrics or not application:
            return
        now = self._clock()
        counts = (self._asked_at, self._planned_at) if planned else (self._asked_at,)
        if any(len(asked) == asked.maxlen and now - asked[0] < 60.0 for asked in counts):
            self.left_out += 1
            return
        for asked in counts:
            asked.append(now)
        task = asyncio.create_task(self._ask(application))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _ask(self, application: str) -> None:
        match await self._get(CLIENT, {"application": application}):
            case {"session": str(session), "streams": [{"quic_stream": int(number)}]} if session:
                await self._get(SERVER, {"session": session, "quic_stream": number})

    async def _get(self, program: str, query: Mapping[str, str | int]) -> Any:
        if program not in self._metrics:
            return None
        try:
            async with asyncio.timeout(TIMEOUT_S):  # httpx bounds each step, this all of them.
                return (await self._http.get(urljoin(self._metrics[program], "evidence"), params=dict(query))).json()
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError):
            return None
