"""A listener of the faulty proxy, and every connection that it has accepted."""

import asyncio
import socket
from collections.abc import Callable

from loadgen.faulty.fault import Fault
from loadgen.faulty.relay import serve

_PAUSE_S = 0.1


async def serve_all(listener: socket.socket, make: Callable[[], Fault]) -> None:
    """Accepts on `listener`, non-blocking, until it is cancelled; then all connections are reset."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as connections:
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:  # no descriptor left, or that client has gone already
                await asyncio.sleep(_PAUSE_S)
                continue
            connections.create_task(serve(client, make()))
