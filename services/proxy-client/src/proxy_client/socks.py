"""One SOCKS client: its handshake, then a relay.

Rules:
- The handshake is bounded in time and bytes (F28); every refusal is answered as precisely as SOCKS can, then logged.
- The reply goes out in one write, in front of the stream's bytes. What came behind the request goes with OPEN (F22).
- From the request on, the relay has the socket: a half-close before the reply is forwarded like any other.
"""

import socket
from collections.abc import Callable
from typing import Any, Protocol

from tunnel.errors import Cause
from tunnel.net.driver import Driver
from tunnel.net.poller import Poller
from tunnel.net.relay import FAREWELL_S, Relay
from tunnel.net.tcp import READ_BYTES_MAX, TcpSocket
from tunnel.report import address_text
from tunnel.session.client import ClientSession
from tunnel.session.events import Replied
from tunnel.socks5 import Close, Event, Handshake, Request, Write
from tunnel.socks5.handshake import CheckCredentials
from tunnel.target import Target


class Observer(Protocol):
    """Who counts and logs."""

    def handshake_over(
        self, peer: str, cause: Cause, detail: str, target: Target | None, seconds: float, *, answered: bool
    ) -> None:
        """The handshake is over: `answered` by the reply to a request, or because there was none."""

    def closed(self, connection: "SocksConnection") -> None:
        """The connection has left."""


class SocksConnection:
    """Implements `TcpEvents` until its request is whole; the relay does from then on."""

    __slots__ = (
        "_began_at",
        "_clock",
        "_driver",
        "_handshake",
        "_observer",
        "_peer",
        "_relay",
        "_session",
        "_socket",
        "_target",
        "_timer",
        "_told",
    )

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        address: tuple[Any, ...],
        *,
        driver: Driver,
        session: ClientSession,
        check_credentials: CheckCredentials | None,
        timeout_s: float,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        self._peer = address_text(address)
        self._driver = driver
        self._session = session
        self._observer = observer
        self._clock = clock
        self._began_at = clock()
        self._handshake = Handshake(check_credentials)
        self._target: Target | None = None
        self._relay: Relay | None = None
        self._told = False
        self._timer = poller.loop.call_later(timeout_s, self._timed_out)
        self._socket = TcpSocket(poller, sock, self, Cause.APPLICATION_RESET, reading=True)
        self._socket.read_bytes_max = self._handshake.wanted

    def abort(self) -> None:
        """The program stops at once."""
        if self._relay is None:
            self._socket.abort()
            self._end()

    # The handshake.

    def on_data(self, data: bytes) -> None:
        self._perform(self._handshake.receive(data))
        if not (self._relay or self._told):
            self._socket.read_bytes_max = self._handshake.wanted

    def on_eof(self) -> None:
        self._perform(self._handshake.receive_eof())

    def on_taken(self, count: int) -> None:
        """Only the handshake's own answers."""

    def on_finished(self) -> None:
        """Only after `leave`."""

    def on_write_error(self, cause: Cause) -> None:
        self.on_error(cause)
        self._socket.abort()

    def on_error(self, cause: Cause) -> None:
        self._tell(cause, f"{cause.summary}, in the middle of the SOCKS handshake")
        self._end()

    def _timed_out(self) -> None:
        self._perform(self._handshake.timed_out())

    def _perform(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Write(data):
                    self._socket.write(data)
                case Request(target, _):
                    self._request(target)
                case Close(cause, detail):
                    self._tell(cause, detail)
                    self._socket.leave(FAREWELL_S)
                    self._end()

    def _request(self, target: Target) -> None:
        self._timer.cancel()
        self._target = target
        early = self._handshake.take_early()
        stream = self._session.open(target, early, self._clock(), self._peer)
        self._relay = Relay(self._driver, stream, on_closed=self._end, on_replied=self._replied)
        self._socket.read_bytes_max = READ_BYTES_MAX
        self._socket.hand_over(self._relay)
        self._relay.attach(self._socket)
        self._driver.wake()

    def _replied(self, event: Replied) -> None:
        assert self._relay is not None
        reply = self._handshake.reply(event.cause, event.bound)
        self._tell(event.cause, event.cause.summary)
        if event.cause is Cause.NONE:
            self._relay.write_reply(reply)
        else:
            self._relay.refuse(reply)

    def _end(self) -> None:
        self._timer.cancel()
        if not self._told:
            self._tell(Cause.CANCELLED, "it ended before there was a reply")
        self._observer.closed(self)

    def _tell(self, cause: Cause, detail: str) -> None:
        self._told = True
        seconds, answered = self._clock() - self._began_at, self._handshake.answered
        self._observer.handshake_over(self._peer, cause, detail, self._target, seconds, answered=answered)
