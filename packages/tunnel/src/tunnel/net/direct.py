"""Connects to a target that is an address, without a task: the way of `dial`, where there is nothing to look up.

Rules:
- Policy, bound, causes and words are those of `dial`.
- A near target has answered by the time that connect returns, so the answer is asked for once more at once: then
  nothing waits for a turn of the event loop.
- Nothing is left behind, however it ends: the socket is closed unless it was handed over.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from tunnel.errors import Cause
from tunnel.net.dial import DialError, addresses_of, allowed, failure
from tunnel.net.egress import EgressPolicy
from tunnel.net.poller import GONE, WRITABLE, Poller
from tunnel.target import Target

_CONNECTED: Final = (0, errno.EISCONN)
_UNDER_WAY: Final = (errno.EINPROGRESS, errno.EALREADY)

OnDone = Callable[[socket.socket | DialError], None]
"""Gets a connected, non-blocking socket, its own from then on, or why there is none."""


def connect(sock: socket.socket, address: tuple[Any, ...]) -> int:
    """Begins to connect, or asks how it went: an errno, or 0."""
    return sock.connect_ex(address)


class DirectDial:
    """One connect. `on_done` is called once, perhaps from inside `start`, and not after `cancel`.

    `target` is an address, not a name. Waits at most `timeout_s`.
    """

    __slots__ = ("_info", "_on_done", "_poller", "_socket", "_timeout_s", "_timer")

    def __init__(self, poller: Poller, timeout_s: float, on_done: OnDone) -> None:
        self._poller = poller
        self._timeout_s = timeout_s
        self._on_done = on_done
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, target: Target, policy: EgressPolicy) -> None:
        """Begins, and mostly ends."""
        try:
            self._info = allowed(target, addresses_of(target), policy)[0]
            self._socket = socket.socket(self._info[0], socket.SOCK_STREAM, socket.IPPROTO_TCP)
            self._socket.setblocking(False)
        except DialError as error:
            self._end(error)
        except OSError as error:
            self._end(failure(error, [self._info]))
        else:
            self._advance()

    def cancel(self) -> None:
        """Nobody wants the connection any more. Idempotent."""
        if (sock := self._let_go()) is not None:
            sock.close()

    def _advance(self) -> None:
        assert self._socket is not None
        code = connect(self._socket, self._info[4])
        if code == errno.EINPROGRESS:
            code = connect(self._socket, self._info[4])
        if code in _UNDER_WAY:
            if self._timer is None:
                self._timer = self._poller.loop.call_later(self._timeout_s, self._timed_out)
                self._poller.add(self._socket.fileno(), self._ready, WRITABLE)
        elif code not in _CONNECTED:
            self._end(failure(OSError(code, ""), [self._info]))
        elif self._socket.getsockname() == self._info[4]:
            self._end(DialError(Cause.CONNECTION_REFUSED, "nobody listens: the connection met itself"))
        else:
            self._end(None)

    def _ready(self, events: int) -> None:
        if events == GONE:
            self.cancel()
        else:
            self._advance()

    def _timed_out(self) -> None:
        self._end(DialError(Cause.DIAL_TIMEOUT, f"no connection within {self._timeout_s:g} s"))

    def _end(self, error: DialError | None) -> None:
        sock = self._let_go()
        if error is None:
            assert sock is not None
            self._on_done(sock)
            return
        if sock is not None:
            sock.close()
        self._on_done(error)

    def _let_go(self) -> socket.socket | None:
        if self._timer is not None:
            self._timer.cancel()
            assert self._socket is not None
            self._poller.remove(self._socket.fileno())
            self._timer = None
        sock, self._socket = self._socket, None
        return sock
