"""The founding bug: all of the body, and never its end."""

from loadgen.faulty.fault import Fault
from loadgen.faulty.way import Way

SUMMARY = "the target's end of stream is swallowed, behind a complete body"


class EofSwallowed(Fault):
    async def on_end(self, way: Way) -> None:
        if way.is_upload:
            way.end()
        else:
            self.on_strike()
