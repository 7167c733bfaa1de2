"""2,000 close-delimited requests of 1 kB over new SOCKS connections, 64 at a time: none fails, none waits over 1 s."""

import asyncio
import hashlib
import socket
import time
from statistics import median

from serving import Serving, report, serve

from servicekit.payload import sha256

REQUESTS = 2000
AT_A_TIME = 64
SIZE = 1000
SLOWEST_S = 1.0


def main() -> None:
    with serve() as serving:
        began = time.monotonic()
        seconds, failures = asyncio.run(load(serving))
        elapsed = time.monotonic() - began
    figure = (
        f"{failures} failed, median {1000 * median(seconds):.0f} ms, slowest {1000 * max(seconds):.0f} ms, "
        f"{REQUESTS / elapsed:.0f} a second"
    )
    report("2,000 close-delimited requests, 64 at a time", figure, failures == 0 and max(seconds) <= SLOWEST_S)


async def load(serving: Serving) -> tuple[list[float], int]:
    numbers = iter(range(REQUESTS))
    seconds: list[float] = []
    failures = 0

    async def worker() -> None:
        nonlocal failures
        for number in numbers:
            began = time.monotonic()
            try:
                async with asyncio.timeout(30):
                    right = await request(serving, number)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                right = False
            seconds.append(time.monotonic() - began)
            failures += not right

    await asyncio.gather(*(worker() for _ in range(AT_A_TIME)))
    return seconds, failures


async def request(serving: Serving, seed: int) -> bool:
    host, port = serving.proxy.rsplit(":", 1)
    target_host, target_port = serving.target.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"\x05\x01\x00")
        await reader.readexactly(2)
        writer.write(b"\x05\x01\x00\x01" + socket.inet_aton(target_host) + int(target_port).to_bytes(2, "big"))
        if (await reader.readexactly(10))[1] != 0:
            return False
        writer.write(f"GET /bytes?seed={seed}&size={SIZE}&framing=close HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = await reader.read(-1)
    finally:
        writer.close()
    return hashlib.sha256(answer.partition(b"\r\n\r\n")[2]).hexdigest() == sha256(seed, SIZE)


if __name__ == "__main__":
    main()
