"""Waiting for one of several events, always bounded."""

import asyncio


async def first_of(timeout_s: float, wanted: asyncio.Event, *others: asyncio.Event) -> bool:
    """Waits until one of the events is set, at most `timeout_s`. True where `wanted` is set.

    A cancellation leaves nothing behind.
    """
    waits = [asyncio.ensure_future(event.wait()) for event in (wanted, *others)]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return wanted.is_set()
