"""One TCP connection of a client: bytes, ends and resets, each under a bound.

Rules:
- The socket is used directly, without a transport: a byte that is sent is in the kernel, not in a buffer of
  ours, so back-pressure is the client's own, and the end of stream is written at the moment it is counted.
- EOF is what `receive` gives as b"", and the ledger counts it once. `finish` sends ours once. A reset is neither.
- Nothing is sent on destruction: `close` after `finish` is the clean end, `reset` the other one.
- No wait is without a bound; beyond it is `StalledError`. Once the program drains, a wait for a client that owes
  nothing (its next request, its end of stream) is at most 1 s.
"""

import asyncio
import select
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fcntl import ioctl
from termios import TIOCOUTQ
from time import monotonic

from http_target.metrics import Metrics

RECEIVE_BYTES = 65536
FLUSH_TIMEOUT_S = 2.0
FLUSH_INTERVAL_S = 0.005
DRAIN_PATIENCE_S = 1.0


class StalledError(Exception):
    """The client made no progress within the bound."""


class Connection:
    """One accepted socket, owned: `close` or `reset` must be the last call. Not for use by two tasks at once."""

    def __init__(self, client: socket.socket, metrics: Metrics, draining: asyncio.Event) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = client
        self._metrics = metrics
        self._draining = draining
        self._loop = asyncio.get_running_loop()
        self._patience: asyncio.Timeout | None = None
        self._saw_end = False
        self._finished = False

    @property
    def closed(self) -> bool:
        """Whether `reset` or `close` was called."""
        return self._socket.fileno() < 0

    async def receive(self, bound_s: float) -> bytes:
        """The next bytes, b"" for the client's end of stream. Raises StalledError, and OSError for a reset.

        A cancellation may lose bytes that have just arrived; only `reset` or `close` makes sense after it.
        """
        async with bounded(bound_s):
            return await self._receive()

    async def receive_idle(self, bound_s: float) -> bytes:
        """As `receive`, for a client that need not send anything."""
        async with self._patiently(bound_s):
            return await self._receive()

    async def send(self, data: bytes, bound_s: float) -> None:
        """Returns when the kernel has all of `data`. Raises StalledError, and OSError when the client has left."""
        async with bounded(bound_s):
            await self._loop.sock_sendall(self._socket, data)
        # A client that reads fast enough never lets sock_sendall wait: others get their turn here.
        await asyncio.sleep(0)

    def finish(self) -> None:
        """Sends our end of stream. Finishing twice is nothing. Raises OSError when the client has reset."""
        if not self._finished:
            self._socket.shutdown(socket.SHUT_WR)
            self._finished = True
            self._metrics.ends_sent.inc()

    async def discard_to_end(self, bound_s: float) -> None:
        """Reads and drops what comes, up to the client's end of stream or for `bound_s` in all. Raises OSError."""
        try:
            async with self._patiently(bound_s):
                while not self._saw_end:
                    await self._receive()
        except StalledError:
            pass

    async def watch_to_end(self, bound_s: float) -> None:
        """Reads nothing until the client has closed or reset, or for `bound_s`. Linux only.

        A client whose bytes fill the window cannot show its end of stream behind them: then it is the bound.
        """
        # An event loop's reader wakes for bytes that wait, too. An epoll of our own, asked for the end alone, becomes
        # readable itself.
        with select.epoll() as ends:
            ends.register(self._socket, select.EPOLLRDHUP)
            ended = asyncio.Event()
            self._loop.add_reader(ends, ended.set)
            try:
                async with self._patiently(bound_s):
                    await ended.wait()
            except StalledError:
                pass
            finally:
                self._loop.remove_reader(ends)

    async def flushed(self) -> None:
        """Waits, bounded and best effort, until the client's kernel has acknowledged all that was sent."""
        give_up_at = monotonic() + FLUSH_TIMEOUT_S
        unsent = bytearray(4)
        while monotonic() < give_up_at:
            ioctl(self._socket, TIOCOUTQ, unsent)
            if not any(unsent):
                return
            await asyncio.sleep(FLUSH_INTERVAL_S)

    def hurry(self) -> None:
        """The program begins to drain: shortens a patient wait under way."""
        if self._patience is not None and not self._patience.expired():
            within_s = self._loop.time() + DRAIN_PATIENCE_S
            self._patience.reschedule(min(self._patience.when() or within_s, within_s))

    def reset(self) -> None:
        """Ends both directions with a TCP reset; bytes that are not delivered yet are thrown away."""
        if not self.closed:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()

    def close(self) -> None:
        """Gives the socket back; a clean end only after `finish`."""
        self._socket.close()

    async def _receive(self) -> bytes:
        data = await self._loop.sock_recv(self._socket, RECEIVE_BYTES)
        if not data and not self._saw_end:
            self._saw_end = True
            self._metrics.ends_received.inc()
        return data

    @asynccontextmanager
    async def _patiently(self, bound_s: float) -> AsyncIterator[None]:
        """A bound for a client that owes nothing; draining shortens it."""
        if self._draining.is_set():
            bound_s = min(bound_s, DRAIN_PATIENCE_S)
        async with bounded(bound_s) as self._patience:
            try:
                yield
            finally:
                self._patience = None


@asynccontextmanager
async def bounded(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """asyncio.timeout that raises StalledError: its TimeoutError would be taken for the kernel's, an OSError."""
    timeout = asyncio.timeout(seconds)
    try:
        async with timeout:
            yield timeout
    except TimeoutError:
        if timeout.expired():
            raise StalledError from None
        raise
