"""The proxy's side of SOCKS5 (RFC 1928): no authentication, CONNECT, to an IPv4 or IPv6 address or a name.

Rules
- What is read is exactly the message: bytes that a client sends behind it stay in the kernel.
- What cannot be done is answered as RFC 1928 says; then it is `Refused`, and the connection is closed.
"""

import asyncio
import socket
from collections.abc import Coroutine
from ipaddress import ip_address
from typing import Any

from loadgen.faulty.fault import Fault
from loadgen.faulty.way import departure

DIAL_TIMEOUT_S = 10.0
HANDSHAKE_TIMEOUT_S = 60.0

_NO_AUTHENTICATION, _NONE_ACCEPTABLE = 0, 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4
_SUCCEEDED, _HOST_UNREACHABLE, _REFUSED, _NO_SUCH_COMMAND, _NO_SUCH_ADDRESS_TYPE = 0, 4, 5, 7, 8


class Refused(Exception):
    """The client has been told no."""


async def connect(client: socket.socket, fault: Fault) -> socket.socket:
    """Shakes hands and returns the connection to the target. Raises Refused, and OSError where the client leaves."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
        version, methods = await _read(client, 2)
        offered = await _read(client, methods)
        if version != 5 or _NO_AUTHENTICATION not in offered:
            await loop.sock_sendall(client, bytes((5, _NONE_ACCEPTABLE)))
            raise Refused
    await _while_it_stays(client, fault.on_greeting())
    await loop.sock_sendall(client, bytes((5, _NO_AUTHENTICATION)))
    async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
        host, port = await _request(client)
    target = await _dial(client, host, port)
    try:
        await _while_it_stays(client, fault.on_connect_reply())
        await loop.sock_sendall(client, _reply(_SUCCEEDED, target))
    except BaseException:
        target.close()
        raise
    return target


async def _request(client: socket.socket) -> tuple[str, int]:
    _, command, _, address_type = await _read(client, 4)
    match address_type:
        case 1 | 4:
            host = str(ip_address(await _read(client, 4 if address_type == _IPV4 else 16)))
        case 3:
            (length,) = await _read(client, 1)
            host = (await _read(client, length)).decode("ascii", "replace")
        case _:
            raise await _refused(client, _NO_SUCH_ADDRESS_TYPE)
    port = int.from_bytes(await _read(client, 2))
    if command != 1:
        raise await _refused(client, _NO_SUCH_COMMAND)
    return host, port


async def _dial(client: socket.socket, host: str, port: int) -> socket.socket:
    """Tries each address of `host` in turn."""
    loop = asyncio.get_running_loop()
    code = _HOST_UNREACHABLE
    try:
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            for family, kind, _, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                target = socket.socket(family, kind)
                target.setblocking(False)
                target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    await loop.sock_connect(target, address)
                except ConnectionRefusedError:
                    target.close()
                    code = _REFUSED
                except BaseException:
                    target.close()
                    raise
                else:
                    return target
    except (OSError, UnicodeError):
        pass
    raise await _refused(client, code)


async def _refused(client: socket.socket, code: int) -> Refused:
    await asyncio.get_running_loop().sock_sendall(client, _reply(code))
    return Refused()


def _reply(code: int, target: socket.socket | None = None) -> bytes:
    host, port = target.getsockname()[:2] if target else ("0.0.0.0", 0)
    address = ip_address(host)
    address_type = _IPV4 if address.version == 4 else _IPV6
    return bytes((5, code, 0, address_type)) + address.packed + int(port).to_bytes(2, "big")


async def _read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await asyncio.get_running_loop().sock_recv(client, count - len(data))
        if not more:
            raise ConnectionResetError("the client has left in its handshake")
        data += more
    return data


async def _while_it_stays(client: socket.socket, work: Coroutine[Any, Any, None]) -> None:
    """Waits for `work`, and raises OSError when the client leaves first."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(departure(client, or_end=True))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ConnectionResetError("the client has left in its handshake")
        working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
