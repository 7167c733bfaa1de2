"""Listen to what a session says: to the peer on its control streams, and to its edge in events.

Rules:
- DONE is said once for each direction of each stream (PROTOCOL.md).
- A stream is announced before anything else is said of it, its bytes come before their end, its end comes once, and
  nothing comes behind its last event.
- Whatever breaks a rule is caught when it is said.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from tunnel.engine.port import CONTROL_STREAM, Engine
from tunnel.errors import Cause
from tunnel.session import events
from tunnel.session.base import Session
from tunnel.wire.codec import Decoder
from tunnel.wire.messages import Direction, Done, Outcome

Receipt = tuple[int, int, Direction]
"""Connection, QUIC stream id, direction."""


class Receipts:
    """What one session has confirmed. Made before the session, which gets `engine` for its own."""

    def __init__(self, engine: Engine) -> None:
        self.done: dict[Receipt, Outcome] = {}
        self._decoders: dict[int, Decoder] = {}
        self.engine = cast("Engine", _Overheard(engine, self._on_control))

    def _on_control(self, connection: int, data: bytes) -> None:
        decoder = self._decoders.setdefault(connection, Decoder())
        decoder.feed(data)
        for message in decoder:
            if isinstance(message, Done):
                receipt = (connection, message.stream, message.direction)
                assert receipt not in self.done, f"a second DONE of {receipt}: {message.outcome.label}"
                self.done[receipt] = message.outcome


class _Overheard:
    """An engine, and what was said on its control streams."""

    def __init__(self, engine: Engine, on_control: Callable[[int, bytes], None]) -> None:
        self._engine = engine
        self._on_control = on_control

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def send(self, connection: int, stream: int, data: bytes | memoryview) -> int:
        taken = self._engine.send(connection, stream, data)
        if stream == CONTROL_STREAM and taken:
            self._on_control(connection, bytes(data[:taken]))
        return taken


@dataclass(slots=True)
class _Told:
    """What the edge has been told of a stream."""

    announced: bool = False
    ended: bool = False
    stopped: bool = False
    over: bool = False


class EventOrder:
    """What one session tells its edge. Made around the session's `poll_event`."""

    def __init__(self, session: Session) -> None:
        self._poll = session.poll_event
        self._told: dict[int, _Told] = {}
        session.poll_event = self._listen  # type: ignore[method-assign]

    def _listen(self) -> events.Event | None:
        event = self._poll()
        number = getattr(event, "stream", None)
        if event is not None and number is not None and not isinstance(event, events.Rescued):
            told = self._told.setdefault(number, _Told())
            assert not told.over, f"{event} came behind the last event of its stream"
            self._check(event, told)
        return event

    def _check(self, event: events.Event, told: _Told) -> None:
        match event:
            case events.Dial():
                assert not told.announced, f"{event} came twice"
                told.announced = True
                told.stopped = False  # What came before was told to nobody.
            case events.Replied(cause=cause):
                assert not told.announced, f"{event} came twice"
                told.announced, told.over = True, cause is not Cause.NONE
            case events.Data():
                assert told.announced, f"{event} came before its stream"
                assert not told.ended, f"{event} came behind the end of its stream"
            case events.Ended():
                assert told.announced, f"{event} came before its stream"
                assert not told.ended, f"{event} came behind the end of its stream"
                told.ended = True
            case events.Stopped():
                assert not told.stopped, f"{event} came twice"
                told.stopped = True
            case events.Abandoned():
                told.over = True
