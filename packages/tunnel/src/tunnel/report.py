"""Connection events as log lines: one row each, so that both programs speak of the same thing in the same words.

Rules:
- A line that says the same again and again is thinned out: the first one passes, then one at growing intervals, with
  the number of those between (`repeated`). What changes is said at once, and the metrics count everything.
- What meets a limit meets it again and again: such requests and dials are thinned out like that too.
- Evidence is about one stream or another: EVIDENCE_LINES pass in EVIDENCE_EVERY_S of each kind.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Final, assert_never

from tunnel.engine.port import Address
from tunnel.errors import Cause
from tunnel.net.driver import ConnectionEvent
from tunnel.session import events
from tunnel.session.base import Session

Line = tuple[str, str, dict[str, object]]
"""Level, event name, fields."""

REPEAT_MIN_S: Final = 1.0
REPEAT_MAX_S: Final = 60.0
"""The same line at most so often: the interval doubles from the one to the other while it goes on."""

EVIDENCE_LINES: Final = 20
EVIDENCE_EVERY_S: Final = 60.0

LONGEST_NUMBER: Final = 19
"""Digits of the greatest QUIC stream id."""

_REPETITIVE: Final = (
    "connection_failed",
    "server_not_found",
    "end_rescued",
    "internal_error",
    "limit_reached",
    "cannot_accept",
)


@dataclass(slots=True)
class _Repeated:
    next_at: float = -math.inf
    interval_s: float = REPEAT_MIN_S
    left_out: int = 0


@dataclass(slots=True)
class _Allowance:
    ends_at: float = -math.inf
    passed: int = 0
    left_out: int = 0


class Repeats:
    """Thins lines out. Lines are the same where event name and cause, or limit, are: so there are few to remember."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, object], _Repeated] = {}
        self._evidence: dict[object, _Allowance] = {}

    def thin_out(self, line: Line) -> Line | None:
        """The line to log now, None where it is left out."""
        level, name, fields = line
        if name == "evidence":
            return self._allowed(line)
        if name not in _REPETITIVE and fields.get("cause") != Cause.LIMIT_REACHED.label:
            return line
        now = self._clock()
        seen = self._seen.setdefault((name, fields.get("cause", fields.get("limit"))), _Repeated())
        if now < seen.next_at:
            seen.left_out += 1
            return None
        is_news = now >= seen.next_at + REPEAT_MAX_S  # The first one, or the first after a long quiet time.
        seen.interval_s = REPEAT_MIN_S if is_news else min(2 * seen.interval_s, REPEAT_MAX_S)
        seen.next_at = now + seen.interval_s
        left_out, seen.left_out = seen.left_out, 0
        return level, name, fields | ({"repeated": left_out} if left_out else {})

    def _allowed(self, line: Line) -> Line | None:
        level, name, fields = line
        now = self._clock()
        seen = self._evidence.setdefault(fields["why"], _Allowance())
        if now >= seen.ends_at:
            seen.ends_at, seen.passed = now + EVIDENCE_EVERY_S, 0
        if seen.passed >= EVIDENCE_LINES:  # Threads that ask at the same moment can make it one more.
            seen.left_out += 1
            return None
        seen.passed += 1
        left_out, seen.left_out = seen.left_out, 0
        return level, name, fields | ({"left_out": left_out} if left_out else {})

    def start_over(self) -> None:
        """Things are well again: what goes wrong next is news."""
        self._seen.clear()


def describe(event: ConnectionEvent) -> Line | None:
    """None for what is no news."""
    match event:
        case events.ConnectWanted():
            return None
        case events.ConnectionUp(connection, address, peer_name, session_id, instance_id, handshake_s):
            fields: dict[str, object] = {
                "connection": connection,
                "peer": address_text(address),
                "session": session_id,
                "instance": instance_id,
                "handshake_ms": round(handshake_s * 1000, 1),
            }
            return "info", "connection_up", fields | ({"name": peer_name} if peer_name else {})
        case events.ConnectionDown():
            return _down(event)
        case events.ConnectionSuspect(connection, silence_s):
            return "warning", "connection_suspect", {"connection": connection, "silence_s": round(silence_s, 2)}
        case events.LimitReached(connection, limit, most, address, peer_name):
            fields = {"connection": connection, "limit": limit, "most": most}
            fields |= {"peer": address_text(address)} if address else {}
            return "warning", "limit_reached", fields | ({"name": peer_name} if peer_name else {})
        case events.GoAwayReceived(connection):
            return "info", "peer_drains", {"connection": connection}
        case events.Rescued(connection, stream, direction, final_offset):
            return (
                "warning",
                "end_rescued",
                {
                    "connection": connection,
                    "stream": stream,
                    "direction": direction.label,
                    "final_offset": final_offset,
                    "detail": "the stream's own FIN did not arrive; END did",
                },
            )
        case events.Evidence():
            return _evidence(event)
        case _:
            assert_never(event)


def asked(session: Session, query: Mapping[str, str], now: float) -> Line | None:
    """The line about the stream that a query names by `application`, or by `session` and `quic_stream`."""
    number = query.get("quic_stream", "")
    qid = int(number) if number.isdecimal() and len(number) <= LONGEST_NUMBER else None
    found = session.evidence_of(query.get("application", ""), query.get("session", ""), qid, now)
    return None if found is None else describe(found)


def _evidence(event: events.Evidence) -> Line:
    fields: dict[str, object] = {"why": event.why}
    if event.cause is not Cause.NONE:
        fields["cause"] = event.cause.label
    if event.connection is not None:
        fields |= {"connection": event.connection, "session": event.session_id}
    return (
        "warning",
        "evidence",
        fields
        | {
            "count": event.count,
            "streams": [_stream(state) for state in event.streams],
            "last_events": event.moments,
        },
    )


def _stream(state: events.StreamState) -> dict[str, object]:
    fields = asdict(state) | {"still_s": round(state.still_s, 3)}
    return {name: value for name, value in fields.items() if value not in (None, "")}


def _down(event: events.ConnectionDown) -> Line:
    fields: dict[str, object] = {"connection": event.connection, "cause": event.cause.label, "detail": event.detail}
    if event.address is not None:
        fields["peer"] = address_text(event.address)
    if event.was_up:
        fields["streams_lost"] = event.streams_lost
    if event.cause in (Cause.NONE, Cause.SHUTTING_DOWN) and not event.streams_lost:
        return "info", "connection_closed", fields
    return "warning", "connection_lost" if event.was_up else "connection_failed", fields


def address_text(address: Address) -> str:
    """`192.0.2.1:4433` or `[2001:db8::1]:4433`; an IPv4 address that a dual-stack socket wraps is shown as itself."""
    host = address[0].removeprefix("::ffff:") if "." in address[0] else address[0]
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
