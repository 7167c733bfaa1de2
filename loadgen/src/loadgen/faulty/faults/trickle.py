"""A control: slow but steady is no stall, however long it takes."""

import asyncio

from loadgen.faulty.fault import Fault
from loadgen.faulty.way import Way

SUMMARY = "no fault, but slow: 500 bytes every 0.6 s to the client, and steadily so"

STEP_BYTES, STEP_S = 500, 0.6


class Trickle(Fault):
    def __init__(self, step_s: float = STEP_S) -> None:
        self._step_s = step_s

    async def on_data(self, way: Way, data: bytes) -> None:
        if way.is_upload:
            await way.send(data)
            return
        for start in range(0, len(data), STEP_BYTES):
            await way.send(data[start : start + STEP_BYTES])
            await asyncio.sleep(self._step_s)
