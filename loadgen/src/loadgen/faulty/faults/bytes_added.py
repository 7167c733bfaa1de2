"""Bytes that nobody sent, between the last one and the end of stream."""

from loadgen.faulty.fault import Fault
from loadgen.faulty.way import Way

SUMMARY = "three bytes are added behind the body, before its end of stream"

ADDED = b"!!!"


class BytesAdded(Fault):
    async def on_end(self, way: Way) -> None:
        if not way.is_upload:
            self.on_strike()
            await way.send(ADDED)
        way.end()
