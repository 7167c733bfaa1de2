"""Runs a session on an event loop: one UDP socket, one timer, one flush a batch.

Rules:
- The session is called from here and from the relays, always on the loop; whoever calls it says `wake` afterwards.
- A turn takes a bounded number of events, then lets the loop see to the sockets (F21).
- A handler that raises loses its own stream, and nothing else: the fault is reported and the loop goes on (F21).
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol, cast, get_args

from tunnel.errors import Cause
from tunnel.net.udp import Batch, UdpEndpoint
from tunnel.session import events
from tunnel.session.base import Session

_EVENTS_A_TURN = 512
_TRANSMITS_A_TURN = 64  # Of 64 kB at most.
_TIMER_FLOOR_S = 0.001
_BLOCKED_TIMER_FLOOR_S = 0.02  # The socket takes nothing: what is due cannot leave anyway.

StreamEvent = events.Replied | events.Data | events.Ended | events.Abandoned | events.Stopped | events.Writable
ConnectionEvent = (
    events.ConnectWanted
    | events.ConnectionUp
    | events.ConnectionDown
    | events.ConnectionSuspect
    | events.LimitReached
    | events.GoAwayReceived
    | events.Rescued
    | events.Evidence
)


_STREAM_EVENTS: Final = frozenset(get_args(StreamEvent))


class StreamHandler(Protocol):
    """Whoever stands behind a stream."""

    def on_session_event(self, event: StreamEvent) -> None:
        """Called on the loop; must not wait."""

    def abandon(self) -> None:
        """A call of it has raised, so nothing it holds can be relied on: let go of everything, the hard way."""


class Driver:
    """`session` is set once, before the socket: they need each other.

    `on_dial` gets a server's requests, `on_connection_event` everything about connections, `on_fault` exceptions
    that are ours. `before_flush` is called between a turn's events and its datagrams, so that what it tells the session
    goes along with them; it says whether it did anything.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: Session,
        *,
        on_dial: Callable[[events.Dial], None],
        on_connection_event: Callable[[ConnectionEvent], None],
        on_fault: Callable[[Exception], None],
    ) -> None:
        self.session = session
        self.handlers: dict[int, StreamHandler] = {}
        self.before_flush: Callable[[], bool] = lambda: False
        self._loop = loop
        self._on_dial = on_dial
        self._on_connection_event = on_connection_event
        self._on_fault = on_fault
        self._udp: UdpEndpoint | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._woken = False
        self._running = False
        self._blocked = False
        self._closed = False

    def start(self, udp: UdpEndpoint) -> None:
        """From now on datagrams flow."""
        self._udp = udp
        self.wake()

    @staticmethod
    def now() -> float:
        """Seconds, monotonic; finer than uvloop's clock, which stands still during a turn."""
        return time.monotonic()

    def on_batch(self, batch: Batch) -> None:
        """The socket's datagrams of one turn."""
        now = self.now()
        try:
            for data, segment_size, address in batch:
                self.session.receive(data, segment_size, address, now)
        except Exception as error:  # The rest of the batch is lost like any datagram.
            self._on_fault(error)
        self._run()

    def on_writable(self) -> None:
        """The socket takes datagrams again."""
        self._blocked = False
        self.wake()

    def wake(self) -> None:
        """Something was asked of the session: see to its events and datagrams at the end of this turn."""
        if not (self._woken or self._running or self._closed):
            self._woken = True
            self._loop.call_soon(self._run)

    def flush(self) -> None:
        """Sends what is ready, in the middle of a turn: the other side can begin with it."""
        if not self._closed:
            try:
                self._flush(self.now())
            except Exception as error:
                self._on_fault(error)

    def close(self) -> None:
        """Flushes once more, then closes the socket. Idempotent."""
        if not self._closed:
            self.flush()
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            if self._udp is not None:
                self._udp.close()

    def _run(self) -> None:
        self._woken = False
        if self._closed:
            return
        self._running, more = True, False
        try:
            more = self._turn()
        except Exception as error:
            self._on_fault(error)
        self._running = False
        if more:
            self.wake()
        self._arm_timer()

    def _turn(self) -> bool:
        """Events, then datagrams; again while sending made room for more. True where the rest must wait its turn."""
        left = _EVENTS_A_TURN
        while left > 0:
            idle = True
            while left > 0 and (event := self.session.poll_event()) is not None:
                idle = False
                left -= 1
                self._dispatch(event)
            if self.before_flush():
                idle = False
                left -= 1
            more = self._flush(self.now())
            if idle or more:
                return more
        return True

    def _dispatch(self, event: events.Event) -> None:
        try:
            if type(event) in _STREAM_EVENTS:
                self._dispatch_to_stream(cast(StreamEvent, event))
            elif isinstance(event, events.Dial):
                self._on_dial(event)
            else:
                self._on_connection_event(cast(ConnectionEvent, event))
        except Exception as error:
            self._on_fault(error)
            if isinstance(event, StreamEvent | events.Dial):
                self._give_up(event.stream)

    def _dispatch_to_stream(self, event: StreamEvent) -> None:
        handler = self.handlers.get(event.stream)
        if handler is not None:
            handler.on_session_event(event)
        elif isinstance(event, events.Data):  # The edge let go of the stream while this was on its way.
            self.session.discarded(len(event.data))

    def _give_up(self, stream: int) -> None:
        """Ends the stream, and with it what its handler holds: the other end of a hung socket would wait for ever."""
        self.session.reset(stream, Cause.INTERNAL, self.now())
        self.session.stop(stream, Cause.INTERNAL, self.now())
        try:
            if (handler := self.handlers.pop(stream, None)) is not None:
                handler.abandon()
        except Exception as error:
            self._on_fault(error)

    def _flush(self, now: float) -> bool:
        """True where more must wait its turn."""
        if self._udp is None:
            return False
        for _ in range(_TRANSMITS_A_TURN):
            if self._blocked or (transmit := self.session.poll_transmit(now)) is None:
                return False
            self._blocked = not self._udp.send(transmit.data, transmit.segment_size, transmit.address)
        return True

    def _arm_timer(self) -> None:
        at = self.session.get_timer()
        if self._timer is not None:
            if at == self._timer_at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer_at = at
            floor_s = _BLOCKED_TIMER_FLOOR_S if self._blocked else _TIMER_FLOOR_S
            self._timer = self._loop.call_later(max(at - self.now(), floor_s), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._closed:
            try:
                self.session.handle_timer(self.now())
            except Exception as error:
                self._on_fault(error)
            self._run()
