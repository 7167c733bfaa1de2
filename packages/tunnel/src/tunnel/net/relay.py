"""Joins one TCP socket to one stream of a session, in both directions, each with an ending of its own.

    socket ──on_data──▶ session.send     EOF ──▶ session.finish      error ──▶ session.reset
    socket ◀──write──── Data             shutdown ◀── Ended(EOF)     TCP reset ◀── Ended(anything else)

Rules:
- EOF of one direction goes on at once and touches the other in no way (F03, F04). Nothing waits for a receipt (F14).
- An error is never an EOF: what is not a clean end resets the other side (F05, F06).
- The peer gets credit for what the socket's kernel took (F09); the socket is not read while the session takes no
  more (F10): at most one read is held here, READ_BYTES_MAX.
- The socket is closed when both directions are over, politely where bytes of ours may still be on their way (F22).
"""

from collections.abc import Callable
from typing import assert_never

from tunnel.errors import Cause
from tunnel.net.driver import Driver, StreamEvent
from tunnel.net.tcp import TcpSocket
from tunnel.session import events
from tunnel.session.events import Ending

FAREWELL_S = 5.0
"""How long a socket that may still be sending is listened to after our last byte."""


class Relay:
    """Implements `TcpEvents` for the socket and `StreamHandler` for the session.

    Bytes for a socket that is not there yet (the target is being dialled) are held, within one stream window.
    `on_replied` gets the answer to a client's request. `on_closed` is called once, when the relay is over.
    """

    __slots__ = (
        "_discarding",
        "_driver",
        "_early",
        "_early_end",
        "_eof_read",
        "_foreign_bytes",
        "_on_closed",
        "_on_replied",
        "_over",
        "_read_over",
        "_session",
        "_socket",
        "_undelivered_bytes",
        "_unsent",
        "_write_over",
        "stream",
    )

    def __init__(
        self,
        driver: Driver,
        stream: int,
        *,
        on_closed: Callable[[], None],
        on_replied: Callable[[events.Replied], None] | None = None,
    ) -> None:
        self.stream = stream
        self._driver = driver
        self._session = driver.session
        self._on_closed = on_closed
        self._on_replied = on_replied
        self._socket: TcpSocket | None = None
        self._early: list[bytes] = []
        self._early_end = False
        self._unsent = b""
        """Read from the socket, not taken by the session yet."""
        self._undelivered_bytes = 0
        self._foreign_bytes = 0
        """Written to the socket, but not from the stream: the SOCKS reply."""
        self._read_over = False
        """The socket's EOF was read, or nobody wants its bytes any more."""
        self._discarding = False
        self._write_over = False
        """The socket was shut down, or takes no more."""
        self._eof_read = False
        self._over = False
        driver.handlers[stream] = self

    def attach(self, socket: TcpSocket) -> None:
        """The socket is there: its events come here from now on, what was held goes to it."""
        self._socket = socket
        self._foreign_bytes = socket.pending_bytes  # Of the SOCKS handshake, where a client did not wait for answers.
        for data in self._early:
            socket.write(data)
        self._early.clear()
        if self._early_end:
            socket.finish()
        if not self._unsent:
            socket.resume_reading()

    def write_reply(self, reply: bytes) -> None:
        """The SOCKS reply, in front of the stream's bytes, in one write."""
        assert self._socket is not None
        self._foreign_bytes += len(reply)
        self._socket.write(reply)

    def refuse(self, reply: bytes) -> None:
        """The SOCKS reply of a request that failed: the last thing the socket gets."""
        if self._socket is not None and not self._over:
            self._socket.write(reply)
            self._leave()

    def close(self) -> None:
        """Lets go of the stream; for a request that was answered with a refusal. Idempotent."""
        self._close()

    def abandon(self) -> None:
        """See `StreamHandler`."""
        if self._socket is not None:
            self._socket.abort()
        self._close()

    # From the session.

    def on_session_event(self, event: StreamEvent) -> None:
        match event:
            case events.Data(data=data):
                self._deliver(data)
            case events.Ended(ending=Ending.EOF):
                self._finish_socket()
            case events.Ended(cause=cause) | events.Abandoned(cause=cause):
                self._break(cause)
            case events.Stopped():
                self._stop_reading()
            case events.Writable():
                self._send_unsent()
            case events.Replied():
                if self._on_replied is not None:
                    self._on_replied(event)
            case _:
                assert_never(event)

    def _deliver(self, data: bytes) -> None:
        if self._write_over:
            self._session.discarded(len(data))
            return
        self._undelivered_bytes += len(data)
        if self._socket is None:
            self._early.append(data)
        else:
            self._socket.write(data)

    def _finish_socket(self) -> None:
        if self._socket is None:
            self._early_end = True
        else:
            self._socket.finish()

    def _break(self, cause: Cause) -> None:
        """The stream ended as something else than EOF: so does the socket, in both directions.

        One that was shut down already is closed normally: a reset would throw away bytes that were confirmed.
        """
        now = self._driver.now()
        if self._write_over:
            if self._socket is not None:
                self._socket.close()
        else:
            if self._socket is not None:
                self._socket.abort()
            self._session.ended(self.stream, now)
        self._session.reset(self.stream, cause, now)
        self._close()

    def _stop_reading(self) -> None:
        """Nobody wants the socket's bytes: throw them away until its EOF, while the other direction goes on."""
        self._unsent = b""
        self._read_over = self._discarding = True
        if self._write_over:
            self._leave()
        elif self._socket is not None:
            self._socket.resume_reading()

    # From the socket.

    def on_data(self, data: bytes) -> None:
        if self._discarding:
            return
        taken = self._session.send(self.stream, data, self._driver.now())
        if taken < len(data) and self._socket is not None:
            self._unsent = data[taken:]
            self._socket.pause_reading()
        self._driver.wake()

    def on_eof(self) -> None:
        self._eof_read = True
        if self._discarding:
            return
        self._session.end_read(self.stream)
        self._finish_if_sent()

    def _send_unsent(self) -> None:
        if self._discarding:
            return
        if self._unsent:
            taken = self._session.send(self.stream, self._unsent, self._driver.now())
            self._unsent = self._unsent[taken:]
        if not self._unsent:
            if self._eof_read:
                self._finish_if_sent()
            elif self._socket is not None:
                self._socket.resume_reading()
        self._driver.wake()

    def _finish_if_sent(self) -> None:
        if not self._unsent and not self._read_over:
            self._read_over = True
            self._session.finish(self.stream, self._driver.now())
            self._driver.wake()
            self._leave_if_over()

    def on_taken(self, count: int) -> None:
        foreign = min(count, self._foreign_bytes)
        self._foreign_bytes -= foreign
        count -= foreign
        if count:
            self._undelivered_bytes -= count
            self._session.delivered(self.stream, count, self._driver.now())
            self._driver.wake()

    def on_finished(self) -> None:
        self._write_over = True
        self._session.ended(self.stream, self._driver.now())
        self._driver.wake()
        self._leave_if_over()

    def on_write_error(self, cause: Cause) -> None:
        """It takes no more, but what it sends may still end cleanly."""
        self._write_over = True
        self._discard_undelivered()
        self._session.stop(self.stream, cause, self._driver.now())
        self._driver.wake()
        self._leave_if_over()

    def on_error(self, cause: Cause) -> None:
        now = self._driver.now()
        self._session.reset(self.stream, cause, now)
        self._session.stop(self.stream, cause, now)
        self._close()

    # The end.

    def _leave_if_over(self) -> None:
        if self._read_over and self._write_over:
            self._leave()

    def _leave(self) -> None:
        if self._socket is not None:
            self._socket.leave(FAREWELL_S)
        self._close()

    def _close(self) -> None:
        if not self._over:
            self._over = self._read_over = self._write_over = self._discarding = True
            self._discard_undelivered()
            self._early.clear()
            self._driver.handlers.pop(self.stream, None)
            self._driver.wake()
            self._on_closed()

    def _discard_undelivered(self) -> None:
        self._session.discarded(self._undelivered_bytes)
        self._undelivered_bytes = 0
