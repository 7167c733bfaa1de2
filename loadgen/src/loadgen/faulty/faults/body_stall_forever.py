"""A body that pauses and does not go on."""

import asyncio

from loadgen.faulty.fault import KEPT_S, MidBody
from loadgen.faulty.way import Way

SUMMARY = "a stall in the middle of the body, for ever"


class BodyStallForever(MidBody):
    async def strike(self, way: Way) -> None:
        await asyncio.sleep(KEPT_S)
        raise ConnectionResetError("kept for long enough")
