"""Notices that a TCP connection broke, whether anybody reads from it or not.

An event loop looks at a socket only while it has a reader or a writer, so a paused relay would learn of a reset
late: at its next byte, or never. And uvloop ends the registration of a descriptor on its first error (POLLERR),
after one more call of the reader: what arrived in front of a reset and does not fit that one call would stay unread.

Here every socket sits in one epoll set with an empty event mask, for which the kernel reports nothing but errors and
hang-ups; the set itself is one reader of the event loop. Data arriving wakes nobody.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final

_EVENTS_A_TURN_MAX: Final = 256


class ResetWatch:
    """One for each event loop; close it before the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._ready)

    def add(self, fd: int, on_broken: Callable[[], None]) -> None:
        """Calls `on_broken` when the connection has an error, or when both of its directions are over.

        It is a hint: `recv` or `send` may have reported the error meanwhile, and it may still come after `remove`.
        """
        # Edge-triggered: both conditions last, and would be reported in every turn.
        self._epoll.register(fd, select.EPOLLET)
        self._callbacks[fd] = on_broken

    def remove(self, fd: int) -> None:
        """To be called before the descriptor is closed, because its number is given out again. Idempotent."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Forgets all descriptors. Idempotent."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._callbacks.clear()
            self._epoll.close()

    def _ready(self) -> None:
        for fd, _ in self._epoll.poll(0, _EVENTS_A_TURN_MAX):
            callback = self._callbacks.get(fd)
            if callback is not None:
                # Each by itself: an edge comes once, so one failing callback must not swallow the others' (F21).
                self._loop.call_soon(callback)
