"""One TCP connection of an application or a target, with the truth about every byte and every ending.

Rules:
- The directions are independent: the end of one neither cancels nor waits for the other.
- `on_taken` counts what the kernel's send took, not what was handed to `write`. It is what credit is made of.
- What the peer ended stays ended as what it was: a clean end is `on_eof`, anything else is a cause, and no clean end
  is ever reported behind an error. (Linux hands out a reset once, to the first call that asks, and an ordinary end of
  stream after that: so the first error of a connection that has not ended cleanly closes it here.)
- Callbacks never come from inside `write` or `finish`, and none comes after `on_error`, `abort`, `close` or `leave`.
- Work in one turn of the event loop is bounded.

TCP_USER_TIMEOUT is not set: it would kill a connection whose peer merely does not read for that long (Linux 6.18:
ETIMEDOUT after two seconds of closed window and a limit of two), and that is a slow reader, not a dead one (F13).
Keep-alive probes find dead peers of silent connections; those with bytes outstanding are the idle timer's.
"""

import asyncio
import errno
import socket
import struct
from typing import Final, Protocol

from tunnel.errors import Cause, cause_of_socket_error
from tunnel.net.poller import ERROR, GONE, HANG_UP, READABLE, WRITABLE, Poller

READ_BYTES_MAX: Final = 64 * 1024
# One turn moves at most 256 KiB of each direction of each connection.
READS_A_TURN_MAX: Final = 4
SENDS_A_TURN_MAX: Final = 4
CHUNKS_A_SEND_MAX: Final = 64

# What `write` holds while the kernel takes no more. The stream's window bounds it from outside, this from inside.
PENDING_BYTES_MAX: Final = 16 * 1024 * 1024

# A peer that has vanished from a silent connection is found after 30 s + 3 x 10 s.
KEEPALIVE_IDLE_S: Final = 30
KEEPALIVE_INTERVAL_S: Final = 10
KEEPALIVE_PROBES: Final = 3

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_FLUSH_ON_CLOSE: Final = struct.pack("ii", 0, 0)


class TcpEvents(Protocol):
    """What a connection tells its owner."""

    def on_data(self, data: bytes) -> None:
        """The peer's next bytes, at most `read_bytes_max`."""

    def on_eof(self) -> None:
        """The peer has ended its direction cleanly; every byte before has been given to `on_data`."""

    def on_taken(self, count: int) -> None:
        """The kernel has taken `count` more of the written bytes."""

    def on_finished(self) -> None:
        """After `finish`: every byte is taken, and the end behind them has been handed to the kernel."""

    def on_write_error(self, cause: Cause) -> None:
        """The peer takes no more, what was pending is lost, and `on_finished` will not come. What it has sent may
        still end cleanly, so reading goes on.
        """

    def on_error(self, cause: Cause) -> None:
        """The connection broke, in both directions. The socket is closed already."""


class TcpSocket:
    """Owns `sock` (connected, non-blocking) from here on. Reading begins with `resume_reading`, or at once.

    `on_reset` is the cause that a reset by this peer stands for. A reset is noticed while nothing is read as well.
    """

    __slots__ = (
        "_closed",
        "_eof",
        "_events",
        "_fd",
        "_finishing",
        "_flush_scheduled",
        "_on_reset",
        "_pending",
        "_pending_bytes_max",
        "_poller",
        "_reading",
        "_socket",
        "_write_ended",
        "_writer_armed",
        "pending_bytes",
        "read_bytes_max",
    )

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        events: TcpEvents,
        on_reset: Cause,
        *,
        reading: bool = False,
        pending_bytes_max: int = PENDING_BYTES_MAX,
    ) -> None:
        self.pending_bytes = 0
        # The owner may change it at any time, to between 1 and READ_BYTES_MAX: a single read gives no more than that.
        self.read_bytes_max = READ_BYTES_MAX
        self._poller = poller
        self._socket = sock
        self._fd = sock.fileno()
        self._events = events
        self._on_reset = on_reset
        self._pending: list[bytes | memoryview] = []
        self._pending_bytes_max = pending_bytes_max
        self._reading = reading
        self._writer_armed = False
        self._flush_scheduled = False
        self._finishing = False
        self._write_ended = False  # SHUT_WR is out, or the peer takes no more.
        self._eof = False
        self._closed = False
        configure(sock)
        poller.add(self._fd, self._ready, READABLE if reading else 0)

    @property
    def closed(self) -> bool:
        return self._closed

    def hand_over(self, events: TcpEvents) -> None:
        """Gives the connection to another owner: every callback from now on goes to `events`."""
        self._events = events

    # Reading.

    def resume_reading(self) -> None:
        """Reads from now on. Idempotent; nothing happens once the peer has ended its direction."""
        if not (self._reading or self._eof or self._closed):
            self._reading = True
            self._want()

    def pause_reading(self) -> None:
        """Leaves further bytes in the kernel, from this moment: no `on_data` follows. Idempotent."""
        if self._reading:
            self._reading = False
            self._want()

    def _ready(self, events: int) -> None:
        if events == GONE:
            self.close()  # A farewell that nobody can wait for any longer.
            return
        try:
            if self._reading:
                # An error shows to the reader, behind the bytes that arrived before it.
                if events & (READABLE | ERROR | HANG_UP):
                    self._read()
            elif events & ERROR:
                self._broken()
            if self._writer_armed:
                self._flush()
        except Exception:
            self._owner_failed()
            raise

    def _want(self) -> None:
        self._poller.want(self._fd, READABLE * self._reading | WRITABLE * self._writer_armed)

    def _read(self) -> None:
        for _ in range(READS_A_TURN_MAX):
            # The owner may have paused or closed in the callback. (recv(0) would look like the end.)
            if not self._reading:
                return
            size = self.read_bytes_max or 1
            try:
                data = self._socket.recv(size)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._fail(error)
                return
            if not data:
                self.pause_reading()
                self._eof = True
                self._events.on_eof()
                return
            self._events.on_data(data)
            if len(data) < size:
                return

    # Writing.

    def write(self, data: bytes) -> None:
        """Sends `data` behind what was written before, with the other writes of this turn of the event loop.

        Does nothing on a connection that broke or was closed. Raises BufferError, taking nothing, if more than
        `pending_bytes_max` would be pending, and RuntimeError after `finish`.
        """
        if self._closed or self._write_ended or not data:
            return
        if self._finishing:
            raise RuntimeError("write after finish")
        if self.pending_bytes + len(data) > self._pending_bytes_max:
            raise BufferError(f"more than {self._pending_bytes_max} bytes pending")
        self._pending.append(data)
        self.pending_bytes += len(data)
        self._schedule_flush()

    def finish(self) -> None:
        """Ends our direction (SHUT_WR) once everything pending is taken; `on_finished` tells when. Idempotent."""
        if not (self._finishing or self._closed or self._write_ended):
            self._finishing = True
            self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not (self._flush_scheduled or self._writer_armed):
            self._flush_scheduled = True
            self._poller.soon(self._flush_now)

    def _flush_now(self) -> None:
        try:
            self._flush()
        except Exception:
            self._owner_failed()
            raise

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._closed or self._write_ended:
            return
        taken, error = self._send_pending()
        self._arm_writer(bool(self._pending) and error is None)
        if taken:
            self._events.on_taken(taken)
        # The owner may have done anything in the callback: ask the state anew.
        if self._closed:
            return
        if error is not None:
            self._write_failed(error)
        elif self._finishing and not self._pending:
            self._shut_down()

    def _send_pending(self) -> tuple[int, OSError | None]:
        """Offers what is pending; returns the bytes taken and the error that stopped it, if one did."""
        taken, pending = 0, self._pending
        try:
            for _ in range(SENDS_A_TURN_MAX):
                if not pending:
                    break
                if len(pending) == 1:
                    count, offered = self._socket.send(pending[0]), 1
                else:
                    chunks = pending[:CHUNKS_A_SEND_MAX]
                    count, offered = self._socket.sendmsg(chunks), len(chunks)
                taken += count
                if not self._drop(count, offered):
                    break
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            return taken, error
        return taken, None

    def _drop(self, count: int, chunks: int) -> bool:
        """Takes `count` bytes off the front of what is pending; returns whether all `chunks` offered are gone."""
        self.pending_bytes -= count
        pending, gone = self._pending, 0
        while gone < chunks and count >= len(pending[gone]):
            count -= len(pending[gone])
            gone += 1
        del pending[:gone]
        if gone < chunks and count:
            pending[0] = memoryview(pending[0])[count:]
        return gone == chunks

    def _arm_writer(self, wanted: bool) -> None:
        if wanted != self._writer_armed:
            self._writer_armed = wanted
            self._want()

    def _shut_down(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            # ENOTCONN: it broke before; the connection itself knows how.
            self._write_failed(self._pending_error() or error)
            return
        self._write_ended = True
        self._on_close(_FLUSH_ON_CLOSE)
        self._events.on_finished()

    # Endings.

    def leave(self, linger_s: float) -> None:
        """Lets go of the connection politely: `finish`, discard what still comes until the peer's end, then close.

        For the last words to a peer that may still be sending: closed at once, the kernel would answer its bytes
        with a reset, and that may overtake the words (F22). After `linger_s` it is closed anyway.
        """
        if self._eof and self._write_ended:
            self.close()
        if not self._closed:
            self._events = _Farewell(self, self._poller.loop.call_later(linger_s, self.close))
            self.read_bytes_max = READ_BYTES_MAX  # What is thrown away needs no small portions.
            self.finish()
            self.resume_reading()
            self._close_if_over()

    def abort(self) -> None:
        """Closes with a TCP reset; everything pending is lost, here and in the kernel. Idempotent."""
        if not self._closed:
            self._on_close(_RESET_ON_CLOSE)
            self.close()

    def close(self) -> None:
        """Closes: normally where our direction has ended, else with a TCP reset, as `abort` does. Idempotent.

        A close in the middle must not look like an end, whoever closes: the farewell's timer, the poller, or the kernel
        when the process is killed. (If the peer has sent bytes that nobody read, the kernel resets in any case.)
        """
        if self._closed:
            return
        self._closed = True
        self._reading = self._writer_armed = False
        self._discard_pending()
        self._poller.remove(self._fd)
        self._socket.close()
        events, self._events = self._events, _NOBODY
        if isinstance(events, _Farewell):
            events.timer.cancel()

    def _on_close(self, behaviour: bytes) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, behaviour)
        except OSError:
            pass

    def _close_if_over(self) -> None:
        if self._eof and self._write_ended:
            self.close()

    def _broken(self) -> None:
        """There is an error, and nobody reads who would meet it."""
        # Once our direction has ended, only reading can tell whether the peer's had ended cleanly before.
        if not self._write_ended and (error := self._pending_error()) is not None:
            self._write_failed(error)

    def _pending_error(self) -> OSError | None:
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return OSError(code, "pending error") if code else None

    def _write_failed(self, error: OSError) -> None:
        # EPIPE is what Linux says when the peer had ended its direction before it reset the connection: all it had to
        # say has arrived, and can be read to its clean end.
        if not (self._eof or error.errno == errno.EPIPE):
            self._fail(error)
            return
        self._write_ended = True
        self._arm_writer(False)
        self._discard_pending()
        self._events.on_write_error(cause_of_socket_error(error, self._on_reset))

    def _fail(self, error: OSError) -> None:
        events = self._events
        self.close()
        events.on_error(cause_of_socket_error(error, self._on_reset))

    def _owner_failed(self) -> None:
        """A callback raised (F21). What it was given may be lost, and nothing may follow a gap: so this is the end."""
        events = self._events
        self.abort()
        events.on_error(Cause.INTERNAL)

    def _discard_pending(self) -> None:
        self._pending.clear()
        self.pending_bytes = 0


class _Nobody:
    """Hears everything and does nothing."""

    def on_data(self, data: bytes) -> None: ...

    def on_eof(self) -> None: ...

    def on_taken(self, count: int) -> None: ...

    def on_finished(self) -> None: ...

    def on_write_error(self, cause: Cause) -> None: ...

    def on_error(self, cause: Cause) -> None: ...


_NOBODY: Final = _Nobody()


class _Farewell(_Nobody):
    """Waits until both directions are over."""

    def __init__(self, leaving: TcpSocket, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self._leaving = leaving

    def on_eof(self) -> None:
        self._leaving._close_if_over()

    def on_finished(self) -> None:
        self._leaving._close_if_over()

    def on_write_error(self, cause: Cause) -> None:
        self._leaving.close()


def configure(sock: socket.socket) -> None:
    """Sets the options of a connection; on a listener, those of all its connections, which inherit them."""
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return  # By inheritance: one system call in place of six.
    # Until our end is out, whatever closes the connection shall reset it.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    # Endings and answers must not wait for more bytes to share a segment with (Nagle).
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
