"""Which addresses a proxy server may connect to.

Rules:
- The policy judges addresses, never names: it is asked after resolution, about the very address connected to (F27).
- Only addresses that are public on the Internet are allowed; everything else must be allowed in so many words.
- An IPv6 address that carries an IPv4 address is judged as that one, because that is where it leads.

The lists are IANA's special-purpose address registries, written out: what Python's `is_global` says differs between its
versions. A NAT64 prefix of a network's own (RFC 6052 section 2.2) cannot be recognised; who runs one denies it there.
"""

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self

Network = IPv4Network | IPv6Network
IPAddress = IPv4Address | IPv6Address

_NOT_PUBLIC_V4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; connecting to 0.0.0.0 reaches this machine
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; metadata services of some clouds
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local; metadata services of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, retired
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)

# All that is public in IPv6. Outside are loopback, unspecified, unique local (fc00::/7, with metadata services), link-
# local, site-local, multicast, IPv4-compatible, IPv4-translated, discard-only and what was never assigned.
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; Teredo, which carries IPv4 addresses, is 2001::/32
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, retired, carries IPv4 addresses
        "3fff::/20",  # documentation
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")

OWN: Final = "own"

# Addresses whose text was read, and looked up in the tables above: what does not depend on a policy. Some 300 KiB.
_REMEMBERED: Final = 1024


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """`allow` are networks that are allowed though they are not public; `allow_own` this machine's own addresses."""

    allow: tuple[Network, ...] = ()
    allow_own: bool = False

    @classmethod
    def parse(cls, items: Iterable[str]) -> Self:
        """From CIDRs and the word `own`. Raises ValueError with the item and what is wrong with it."""
        allow, own = [], False
        for item in items:
            if item == OWN:
                own = True
                continue
            try:
                allow.append(ip_network(item))
            except ValueError as error:
                raise ValueError(f"{item!r} is neither a network (CIDR) nor {OWN!r}: {error}") from None
        return cls(tuple(allow), own)

    def allows(self, host: str) -> bool:
        """Whether `host`, an address in text (IPv6 perhaps with a zone), may be connected to."""
        try:
            address = _read(host)
        except ValueError:
            return False
        if _is_public(address) or any(address in network for network in self.allow):
            return True
        return self.allow_own and _is_own(address)


@lru_cache(_REMEMBERED)
def _read(host: str) -> IPAddress:
    """The IPv4 address that an IPv6 address stands for, where it does (RFC 4291 section 2.5.5.2, RFC 6052)."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address


@lru_cache(_REMEMBERED)
def _is_public(address: IPAddress) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    return address in _PUBLIC_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


def _is_own(address: IPAddress) -> bool:
    """Whether this machine has the address. Asked anew each time (some microseconds): addresses come and go."""
    if address.is_loopback:
        return True
    # The kernel sends from a local address to itself, so that is the source it picks; to no other address (not to the
    # unspecified one, nor to groups) is the source the same. Connecting a UDP socket sends nothing. (Binding to the
    # address would answer too, but succeeds for any address with net.ipv4.ip_nonlocal_bind.)
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
            source: str = probe.getsockname()[0]
        except OSError:
            return False
    return ip_address(source) == address
