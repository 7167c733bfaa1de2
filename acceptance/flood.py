"""A client that opens streams as fast as it can: a process of its own, beside others that are measured.

python acceptance/flood.py PROXY TARGET reset|whole      (HOST:PORT each; until its stdin ends, then prints how many)

It resets each stream as soon as there is one, or has a whole transaction on it, as an ordinary client does.
"""

import asyncio
import os
import socket
import struct
import sys

from servicekit.address import Address

AT_ONCE = 64
PATIENCE_S = 30.0

_GET = b"GET /bytes?seed=1&size=500&framing=close HTTP/1.1\r\nHost: target\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)


async def flood(proxy: Address, target: Address, *, whole: bool) -> None:
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    opened = 0

    async def one_after_the_other() -> None:
        nonlocal opened
        while not over.done():
            if await opened_one(proxy, target, whole=whole):
                opened += 1
                if opened == 1:
                    print("begun", flush=True)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other())
    print(opened)


async def opened_one(proxy: Address, target: Address, *, whole: bool) -> bool:
    """Whether there was a stream: the proxy may also say that it has none left."""
    loop = asyncio.get_running_loop()
    ask = b"\x05\x01\x00\x05\x01\x00\x01" + socket.inet_aton(target.host) + target.port.to_bytes(2, "big")
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await loop.sock_connect(sock, (proxy.host, proxy.port))
                await loop.sock_sendall(sock, ask)
                received = b""
                while len(received) < 12 and (data := await loop.sock_recv(sock, 12 - len(received))):
                    received += data
                if whole:
                    await loop.sock_sendall(sock, _GET)
                    while await loop.sock_recv(sock, 65536):
                        pass
        except ConnectionError:
            return False
    return len(received) == 12 and received[3] == 0


if __name__ == "__main__":
    asyncio.run(flood(Address.parse(sys.argv[1]), Address.parse(sys.argv[2]), whole=sys.argv[3] == "whole"))
    os._exit(0)
