"""A connection that breaks."""

from loadgen.faulty.fault import MidBody
from loadgen.faulty.way import Way

SUMMARY = "the connection is reset in the middle of the body"


class ResetMidBody(MidBody):
    async def strike(self, way: Way) -> None:
        raise ConnectionResetError("as was asked for")
