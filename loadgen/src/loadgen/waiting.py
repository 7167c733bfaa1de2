"""Waiting for a moment on a clock."""

import asyncio
from collections.abc import Callable


async def sleep_until(at_s: float, clock: Callable[[], float]) -> None:
    """Waits until `clock` says `at_s`, and no less: uvloop rounds to milliseconds and may wake up early."""
    while (left_s := at_s - clock()) > 0:  # noqa: ASYNC110 -- a time, not an event.
        await asyncio.sleep(left_s)
