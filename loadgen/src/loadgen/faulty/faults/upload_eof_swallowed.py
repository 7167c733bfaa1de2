"""A half-close that does not arrive: the target waits for the rest of an upload that is complete."""

from loadgen.faulty.fault import Fault
from loadgen.faulty.way import Way

SUMMARY = "half-close: the client's end of stream is swallowed"


class UploadEofSwallowed(Fault):
    async def on_end(self, way: Way) -> None:
        if way.is_upload:
            self.on_strike()
        else:
            way.end()
