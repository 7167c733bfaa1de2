"""A TCP listener that survives a flood of connections and a shortage of descriptors.

Rules:
- One turn of the event loop accepts a bounded number.
- Errors of a single connection that broke before it was accepted are of no interest (accept(2) lists them).
- Any other may last (no descriptors, no memory): it stops accepting for a while instead of spinning; the kernel's
  backlog holds the clients. The wait doubles up to a bound, and the owner is told once for each shortage.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from tunnel.net.tcp import configure

BACKLOG: Final = 1024
ACCEPTS_A_TURN_MAX: Final = 64
BACK_OFF_MIN_S: Final = 0.05
BACK_OFF_MAX_S: Final = 1.0

_OF_ONE_CONNECTION: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
    }
)


class TcpListener:
    """Owns `sock` (bound, non-blocking) from here on, and accepts at once.

    `on_connection` gets each connection (a non-blocking socket, its own from then on) and the peer's address.
    `on_shortage` gets the error once for each shortage, which ends with the next connection accepted.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_connection: Callable[[socket.socket, tuple[Any, ...]], None],
        on_shortage: Callable[[OSError], None] = lambda error: None,
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._on_connection = on_connection
        self._on_shortage = on_shortage
        self._accepting = False
        self._back_off_s = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False
        configure(sock)
        sock.listen(BACKLOG)
        self.address: tuple[Any, ...] = sock.getsockname()
        self.resume()

    def pause(self) -> None:
        """Leaves new connections in the backlog. Idempotent."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._socket.fileno())

    def resume(self) -> None:
        """Accepts again. Idempotent."""
        if not (self._accepting or self._closed):
            self.pause()
            self._accepting = True
            self._loop.add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        """Stops listening; the kernel resets what is in the backlog. Idempotent."""
        self.pause()
        self._closed = True
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(ACCEPTS_A_TURN_MAX):
            if not self._accepting:
                return
            try:
                connection, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _OF_ONE_CONNECTION:
                    continue
                self._back_off(error)
                return
            self._back_off_s = 0.0
            connection.setblocking(False)
            try:
                self._on_connection(connection, address)
            except BaseException:
                # The owner's fault goes to the event loop's handler; the client must not pay with a hang.
                connection.close()
                raise

    def _back_off(self, error: OSError) -> None:
        first = not self._back_off_s
        self._back_off_s = min(BACK_OFF_MAX_S, max(BACK_OFF_MIN_S, self._back_off_s * 2))
        self.pause()
        self._retry = self._loop.call_later(self._back_off_s, self.resume)
        if first:
            self._on_shortage(error)
