"""What a session tells its edge. Streams are the session's own numbers, never used again."""

from dataclasses import dataclass
from enum import Enum, StrEnum, unique

from tunnel.engine.port import Address
from tunnel.errors import Cause
from tunnel.target import Target
from tunnel.wire.messages import Direction


@unique
class Ending(Enum):
    """How a direction ended. One never turns into another."""

    __hash__ = object.__hash__  # Each member is one object, and Enum's own is written in Python.

    EOF = "eof"
    RESET = "reset"
    LOST = "lost"
    CLOSED = "closed"


# About a stream.


@dataclass(frozen=True, slots=True)
class Dial:
    """Server: a client wants this target. Answer with `dialled` or `refused`."""

    stream: int
    target: Target


@dataclass(frozen=True, slots=True)
class Replied:
    """Client: the answer to `open`. With a cause other than NONE it is the stream's last event."""

    stream: int
    cause: Cause
    bound: Target | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes for the application's socket. Report what its kernel took with `delivered`."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """No more bytes come. EOF: shut the socket's write side down behind them. Anything else: reset the socket,
    unless it was given an EOF already. Then call `ended`."""

    stream: int
    ending: Ending
    cause: Cause


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The stream stood still for too long: close the socket, as `Ended` says. The stream's last event."""

    stream: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Stopped:
    """The peer takes no more: read the socket to its end and throw the bytes away. The other direction goes on."""

    stream: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Writable:
    """`send` took less than it was given, and now there is room."""

    stream: int


# About a connection.


@dataclass(frozen=True, slots=True)
class ConnectWanted:
    """Client: resolve the server's name and call `connect`, or `connect_failed`. One at a time."""


@dataclass(frozen=True, slots=True)
class ConnectionUp:
    """HELLO was accepted. `peer_name` is the token's name at the server, None at the client."""

    connection: int
    address: Address
    peer_name: str | None
    session_id: str
    instance_id: str
    handshake_s: float


@dataclass(frozen=True, slots=True)
class ConnectionDown:
    """A connection ended; NONE is an orderly close. `streams_lost` were on it and had not ended.

    `address` is the peer's, None at a server where the handshake was never complete.
    """

    connection: int
    cause: Cause
    detail: str
    streams_lost: int
    was_up: bool
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class ConnectionSuspect:
    """A probe is unanswered; no new streams there. `silence_s` is the time without a packet."""

    connection: int
    silence_s: float


@dataclass(frozen=True, slots=True)
class LimitReached:
    """Server: a client wanted one more than the `most` it may have, and did not get it. `limit` is one of
    `shares.Limit`, `peer_name` None before HELLO."""

    connection: int
    limit: str
    most: int
    address: Address | None
    peer_name: str | None


@dataclass(frozen=True, slots=True)
class GoAwayReceived:
    """The peer drains."""

    connection: int


@dataclass(frozen=True, slots=True)
class Rescued:
    """An end arrived by END because the stream's own did not. A symptom to look into."""

    connection: int
    stream: int
    direction: Direction
    final_offset: int


@unique
class WaitsFor(StrEnum):
    """What a stream that stands still waits for. The value is the metric label."""

    CONNECTION = "connection"
    """client: no connection has taken its OPEN"""
    REPLY = "reply"
    """client: REPLY; server: the rest of OPEN, or its dial"""
    APPLICATION = "application"
    """our socket takes nothing: its application does not read"""
    END = "end"
    """END told where the stream ends, and bytes or the FIN are missing"""
    CREDIT = "credit"
    """the peer grants nothing, or the send cap is reached: its application does not read, or nothing gets through"""
    RECEIPT = "receipt"
    """the end was sent, and the peer's application does not have it yet"""


@dataclass(frozen=True, slots=True)
class StreamState:
    """Of one stream, as it is when evidence of it is told. Offsets are QUIC stream offsets."""

    stream: int
    quic_stream: int | None
    application: str
    waits_for: WaitsFor | None
    still_s: float
    """Of a stall: since a look found the wait, a second after its beginning at most. Else since anything moved."""
    sent: str
    sent_offset: int
    received: str
    received_offset: int
    undelivered_bytes: int


@unique
class Why(StrEnum):
    """What evidence is of."""

    STALLED = "stalled"
    LOST = "lost"
    RESCUED = "rescued"
    ASKED = "asked"
    """Nothing is wrong here; whoever waits for the stream has asked."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something went wrong on streams of one connection: their states, and what happened last there.

    `streams` are the first of the `count` that it is about, `moments` lines for people, the oldest first. `connection`
    and `session_id` are None and empty for streams that wait for a connection.
    """

    why: Why
    cause: Cause
    connection: int | None
    session_id: str
    count: int
    streams: tuple[StreamState, ...]
    moments: tuple[str, ...]


Event = (
    Dial
    | Replied
    | Data
    | Ended
    | Abandoned
    | Stopped
    | Writable
    | ConnectWanted
    | ConnectionUp
    | ConnectionDown
    | ConnectionSuspect
    | LimitReached
    | GoAwayReceived
    | Rescued
    | Evidence
)
