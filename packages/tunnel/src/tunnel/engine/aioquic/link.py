"""One connection as the port has it: aioquic's events become the port's, in order, and end with Closed.

Rules:
- Whatever aioquic raises ends this connection with INTERNAL, and no other one (F21).
- Closed is reported as soon as the end is known. After it nothing is reported and no call has an effect; the link only
  drains: it keeps its connection ids for three probe timeouts, so that late packets are not taken for strangers, and
  repeats a CONNECTION_CLOSE that may have been lost (F19).
- In one batch, consecutive bytes of a stream are one Data.
"""

import logging
import math
from collections.abc import Callable
from typing import TypeVar

from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
    PingAcknowledged,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.tls import AlertDescription

from tunnel.engine.aioquic.causes import closed_by_transport
from tunnel.engine.aioquic.connection import Connection
from tunnel.engine.aioquic.probe import SizeProbe
from tunnel.engine.aioquic.tls import pin_matches
from tunnel.engine.causes import closed_by_application, closed_by_silence, one_line
from tunnel.engine.port import (
    Address,
    Closed,
    Connected,
    Data,
    Event,
    PingAnswered,
    Reset,
    Stopped,
    StreamsAvailable,
    Writable,
)
from tunnel.errors import Cause

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Link:
    """`routes` is the endpoint's table of connection ids; the link keeps its own entries in it."""

    def __init__(
        self,
        number: int,
        address: Address,
        quic: Connection,
        routes: "dict[bytes, Link]",
        *,
        handshake_deadline: float,
        pin_sha256: bytes | None = None,
        probe: SizeProbe | None = None,
    ) -> None:
        self.number = number
        self.address = address
        self.quic = quic
        self.closed: Closed | None = None
        self.gone = False
        """Nothing is left to do or to wait for."""
        self.handshake_deadline: float | None = handshake_deadline
        self.probe = probe
        self._routes = routes
        self._ids: set[bytes] = set()
        self._pin_sha256 = pin_sha256
        self._started_at = quic.now
        self._events: list[Event] = []
        self._farewell: list[tuple[bytes, Address]] = []
        self._knocks = 0
        self._knocked = False
        self.add_route(quic.host_cid)

    # Routes.

    def add_route(self, connection_id: bytes) -> None:
        self._ids.add(connection_id)
        self._routes[connection_id] = self

    def drop_routes(self) -> None:
        for connection_id in self._ids:
            self._routes.pop(connection_id, None)
        self._ids.clear()

    def start_over(self, quic: Connection) -> None:
        """Goes on with another handshake, under the same number."""
        self.drop_routes()
        self.quic.release()
        self.quic = quic
        self.add_route(quic.host_cid)

    # Input.

    def receive(self, datagram: bytes, address: Address, now: float) -> None:
        if self.closed is None:
            self.quic.now = now
            if self.probe is not None:
                self.probe.answered(len(datagram))
            self._guarded(lambda: self.quic.receive_datagram(datagram, address, now), None)
        else:
            self._knocks += 1
            self._knocked = True

    def handle_timer(self, now: float) -> None:
        self.quic.now = now
        if self.handshake_deadline is not None and now >= self.handshake_deadline:
            self.handshake_timed_out()
        due = self.quic.get_timer()
        if due is not None and now >= due:
            self._guarded(lambda: self.quic.handle_timer(now), None)

    def handshake_timed_out(self) -> None:
        self._end(closed_by_silence(established=False))
        self.quic.close(error_code=QuicErrorCode.NO_ERROR, frame_type=QuicFrameType.PADDING)

    def close(self, code: int, reason: str) -> None:
        closed = closed_by_application(code, reason, by_peer=False)
        self.quic.close(error_code=code, reason_phrase=one_line(reason))
        self._end(closed)

    # Output.

    def flush(self, now: float) -> list[tuple[bytes, Address]]:
        """Datagrams to send now."""
        quic = self.quic
        quic.now = now
        if self.closed is not None and quic.silent:
            return self._answer_knocks()
        datagrams: list[tuple[bytes, Address]] = self._guarded(lambda: quic.datagrams_to_send(now), [])
        quic.news = False
        if self.closed is not None:
            self._farewell = datagrams
        return datagrams

    @property
    def owes_farewell(self) -> bool:
        """Whether another flush is due at once: the last one has failed, and closed the connection for it."""
        return self.closed is not None and not self.quic.silent

    def get_timer(self) -> float | None:
        due = self.quic.get_timer()
        if self.handshake_deadline is None or due is None:
            return due
        probe_deadline = self.probe.deadline if self.probe is not None else None
        return min(due, self.handshake_deadline, math.inf if probe_deadline is None else probe_deadline)

    def take_events(self) -> list[Event]:
        """What happened since the last time, as the port says it."""
        self._guarded(self._translate, None)
        if self.closed is None:
            self._events += map(Writable, self.quic.take_writable())
            if self.quic.take_streams_available():
                self._events.append(StreamsAvailable())
            ending = self.quic.ending
            if ending is not None:
                event, by_peer = ending
                self._end(closed_by_transport(event, by_peer=by_peer, established=self.quic.established))
        events, self._events = self._events, []
        return events

    # Private.

    def _translate(self) -> None:
        arrived: dict[int, list[bytes]] = {}
        ended: set[int] = set()
        later: list[Event] = []
        quic = self.quic
        while (event := quic.next_event()) is not None:
            match event:
                case StreamDataReceived(data=data, end_stream=end, stream_id=stream):
                    if quic.on_data(stream, len(data), end):
                        arrived.setdefault(stream, []).append(data)
                        if end:
                            ended.add(stream)
                case StreamReset(error_code=code, stream_id=stream):
                    if quic.on_reset(stream):
                        later.append(Reset(stream, code))
                case StopSendingReceived(error_code=code, stream_id=stream):
                    if quic.on_stop_sending(stream):
                        later.append(Stopped(stream, code))
                case PingAcknowledged():
                    later.append(PingAnswered())
                case ConnectionIdIssued(connection_id=connection_id):
                    self.add_route(connection_id)
                case ConnectionIdRetired(connection_id=connection_id):
                    self._ids.discard(connection_id)
                    self._routes.pop(connection_id, None)
                case HandshakeCompleted():
                    self._handshake_completed()
                case ConnectionTerminated():
                    self.gone = True
        if self.closed is None:
            self._events += [
                Data(stream, chunks[0] if len(chunks) == 1 else b"".join(chunks), stream in ended)
                for stream, chunks in arrived.items()
            ]
            self._events += later

    def _handshake_completed(self) -> None:
        self.handshake_deadline = self.probe = None
        certificate = self.quic.peer_certificate
        if self._pin_sha256 is None or (certificate is not None and pin_matches(certificate, self._pin_sha256)):
            self._events.append(Connected(self.address, self._started_at))
            return
        detail = "the server's certificate is not the pinned one"
        self._end(Closed(Cause.CERTIFICATE_REFUSED, detail, by_peer=False))
        self.quic.close(
            error_code=QuicErrorCode.CRYPTO_ERROR + AlertDescription.bad_certificate,
            frame_type=QuicFrameType.CRYPTO,
            reason_phrase=detail,
        )

    def _end(self, closed: Closed) -> None:
        if self.closed is None:
            self.closed = closed
            self.handshake_deadline = self.probe = None
            self.quic.release()
            self._events.append(closed)

    def _guarded(self, action: Callable[[], Result], otherwise: Result) -> Result:
        """Runs aioquic's code. A fault in it ends the connection, politely if that still works."""
        try:
            return action()
        except Exception as error:
            logger.exception("aioquic failed; the connection is closed", extra={"connection": self.number})
            self.gone = self.closed is not None
            self._end(Closed(Cause.INTERNAL, one_line(f"aioquic failed: {error!r}"), by_peer=False))
            self.quic.close(error_code=Cause.INTERNAL.code, reason_phrase=Cause.INTERNAL.summary)
            return otherwise

    def _answer_knocks(self) -> list[tuple[bytes, Address]]:
        """Repeats the close to a peer that goes on sending: for its 1st, 2nd, 4th, 8th... packet."""
        repeat = self._knocked and self._knocks & (self._knocks - 1) == 0
        self._knocked = False
        return self._farewell if repeat else []
