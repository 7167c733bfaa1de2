"""A body that pauses, and then goes on."""

import asyncio

from loadgen.faulty.fault import MidBody
from loadgen.faulty.way import Way

PAUSE_S = 6.5
"""Longer than the stall limit of body (5 s), shorter than its timeout."""

SUMMARY = f"a stall of {PAUSE_S:g} s in the middle of the body, which then goes on"


class BodyStall(MidBody):
    def __init__(self, pause_s: float = PAUSE_S) -> None:
        super().__init__()
        self._pause_s = pause_s

    async def strike(self, way: Way) -> None:
        await asyncio.sleep(self._pause_s)
