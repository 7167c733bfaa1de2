"""What must hold at every step of a run, by name; the failure catalogue's row is in front where there is one.

Rules:
- An invariant looks at one proxy between two steps, changes nothing, and says what is wrong, or nothing.
- It is cheap: a run has hundreds of steps. What is dear to see is looked at where it can have changed.
- Each is proved by a fault that it finds (test_mutants.py). What the two programs and the control streams can see
  (bytes are a prefix, ends stand behind all of them, DONE is said once) applications.py and witnesses.py check.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from tunnel.engine.settings import EngineLimits
from tunnel.session.base import Session
from tunnel.session.client import ClientSession
from tunnel.session.connection import Connection, State
from tunnel.wire.messages import Direction

ENDS = ("received", "forwarded", "confirmed", "abandoned")


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"{name}: {said}")
        self.name = name


class SeesCredit(Protocol):
    """An engine that lets us count: the model's."""

    def credit_kept(self, connection: int, is_alive: Callable[[int], bool]) -> int:
        """Bytes of streams that are not alive, for which the peer has no credit again."""


@dataclass(slots=True)
class Sight:
    """One proxy as it is looked at."""

    session: Session
    limits: EngineLimits
    counts_credit: SeesCredit | None = None
    """Its engine, where that can say what became of credit."""
    connections: dict[int, Connection] = field(init=False)
    is_client: bool = field(init=False)
    turns: int = -1
    """How often something had run at the proxy when it was looked at last."""
    ends: dict[tuple[Direction, str], int] = field(default_factory=dict)
    """The ledger's as they were looked at last."""
    widest_bytes: dict[int, int] = field(default_factory=dict)
    """The widest congestion window that each connection has had."""

    def __post_init__(self) -> None:
        self.connections = self.session._connections
        self.is_client = isinstance(self.session, ClientSession)


Invariant = Callable[[Sight], Iterator[str]]
"""Gives what is wrong."""


def unread_fits_the_windows(sight: Sight) -> Iterator[str]:
    """Only what its socket has taken gives a peer credit."""
    if sight.session.ledger.undelivered_bytes < 0:
        yield f"{sight.session.ledger.undelivered_bytes} bytes wait for sockets"
    most = sight.limits.stream_window_cap_bytes
    for stream in sight.session._streams.values():
        if not 0 <= stream.receive.undelivered_bytes <= most:
            yield f"{stream.receive.undelivered_bytes} bytes of stream {stream.number} wait for its socket"


def unsent_is_bounded(sight: Sight) -> Iterator[str]:
    """What is on its way fills a congestion window, one more while that shrinks; what is not, the send cap."""
    rest = sight.limits.send_cap_bytes + sight.limits.control_window_bytes
    for number, connection in sight.connections.items():
        stats = sight.session._engine.stats(number) if connection.streams else None
        if stats is not None:
            widest = max(sight.widest_bytes.get(number, 0), stats.congestion_window_bytes)
            sight.widest_bytes[number] = widest
            if stats.buffered_send_bytes > 2 * widest + rest:
                yield f"connection {number} has {stats.buffered_send_bytes} bytes to send"


def dead_streams_give_their_credit_back(sight: Sight) -> Iterator[str]:
    """Dead is a stream that was seen, and is in no table any more."""
    if sight.counts_credit is not None:
        for number, connection in sight.connections.items():
            kept = sight.counts_credit.credit_kept(
                number,
                lambda qid, of=connection: qid in of.streams or of.expects(qid),  # type: ignore[misc]
            )
            if kept:
                yield f"{kept} bytes of connection {number} belong to no stream, and are not credited"


def streams_stay_below_the_limit(sight: Sight) -> Iterator[str]:
    """The client's own limit, which the server does not know and the engine does not enforce."""
    if isinstance(sight.session, ClientSession):
        most = sight.session.settings.max_streams_per_connection
        for number, connection in sight.connections.items():
            if len(connection.streams) > most:
                yield f"{len(connection.streams)} streams on connection {number}, and {most} may be there"


def the_pool_is_bounded(sight: Sight) -> Iterator[str]:
    """Beside a full pool there may be as many that are suspect or leave, and a try at the other addresses."""
    if not isinstance(sight.session, ClientSession):
        return
    settings = sight.session.settings
    if len(sight.connections) > 2 * settings.max_connections + settings.max_addresses:
        yield f"{len(sight.connections)} connections"
    if len(sight.connections) > 1:
        tried = [one.address for one in sight.connections.values() if one.state is State.CONNECTING]
        if len(tried) != len(set(tried)):
            yield f"two connections at a time are made to one address of {tried}"


def each_stream_is_in_its_tables_once(sight: Sight) -> Iterator[str]:
    streams, placed = sight.session._streams, 0
    for number, connection in sight.connections.items():
        placed += len(connection.streams)
        for qid, stream in connection.streams.items():
            if (stream.connection, stream.qid) != (number, qid) or streams.get(stream.number) is not stream:
                yield f"stream {stream.number} is not what connection {number} has as {qid}"
    if placed != sum(stream.qid is not None for stream in streams.values()):
        yield "a stream is on a connection that does not know it"
    if isinstance(sight.session, ClientSession) and (waiting := sight.session._waiting):
        lost = [number for number in waiting if number not in streams or streams[number].qid is not None]
        if lost or len(set(waiting)) != len(waiting):
            yield f"of those that wait for a connection, {lost} do not, or one does twice: {waiting}"


def ends_are_counted_in_order(sight: Sight) -> Iterator[str]:
    """Received, then forwarded, then confirmed; and what is given up was received."""
    ends = sight.session.ledger.ends
    if ends == sight.ends:
        return
    sight.ends = ends.copy()
    for direction in Direction:
        received, forwarded, confirmed, abandoned = (ends[direction, event] for event in ENDS)
        if not confirmed <= forwarded <= received or confirmed + abandoned > received:
            yield f"{direction.label}: received {received}, forwarded {forwarded}, confirmed {confirmed}, {abandoned}"


def nobody_waits_for_ever(sight: Sight) -> Iterator[str]:
    """Who waits has a deadline, and not a later one than the settings say."""
    session = sight.session
    at, now, settings = session._timers._at, session._now, session.settings
    never = float("inf")
    for number, stream in session._streams.items():
        if at.get(("progress", number), never) > now + settings.stream_idle_s:
            yield f"stream {number} may stand still for ever"
        if stream.early is not None and not stream.refused:
            kind, most_s = (
                ("open", settings.open_timeout_s) if stream.qid is None else ("reply", settings.reply_timeout_s)
            )
            if at.get((kind, number), never) > now + most_s:
                yield f"stream {number} waits for ever ({kind})"
    for number, connection in sight.connections.items():
        kind = "closing" if connection.state is State.CLOSING else "liveness" if connection.was_up else "greeting"
        if (kind, number) not in at:
            yield f"connection {number} waits for ever ({kind}), {connection.state.value}"


INVARIANTS: dict[str, Invariant] = {
    "F09 unread bytes fit the windows": unread_fits_the_windows,
    "F10 unsent bytes fit the send cap": unsent_is_bounded,
    "F12 dead streams give their credit back": dead_streams_give_their_credit_back,
    "F15 streams stay below the limit": streams_stay_below_the_limit,
    "F15 nobody waits for ever": nobody_waits_for_ever,
    "F20 a stream is in its tables once": each_stream_is_in_its_tables_once,
    "F23 ends are counted in order": ends_are_counted_in_order,
    "F25 the pool is bounded": the_pool_is_bounded,
}


def check_all(sight: Sight) -> None:
    """Raises `Broken` for the first that does not hold."""
    for name, invariant in INVARIANTS.items():
        for said in invariant(sight):
            raise Broken(name, f"{type(sight.session).__name__}: {said}")
