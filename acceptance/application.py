"""What an application behind SOCKS5 does and sees: a request, or a transfer that takes its time, and how it ended."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address
from time import time

from servicekit import payload
from servicekit.address import Address

SERVED = "served"
RESET = "reset"
CUT = "cut short"  # An end of stream before the length that was announced.
DAMAGED = "damaged"
HANGS = "hangs"
NO_LISTENER = "no listener"

SEED = 7
STEP_MS = 100
STEP_BYTES = 5_000


def refused(reply: int) -> str:
    """The word for a SOCKS reply that is no success."""
    return f"SOCKS reply {reply}"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when, on the clock of `time`, and what became of it."""

    at_s: float
    ended_s: float
    ending: str

    @property
    def took_s(self) -> float:
        return self.ended_s - self.at_s


def path_of(size: int, seconds: float = 0.0) -> str:
    """Of http-target: so many bytes, or as many as a transfer of these seconds takes."""
    if not seconds:
        return f"/bytes?seed={SEED}&size={size}&framing=length"
    size = int(seconds * 1000 / STEP_MS) * STEP_BYTES
    return f"/bytes?seed={SEED}&size={size}&framing=length&gap_ms={STEP_MS}&gap_every={STEP_BYTES}"


async def ask(
    proxy: Address | None, target: Address, path: str, within_s: float, under_way: asyncio.Event | None = None
) -> Asked:
    """A GET through the proxy on a connection of its own. `under_way` is set when its first bytes have come."""
    at_s = time()
    try:
        async with asyncio.timeout(within_s):
            ending = NO_LISTENER if proxy is None else await _exchange(proxy, target, path, under_way)
    except TimeoutError:
        ending = HANGS
    return Asked(at_s, time(), ending)


async def _exchange(proxy: Address, target: Address, path: str, under_way: asyncio.Event | None) -> str:
    try:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    except OSError:
        return NO_LISTENER
    try:
        writer.write(greeting_and_connect(target))
        if reply := (await reader.readexactly(12))[3]:
            return refused(reply)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        first = await reader.readexactly(min(length, STEP_BYTES // 2))
        if under_way is not None:
            under_way.set()
        body = first + await reader.readexactly(length - len(first))
    except asyncio.IncompleteReadError:
        return CUT
    except OSError:
        return RESET
    finally:
        writer.transport.abort()
    return SERVED if sha256(body).hexdigest() == payload.sha256(SEED, length) else DAMAGED


def greeting_and_connect(target: Address) -> bytes:
    """What a client that knows what it wants says in one go."""
    try:
        where = b"\x01" + IPv4Address(target.host).packed
    except ValueError:
        where = b"\x03" + bytes([len(target.host)]) + target.host.encode()
    return b"\x05\x01\x00\x05\x01\x00" + where + struct.pack("!H", target.port)


@asynccontextmanager
async def held(proxy: Address, count: int, says: bytes) -> AsyncIterator[None]:
    """So many connections that say this much and stay."""
    loop = asyncio.get_running_loop()
    made: list[socket.socket] = []

    async def hold() -> None:
        sock = socket.socket()
        sock.setblocking(False)
        made.append(sock)
        with suppress(OSError):  # Refused, or reset meanwhile: then it is not held.
            await loop.sock_connect(sock, (proxy.host, proxy.port))
            await loop.sock_sendall(sock, says)

    try:
        async with asyncio.timeout(10):
            await asyncio.gather(*(hold() for _ in range(count)))
        yield
    finally:
        for sock in made:
            sock.close()
