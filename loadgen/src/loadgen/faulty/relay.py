"""One connection, from its greeting to its two ends: correct, but for what its fault does.

Rules
- Each end of stream is passed on by itself, when it comes: half-closed connections stay open the other way.
- A reset on one side becomes a reset on the other one, behind the bytes that came before it.
- A connection is over when both ends have been sent, or with the first reset. An end that a fault keeps back keeps the
  connection, until the client resets it, or for KEPT_S.
"""

import asyncio
import socket
from contextlib import ExitStack, suppress

from loadgen.faulty.fault import KEPT_S, Fault
from loadgen.faulty.handshake import Refused, connect
from loadgen.faulty.way import Way, pair, reset


async def serve(client: socket.socket, fault: Fault) -> None:
    """Serves one client and closes its socket. A cancellation resets both sides."""
    client.setblocking(False)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with ExitStack() as otherwise:
        otherwise.callback(reset, client)
        with suppress(OSError):
            try:
                target = await connect(client, fault)
            except Refused:
                client.close()
                return
            otherwise.callback(reset, target)
            await _relay(*pair(client, target), fault)
            client.close()
            target.close()


async def _relay(up: Way, down: Way, fault: Fault) -> None:
    """Returns when both ends have been sent. Raises OSError for a reset."""
    try:
        async with asyncio.TaskGroup() as tasks:
            pumps = [tasks.create_task(_pump(way, fault)) for way in (up, down)]
            await up.ended.wait()
            await down.ended.wait()
            for pump in pumps:
                pump.cancel()
    except* OSError as errors:
        raise ConnectionResetError("one side has reset") from errors


async def _pump(way: Way, fault: Fault) -> None:
    while data := await way.receive():
        await fault.on_data(way, data)
    await fault.on_end(way)
    async with asyncio.timeout(None if way.ended.is_set() else KEPT_S):
        await way.watch_source()
