"""Where a connection shall go: the one vocabulary that SOCKS, the wire and the dialler share.

Rules:
- Every `Target` there is is valid: the constructor refuses the rest with ValueError. Port 0 is valid here,
  because a bound address may carry it; who wants to dial asks for more.
- Addresses are kept in canonical text (dotted IPv4, compressed IPv6 without a zone), names as they came.
- A name is ASCII letters, digits, hyphens, underscores and dots: what a resolver can be asked. Anything
  beyond (a NUL, a colon, raw UTF-8) is refused here and so never reaches a resolver or a log.
"""

import re
from dataclasses import dataclass
from enum import IntEnum, unique
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Self

MAX_NAME_BYTES = 255  # RFC 1928 section 5: the length is one octet.
_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)

# Each request names a host twice or more, and mostly one that was named before. About 200 bytes each.
_HOSTS_REMEMBERED: Final = 1024


@unique
class AddressKind(IntEnum):
    """Address type; the numbers are those of RFC 1928 section 5."""

    IPV4 = 1
    NAME = 3
    IPV6 = 4


@dataclass(frozen=True, slots=True)
class Target:
    """A host (as text) and a port. Raises ValueError, with the reason in words, for anything else."""

    kind: AddressKind
    host: str
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is not in 0..65535")
        canonical = _canonical(self.kind, self.host)
        if canonical != self.host:
            object.__setattr__(self, "host", canonical)

    @classmethod
    def of(cls, host: str, port: int) -> Self:
        """The target for a host as people write it: an address where it reads as one, a name otherwise."""
        return cls(*_read(host), port)

    @classmethod
    def unpacked(cls, kind: int, packed: bytes, port: int) -> Self:
        """Reads what `packed` wrote. Raises ValueError for an unknown kind, a wrong length or a bad name."""
        return cls(*_unpack(kind, packed), port)

    def packed(self) -> bytes:
        """The host in bytes: 4 for IPv4, 16 for IPv6, 1 to 255 for a name; no length, no port."""
        return _packed(self.kind, self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.kind is AddressKind.IPV6 else f"{self.host}:{self.port}"


@lru_cache(_HOSTS_REMEMBERED)
def _canonical(kind: AddressKind, host: str) -> str:
    match kind:
        case AddressKind.IPV4:
            return str(IPv4Address(host))
        case AddressKind.IPV6:
            return _ipv6_text(IPv6Address(host))
        case AddressKind.NAME:
            return _checked_name(host)


@lru_cache(_HOSTS_REMEMBERED)
def _read(host: str) -> tuple[AddressKind, str]:
    try:
        address = ip_address(host)
    except ValueError:
        return AddressKind.NAME, host
    return (AddressKind.IPV4 if address.version == 4 else AddressKind.IPV6), host


@lru_cache(_HOSTS_REMEMBERED)
def _unpack(kind: int, packed: bytes) -> tuple[AddressKind, str]:
    match AddressKind(kind):
        case AddressKind.IPV4:
            return AddressKind.IPV4, str(IPv4Address(packed))
        case AddressKind.IPV6:
            return AddressKind.IPV6, _ipv6_text(IPv6Address(packed))
        case AddressKind.NAME:
            # Every byte becomes some character, so that the check of the name gives the reason in words.
            return AddressKind.NAME, packed.decode("latin-1")


@lru_cache(_HOSTS_REMEMBERED)
def _packed(kind: AddressKind, host: str) -> bytes:
    match kind:
        case AddressKind.IPV4:
            return IPv4Address(host).packed
        case AddressKind.IPV6:
            return IPv6Address(host).packed
        case AddressKind.NAME:
            return host.encode("ascii")


def _checked_name(name: str) -> str:
    if not name:
        raise ValueError("the name is empty")
    if len(name) > MAX_NAME_BYTES:
        raise ValueError(f"the name is longer than {MAX_NAME_BYTES} bytes")
    if not _NAME.fullmatch(name):
        raise ValueError("the name holds a character that no host name has")
    return name


def _ipv6_text(address: IPv6Address) -> str:
    # A zone names an interface of whoever wrote it; it means nothing on the other side of a tunnel.
    if address.scope_id is not None:
        raise ValueError("an IPv6 address with a zone cannot be reached through a tunnel")
    # Hexadecimal throughout: what str() writes for a mapped address differs between Python versions.
    mapped = address.ipv4_mapped
    return str(address) if mapped is None else "::ffff:{:x}:{:x}".format(*divmod(int(mapped), 1 << 16))
