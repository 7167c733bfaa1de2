"""Where transactions go: the proxy, the targets behind it, and who we are to the proxy.

The proxy's name is resolved here, for both paths, and remembered for RESOLVED_FOR_S: long enough that resolving is no
load, short enough that a container that came back under another address is found.
"""

import asyncio
import socket
from dataclasses import dataclass, field
from time import monotonic
from typing import cast

from loadgen.transaction.socks5 import Credentials
from servicekit.address import Address

RESOLVED_FOR_S = 5.0

SocketAddress = tuple[str, int] | tuple[str, int, int, int]


@dataclass(slots=True)
class Route:
    """A way through one proxy to one http-target."""

    proxy: Address
    target: Address
    server_first: Address
    credentials: Credentials | None = None
    _resolved: tuple[int, SocketAddress] | None = field(default=None, init=False)
    _resolved_until_s: float = field(default=0.0, init=False)

    async def proxy_address(self) -> tuple[int, SocketAddress]:
        """Family and socket address of the proxy. Raises OSError where its name does not resolve."""
        if self._resolved is None or monotonic() >= self._resolved_until_s:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(self.proxy.host, self.proxy.port, type=socket.SOCK_STREAM)
            family, _, _, _, address = found[0]
            self._resolved = family, cast(SocketAddress, address)
            self._resolved_until_s = monotonic() + RESOLVED_FOR_S
        return self._resolved
