"""A proxy that says that it has connected, and then does nothing."""

from loadgen.faulty.fault import Fault
from loadgen.faulty.way import Way

SUMMARY = "CONNECT is accepted, and then nothing is relayed, in neither direction"


class Silence(Fault):
    """It reads what comes, so that no one can tell by a full buffer. Each thing that it swallows is a strike."""

    async def on_data(self, way: Way, data: bytes) -> None:
        self.on_strike()

    async def on_end(self, way: Way) -> None:
        self.on_strike()
