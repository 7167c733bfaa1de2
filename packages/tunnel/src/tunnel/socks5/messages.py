"""The vocabulary of the SOCKS5 server: what the machine tells its owner, and the bytes of its answers.

Rules:
- One `Write` is one answer and goes out in one write: httpx reads each answer with one read.
- `Close` says why in words for the log. It never quotes what the client sent: that may be a password.
"""

from dataclasses import dataclass
from typing import Final

from tunnel.errors import Cause
from tunnel.target import AddressKind, Target

VERSION: Final = 5
AUTH_VERSION: Final = 1  # RFC 1929 section 2: the version of the sub-negotiation, not of SOCKS.
CONNECT: Final = 1

NO_AUTHENTICATION: Final = 0
USER_PASSWORD: Final = 2

METHOD_NO_AUTHENTICATION: Final = bytes((VERSION, NO_AUTHENTICATION))
METHOD_USER_PASSWORD: Final = bytes((VERSION, USER_PASSWORD))
METHOD_NONE: Final = bytes((VERSION, 0xFF))
AUTH_ACCEPTED: Final = bytes((AUTH_VERSION, 0))
AUTH_REFUSED: Final = bytes((AUTH_VERSION, 1))
SOCKS4_REFUSED: Final = bytes((0, 0x5B, 0, 0, 0, 0, 0, 0))

_NOWHERE: Final = Target(AddressKind.IPV4, "0.0.0.0", 0)


@dataclass(frozen=True, slots=True)
class Write:
    """Send `data` to the client, in one write."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """The client asks for a connection to `target`; `user` is its name if it had to give one."""

    target: Target
    user: str | None


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection once everything written is out; bytes that still arrive are of no interest."""

    cause: Cause
    detail: str


Event = Write | Request | Close


def reply(cause: Cause, bound: Target | None = None) -> bytes:
    """The reply to a request (RFC 1928 section 6): success for `Cause.NONE`, where `bound` is the address
    the server's socket has towards the target; None stands for 0.0.0.0:0, which clients take for "unknown".
    """
    address = bound or _NOWHERE
    packed = address.packed()
    length = bytes((len(packed),)) if address.kind is AddressKind.NAME else b""
    head = bytes((VERSION, cause.reply, 0, address.kind))
    return head + length + packed + address.port.to_bytes(2, "big")
