"""Readiness of many sockets by one epoll set, which itself is one reader of the event loop.

Why not `loop.add_reader` for each socket:
- An event loop looks at a socket only while it has a reader or a writer. A paused relay would learn of a reset
  late: at its next byte, or never. epoll reports errors even for an empty mask.
- uvloop ends the registration of a descriptor on its first error (POLLERR), after one more call of the reader.
  Bytes that arrived in front of a reset and do not fit that one call would never be read: the connection hangs.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
# Reported whether wanted or not. HUP: both directions are over, as after a reset.
ERROR: Final = select.EPOLLERR
HANG_UP: Final = select.EPOLLHUP
# What epoll never says: the poller itself was closed, and with it ends the time of the descriptor.
GONE: Final = 0

_EVENTS_A_TURN_MAX: Final = 256
_EVENTS_A_PART: Final = 8


class Poller:
    """One for each event loop; close it before the loop. `loop` is the one it runs on.

    `after_part` is called after each few of a turn's callbacks: what they have asked for can begin while the others are
    called. Else two programs that work for each other would take turns, each with a whole turn's work, and neither
    would ever work while the other does.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.after_part: Callable[[], None] = lambda: None
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._actions: list[Callable[[], None]] = []
        loop.add_reader(self._epoll.fileno(), self._ready)

    def __len__(self) -> int:
        """Descriptors that are watched."""
        return len(self._callbacks)

    def add(self, fd: int, on_ready: Callable[[int], None], events: int = 0) -> None:
        """Calls `on_ready` with the events wanted, as `want` does; with none that is ERROR and HANG_UP only, once each.

        An event may be a false alarm (of a descriptor with the same number before), so it is a hint to try.
        """
        self._epoll.register(fd, events or select.EPOLLET)
        self._callbacks[fd] = on_ready

    def want(self, fd: int, events: int) -> None:
        """Waits for READABLE, WRITABLE, both, or neither, in place of what was wanted before."""
        # With nothing wanted, edge-triggered: an error or a hang-up lasts, and would be reported in every turn.
        self._epoll.modify(fd, events or select.EPOLLET)

    def remove(self, fd: int) -> None:
        """To be called before the descriptor is closed, because its number is given out again. Idempotent."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def soon(self, action: Callable[[], None]) -> None:
        """Calls `action` at the end of this turn of the event loop, or with the next `run_actions`."""
        if not self._actions:
            self.loop.call_soon(self.run_actions)
        self._actions.append(action)

    def run_actions(self) -> bool:
        """Does at once what `soon` was asked for; False where that is nothing."""
        actions, self._actions = self._actions, []
        for action in actions:
            try:
                action()
            except Exception as error:
                self._report(error)
        return bool(actions)

    def close(self) -> None:
        """Tells everybody who is left that it is over (GONE). Idempotent."""
        if not self._epoll.closed:
            for on_ready in list(self._callbacks.values()):
                on_ready(GONE)
            self.loop.remove_reader(self._epoll.fileno())
            self._callbacks.clear()
            self._epoll.close()

    def _ready(self) -> None:
        for number, (fd, events) in enumerate(self._epoll.poll(0, _EVENTS_A_TURN_MAX), 1):
            if number % _EVENTS_A_PART == 0:
                self.after_part()
            callback = self._callbacks.get(fd)
            if callback is None:
                continue  # removed by a callback before this one
            try:
                callback(events)
            except Exception as error:
                self._report(error)

    def _report(self, error: Exception) -> None:
        """One owner's fault must not keep the others' events from them (F21)."""
        self.loop.call_exception_handler({"message": "a readiness callback failed", "exception": error})
