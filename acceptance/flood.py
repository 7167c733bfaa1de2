"""A client that opens and resets streams as fast as it can: a process of its own, beside others that are measured.

python acceptance/flood.py PROXY TARGET      (HOST:PORT each; until its stdin ends, then prints how many)
"""

import asyncio
import os
import socket
import struct
import sys

from servicekit.address import Address

AT_ONCE = 64
PATIENCE_S = 30.0

_RESET = struct.pack("ii", 1, 0)


async def flood(proxy: Address, target: Address) -> None:
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    opened = 0

    async def one_after_the_other() -> None:
        nonlocal opened
        while not over.done():
            if await open_and_reset(proxy, target):
                opened += 1
                if opened == 1:
                    print("begun", flush=True)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other())
    print(opened)


async def open_and_reset(proxy: Address, target: Address) -> bool:
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
        except ConnectionError:
            return False
    return len(received) == 12 and received[3] == 0


if __name__ == "__main__":
    asyncio.run(flood(Address.parse(sys.argv[1]), Address.parse(sys.argv[2])))
    os._exit(0)
