"""One alarm on the monotonic clock, exact to a fraction of a millisecond.

The timers of asyncio and uvloop are rounded to whole milliseconds, too coarse for a link that says 10 ms. On Linux the
alarm is a timerfd; elsewhere it is the loop's timer after all.
"""

import asyncio
import ctypes
import math
import os
import sys
from collections.abc import Callable
from time import monotonic

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_TFD_FLAGS = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Calls `ring` once at or after the moment that was set. Setting again moves it."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        self._descriptor = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS) if self._libc else -1
        self._spec = _TimerSpec()
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._expired)

    def set(self, at_s: float) -> None:
        """Sets the alarm to `at_s` on time.monotonic()'s clock; a moment in the past rings when the loop turns."""
        if self._descriptor < 0 or self._libc is None:
            self.clear()
            self._handle = self._loop.call_later(max(at_s - monotonic(), 0.0), self._ring)
            return
        fraction, seconds = math.modf(at_s)
        self._spec.value.seconds = int(seconds)
        self._spec.value.nanoseconds = max(int(fraction * 1e9), 1)  # all zero would disarm it
        self._libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)

    def clear(self) -> None:
        if self._handle:
            self._handle.cancel()
            self._handle = None

    def close(self) -> None:
        """Ends the alarm; it never rings afterwards."""
        self.clear()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _expired(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:  # it was set again between the event and this call
            return
        self._ring()
