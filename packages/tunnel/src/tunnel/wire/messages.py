"""The vocabulary of the tunnel protocol, version 1. PROTOCOL.md is its byte-exact text; both change together.

Rules:
- A message is a frozen value; the codec alone knows bytes.
- Offsets are QUIC stream offsets (RFC 9000 section 2.2): OPEN and REPLY count.
"""

from dataclasses import dataclass
from enum import IntEnum, unique

from tunnel.target import Target

VERSION = 1


@unique
class Direction(IntEnum):
    """A direction of a stream, named after where its bytes go."""

    CLIENT_TO_TARGET = 0
    TARGET_TO_CLIENT = 1

    @property
    def label(self) -> str:
        return self.name.lower()


@unique
class Outcome(IntEnum):
    """How a direction ended at its receiver: what its application's socket was told."""

    EOF = 0
    RESET = 1
    LOST = 2
    CLOSED = 3

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of the control stream, from the client."""

    version: int
    features: int
    token: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server's answer to HELLO: it is accepted. `instance_id` (16 bytes) is new with each start of the server."""

    session_id: bytes
    instance_id: bytes
    max_streams: int
    features: int


@dataclass(frozen=True, slots=True)
class Done:
    """Delivery receipt: the receiver of `direction` has handed everything, and the end, to its application's socket.

    `final_offset` is how many bytes of the stream's direction were received and handed on.
    """

    stream: int
    direction: Direction
    final_offset: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class End:
    """The sender of this message finished its direction of `stream` at `final_offset` and has had no DONE."""

    stream: int
    final_offset: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The application of whoever sends this takes its bytes of `stream`: those up to `offset`, so far."""

    stream: int
    offset: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """The sender drains: streams above `last_stream` are not processed; no new ones, please."""

    last_stream: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a PONG with the same 8 bytes; on its arrival everything sent before has been processed."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to PING."""

    payload: bytes


@unique
class Kind(IntEnum):
    """What an OPEN asks for."""

    CONNECT = 1


@dataclass(frozen=True, slots=True)
class Open:
    """First message of a stream, from the client."""

    kind: Kind
    target: Target


@dataclass(frozen=True, slots=True)
class Reply:
    """First message of a stream, from the server: `status` is the code of a cause, 0 for success.

    `bound` is the address that the server dialled from, None where it does not tell.
    """

    status: int
    bound: Target | None


Control = Hello | Welcome | Done | End | Taken | GoAway | Ping | Pong
Message = Control | Open | Reply
