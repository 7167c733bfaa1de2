"""A body of the right length with a wrong bit in it."""

from loadgen.faulty.fault import AT_BYTES, Fault
from loadgen.faulty.way import Way

SUMMARY = "one bit of one byte in the middle of the body is flipped"


class ByteFlipped(Fault):
    def __init__(self) -> None:
        self._ahead_bytes = AT_BYTES

    async def on_data(self, way: Way, data: bytes) -> None:
        if not way.is_upload:
            at = self._ahead_bytes
            self._ahead_bytes -= len(data)
            if 0 <= at < len(data):
                self.on_strike()
                data = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        await way.send(data)
