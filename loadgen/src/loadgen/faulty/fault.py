"""The seam between the relay and its faults.

Rules
- A `Fault` is one connection's: the relay makes one for each, so it may remember what has passed.
- The methods here do what a correct proxy does. A fault overrides the one that it breaks, and nothing else.
- A fault that breaks something calls `on_strike` just before it does: whoever tests a tester counts from there.
- An OSError that a method raises resets both sides. A method that waits is cancelled when the client leaves.
"""

from collections.abc import Callable

from loadgen.faulty.way import Way

AT_BYTES = 4000
"""Where "mid-body" is: behind so many bytes of what the target sends. A head takes about 100 of them."""

KEPT_S = 300.0
"""How long a connection is kept at most whose end, or whose bytes, a fault keeps back: a client that has closed and one
that only waits look the same from here."""


def _nobody_asks() -> None:
    pass


class Fault:
    """No fault: every byte and every ending is passed on as it came."""

    on_strike: Callable[[], None] = staticmethod(_nobody_asks)
    """Is called when the fault strikes."""

    async def on_greeting(self) -> None:
        """The client has greeted; it gets its method reply after this."""

    async def on_connect_reply(self) -> None:
        """The target is connected; the client gets the reply that says so after this."""

    async def on_data(self, way: Way, data: bytes) -> None:
        """`data` has come on `way`."""
        await way.send(data)

    async def on_end(self, way: Way) -> None:
        """The end of stream has come on `way`."""
        way.end()


class MidBody(Fault):
    """Strikes once, between byte AT_BYTES of what the target sends and the next one."""

    def __init__(self) -> None:
        self._left_bytes = AT_BYTES

    async def on_data(self, way: Way, data: bytes) -> None:
        if way.is_upload or not self._left_bytes:
            await way.send(data)
            return
        before, behind = data[: self._left_bytes], data[self._left_bytes :]
        self._left_bytes -= len(before)
        if not self._left_bytes:
            self.on_strike()  # Before the last byte goes: nobody can have seen it sooner.
        await way.send(before)
        if not self._left_bytes:
            await self.strike(way)
            await way.send(behind)

    async def strike(self, way: Way) -> None:
        """What happens there, on the way to the client."""
        raise NotImplementedError
