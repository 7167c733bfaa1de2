"""A load of short transactions through SOCKS5, as fast as it goes: whole ones, and ones that are cut in three ways.

Rules:
- The kind of transaction N depends on N alone: every other one is whole, of the others every other one is reset by the
  application, and the rest in turns by the target and by STOP_SENDING.
- What each must come to is exact, to the byte and the way it ends; anything else is an error, never a retry.
- A cut comes in the middle of a body: the first half is there, the second is not on its way.
- Greeting, request and HTTP go out in one write, so that the proxies are what takes time.
"""

import asyncio
import socket
import struct
from enum import Enum
from itertools import cycle, islice
from typing import Final

from servicekit.address import Address

HALF_BYTES: Final = 500
LATER_MS: Final = 3000
"""When the second half of a body would come: long after the application has cut it off, also where it stood still."""
AT_ONCE: Final = 24
"""Transactions at a time: with what lingers at the target they stay on one connection of the tunnel."""
PATIENCE_S: Final = 30.0

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_READ_BYTES: Final = 65536
_ASK: Final = "GET /bytes?seed=1&size={size}&framing=close{more} HTTP/1.1\r\nHost: target\r\n\r\n"


class Kind(Enum):
    """How a transaction ends, and what is asked of http-target for it."""

    WHOLE = ""
    APPLICATION_RESETS = f"&gap_every={HALF_BYTES}&gap_ms={LATER_MS}"
    TARGET_RESETS = f"&reset_at={HALF_BYTES}"
    STOPPED = f"&gap_every={HALF_BYTES}&gap_ms={LATER_MS} "
    """The application has ended its own direction before it resets: what goes on through the tunnel is STOP_SENDING."""

    @property
    def request(self) -> bytes:
        return _ASK.format(size=2 * HALF_BYTES, more=self.value.strip()).encode()


ORDER: Final = (
    Kind.WHOLE,
    Kind.APPLICATION_RESETS,
    Kind.WHOLE,
    Kind.TARGET_RESETS,
    Kind.WHOLE,
    Kind.APPLICATION_RESETS,
    Kind.WHOLE,
    Kind.STOPPED,
)
"""Of transactions 0 to 7, and so on."""

_CUT_HERE: Final = (Kind.APPLICATION_RESETS, Kind.STOPPED)


def expected(count: int) -> dict[Kind, int]:
    """How many of each kind the first `count` transactions are."""
    kinds = list(islice(cycle(ORDER), count))
    return {kind: kinds.count(kind) for kind in Kind}


async def churn(proxy: Address, target: Address, count: int, at_once: int = AT_ONCE) -> None:
    """Transactions 0 to `count`, `at_once` of them at a time. Raises what goes wrong first."""
    head = b"\x05\x01\x00\x05\x01\x00\x01" + socket.inet_aton(target.host) + target.port.to_bytes(2, "big")
    openings = {kind: head + kind.request for kind in Kind}
    order = islice(cycle(ORDER), count)

    async def some() -> None:
        for kind in order:
            with socket.socket() as sock:
                sock.setblocking(False)
                async with asyncio.timeout(PATIENCE_S):
                    await _transaction(sock, proxy, kind, openings[kind])

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(some())


async def _transaction(sock: socket.socket, proxy: Address, kind: Kind, opening: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (proxy.host, proxy.port))
    await loop.sock_sendall(sock, opening)
    if kind is Kind.STOPPED:
        sock.shutdown(socket.SHUT_WR)
    received, error = b"", None
    try:
        while data := await loop.sock_recv(sock, _READ_BYTES):
            received += data
            if kind in _CUT_HERE and len(_body(received)) >= HALF_BYTES:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                break
    except ConnectionResetError as reset:
        error = reset
    body = len(_body(received))
    if kind is Kind.TARGET_RESETS:  # RESET_STREAM may overtake what was sent before it.
        as_it_should_be = error is not None and body <= HALF_BYTES
    else:
        as_it_should_be = error is None and body == (2 if kind is Kind.WHOLE else 1) * HALF_BYTES
    assert as_it_should_be, f"{kind}: {received[:200]!r}, {body} bytes of body, {error!r}"


def _body(received: bytes) -> bytes:
    return received.partition(b"\r\n\r\n")[2]
