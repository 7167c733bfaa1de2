"""The UDP socket of a client: one for both address families where the machine has IPv6.

Rules:
- A dual-stack socket reaches IPv4 as ::ffff:a.b.c.d, so one socket serves whatever the server's name resolves to.
- The path's MTU is the kernel's word (IP_MTU of a connected socket): the interface's, or what a router reported.
"""

import asyncio
import socket
from contextlib import suppress

from tunnel.engine.port import Address

_IP_MTU = 14  # linux/in.h; the socket module does not name it.
_IPV6_MTU = 24  # linux/in6.h


def unbound_socket() -> socket.socket:
    """A non-blocking UDP socket on a free port, dual-stack if possible."""
    try:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", 0))
        except OSError:
            sock.close()
            raise
    except OSError:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", 0))
    sock.setblocking(False)
    return sock


async def resolve(sock: socket.socket, host: str, port: int, timeout_s: float) -> list[Address]:
    """The addresses of the server, in the resolver's order, as `sock` can reach them.

    Raises OSError (socket.gaierror for a name that does not resolve) and TimeoutError.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    found: list[Address] = []
    for family, _, _, _, address in infos:
        if family == sock.family == socket.AF_INET:
            found.append((str(address[0]), int(address[1])))
        elif sock.family == socket.AF_INET6:
            name = str(address[0])
            found.append((f"::ffff:{name}" if family == socket.AF_INET else name, int(address[1]), 0, 0))
    if not found:
        raise OSError(f"{host} has no address that this machine can reach")
    return list(dict.fromkeys(found))


def path_mtu(address: Address) -> int | None:
    """The MTU towards `address` in bytes, headers included; None where the kernel does not tell."""
    host = address[0]
    mapped = host.removeprefix("::ffff:") if "." in host else None
    family = socket.AF_INET if mapped is not None else socket.AF_INET6
    level, option = (socket.IPPROTO_IP, _IP_MTU) if mapped is not None else (socket.IPPROTO_IPV6, _IPV6_MTU)
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((mapped or host, address[1]))
        return probe.getsockopt(level, option)
    return None
