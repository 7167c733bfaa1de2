"""The client's side of a SOCKS5 handshake (RFC 1928, RFC 1929), as bytes: no socket, no clock.

Rules
- A host that reads as an IP address is sent as one; anything else is sent as a name, to be resolved by the proxy.
- Each `…_length` says how long the message at the beginning of what has arrived will be, as soon as that can be known,
  so that a reply is whole however it was split, and not a byte behind it is taken.
- A refusal raises Failed with `socks_rejected`, bytes that are not SOCKS5 raise it with `corrupt`.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from loadgen.transaction.outcomes import Failed, Outcome
from servicekit.address import Address

METHOD_REPLY_BYTES = 2
LOGIN_REPLY_BYTES = 2

_NO_AUTHENTICATION, _NAME_AND_PASSWORD, _NONE_ACCEPTABLE = 0x00, 0x02, 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4
_REPLIES = {
    1: "general failure",
    2: "not allowed by the ruleset",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Name and password of RFC 1929: each 1 to 255 bytes of UTF-8, else ValueError."""

    name: str
    password: str

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("password", self.password)):
            if not 1 <= len(text.encode()) <= 255:
                raise ValueError(f"a SOCKS5 {what} has 1 to 255 bytes")

    def __repr__(self) -> str:
        return f"Credentials(name={self.name!r})"


def greeting(credentials: Credentials | None) -> bytes:
    """Offers exactly one method."""
    return bytes((5, 1, _NAME_AND_PASSWORD if credentials else _NO_AUTHENTICATION))


def check_method(reply: bytes, credentials: Credentials | None) -> None:
    """Raises Failed unless the proxy took the method that was offered."""
    version, method = reply
    if version != 5:
        raise Failed(Outcome.CORRUPT, f"the method reply begins with {version}, not with SOCKS version 5")
    if method == _NONE_ACCEPTABLE:
        raise Failed(Outcome.SOCKS_REJECTED, "no acceptable method")
    if method != (_NAME_AND_PASSWORD if credentials else _NO_AUTHENTICATION):
        raise Failed(Outcome.CORRUPT, f"the proxy chose method {method}, which was not offered")


def login(credentials: Credentials) -> bytes:
    """The sub-negotiation of RFC 1929."""
    name, password = credentials.name.encode(), credentials.password.encode()
    return bytes((1, len(name))) + name + bytes((len(password),)) + password


def check_login(reply: bytes) -> None:
    """Raises Failed unless name and password were accepted."""
    if reply[1] != 0:
        raise Failed(Outcome.SOCKS_REJECTED, "name or password refused")


def connect_request(destination: Address) -> bytes:
    """CONNECT to `destination`."""
    return b"\x05\x01\x00" + _packed(destination.host) + destination.port.to_bytes(2, "big")


def connect_reply_length(arrived: bytes) -> int | None:
    """Length of the whole reply, or None while too little has arrived to tell. Raises Failed for what is no reply."""
    if arrived and arrived[0] != 5:
        raise Failed(Outcome.CORRUPT, f"the reply begins with {arrived[0]}, not with SOCKS version 5")
    if len(arrived) < 5:
        return None
    match arrived[3]:
        case 1:
            return 10
        case 3:
            return 7 + arrived[4]
        case 4:
            return 22
        case other:
            raise Failed(Outcome.CORRUPT, f"the reply has address type {other}")


def check_connect(reply: bytes) -> None:
    """Raises Failed unless the proxy has connected."""
    if reply[1] != 0:
        raise Failed(Outcome.SOCKS_REJECTED, f"reply {reply[1]}: {_REPLIES.get(reply[1], 'not of RFC 1928')}")


def _packed(host: str) -> bytes:
    try:
        address = ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        return bytes((_NAME, len(name))) + name
    return bytes((_IPV4 if isinstance(address, IPv4Address) else _IPV6,)) + address.packed
