"""How much of a server its clients have: by token, and by address.

Rules:
- A connection counts against its address from its handshake on, against its token from its HELLO on, and against both
  until it ends. A stream counts from its first byte until it is retired, those that were refused too: who opens streams
  without end is held by its own limit.
- An address is an IPv4 address, or the first 64 bits of an IPv6 address: whoever has one of those has them all.
- The address is the one of the handshake, where it was proved. Where a connection moves later changes nothing.
- Who has nothing leaves no entry (F20).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from ipaddress import IPv6Address, ip_address

from tunnel.engine.port import Address
from tunnel.session.connection import Connection
from tunnel.session.settings import ClientLimits


@unique
class Limit(StrEnum):
    """What was reached. The value is the metric label."""

    CONNECTIONS_OF_TOKEN = "connections_of_token"
    CONNECTIONS_OF_ADDRESS = "connections_of_address"
    STREAMS_OF_TOKEN = "streams_of_token"
    STREAMS_OF_ADDRESS = "streams_of_address"


@dataclass(slots=True)
class Share:
    """What one token or one address has now, and which limits are its own."""

    key: tuple[str, str]
    connections_limit: Limit
    streams_limit: Limit
    connections: int = 0
    streams: int = 0


class Shares:
    """All that are held at one server."""

    def __init__(self, limits: ClientLimits) -> None:
        self._most = {
            Limit.CONNECTIONS_OF_TOKEN: limits.max_connections_per_token,
            Limit.CONNECTIONS_OF_ADDRESS: limits.max_connections_per_address,
            Limit.STREAMS_OF_TOKEN: limits.max_streams_per_token,
            Limit.STREAMS_OF_ADDRESS: limits.max_streams_per_address,
        }
        self._shares: dict[tuple[str, str], Share] = {}

    def __len__(self) -> int:
        return len(self._shares)

    def __iter__(self) -> Iterator[Share]:
        """Those of who is here."""
        return iter(self._shares.values())

    def most(self, limit: Limit) -> int:
        return self._most[limit]

    def join_address(self, connection: Connection, address: Address) -> Limit | None:
        """Counts a new connection against its address. The limit instead, where that is reached."""
        key = ("address", network_of(address))
        return self._join(connection, key, Limit.CONNECTIONS_OF_ADDRESS, Limit.STREAMS_OF_ADDRESS)

    def join_token(self, connection: Connection, name: str) -> Limit | None:
        """The same for its token, by the token's name."""
        return self._join(connection, ("token", name), Limit.CONNECTIONS_OF_TOKEN, Limit.STREAMS_OF_TOKEN)

    def _join(self, connection: Connection, key: tuple[str, str], connections: Limit, streams: Limit) -> Limit | None:
        share = self._shares.get(key) or Share(key, connections, streams)
        if share.connections >= self._most[share.connections_limit]:
            return share.connections_limit
        self._shares[key] = share
        share.connections += 1
        share.streams += connection.counted_streams
        connection.shares.append(share)
        return None

    def leave(self, connection: Connection) -> None:
        """The connection has ended, and all of its streams with it."""
        for share in connection.shares:
            share.connections -= 1
            share.streams -= connection.counted_streams
            if not share.connections:
                del self._shares[share.key]
        connection.shares, connection.counted_streams = [], 0

    def stream_opened(self, connection: Connection) -> None:
        connection.counted_streams += 1
        for share in connection.shares:
            share.streams += 1

    def stream_retired(self, connection: Connection) -> None:
        connection.counted_streams -= 1
        for share in connection.shares:
            share.streams -= 1

    def exceeded(self, connection: Connection) -> Limit | None:
        """The limit that forbids the connection's latest stream, which is counted already."""
        for share in connection.shares:
            if share.streams > self._most[share.streams_limit]:
                return share.streams_limit
        return None


def network_of(address: Address) -> str:
    """What stands for whoever has the address."""
    host = address[0].partition("%")[0]
    found = ip_address(host)
    if not isinstance(found, IPv6Address):
        return host
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"
