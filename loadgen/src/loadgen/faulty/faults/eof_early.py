"""A body that is cut off, and looks as if it were whole."""

from loadgen.faulty.fault import MidBody
from loadgen.faulty.way import Way

SUMMARY = "the end of stream is sent early: a clean end in the middle of the body"


class EofEarly(MidBody):
    async def strike(self, way: Way) -> None:
        way.end()
