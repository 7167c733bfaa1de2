"""A proxy that does not know half-closed connections."""

from loadgen.faulty.fault import Fault
from loadgen.faulty.way import Way

SUMMARY = "half-close: the client's end of stream closes both directions, so that no answer arrives"


class HalfCloseAsClose(Fault):
    async def on_end(self, way: Way) -> None:
        way.end()
        if way.is_upload:
            self.on_strike()
            way.back.end()
