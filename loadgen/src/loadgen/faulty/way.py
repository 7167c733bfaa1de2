"""One direction of a connection: where its bytes come from, and where they go.

Rules
- The sockets are used directly: `send` returns when the kernel has the bytes, so back-pressure is the receiver's own.
- Nothing is behind an end: what is sent after it is dropped, and a second end is none.
"""

import asyncio
import select
import socket
import struct

from loadgen.transaction.transaction import Direction

READ_BYTES = 65536

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Way:
    """Half of a relayed connection; `back` is the other half. Neither socket is its own."""

    back: "Way"

    def __init__(self, direction: Direction, source: socket.socket, sink: socket.socket) -> None:
        self.direction = direction
        self.ended = asyncio.Event()
        """Whether the end of stream was sent."""
        self._source, self._sink = source, sink
        self._loop = asyncio.get_running_loop()

    @property
    def is_upload(self) -> bool:
        return self.direction is Direction.CLIENT_TO_TARGET

    async def receive(self) -> bytes:
        """The next bytes, empty at the end of the stream. Raises OSError for a reset."""
        return await self._loop.sock_recv(self._source, READ_BYTES)

    async def send(self, data: bytes) -> None:
        """Waits until the kernel has all of `data`. Raises OSError where the receiver has left."""
        if data and not self.ended.is_set():
            await self._loop.sock_sendall(self._sink, data)

    def end(self) -> None:
        """Sends the end of stream. Raises OSError where the receiver has left."""
        if not self.ended.is_set():
            self._sink.shutdown(socket.SHUT_WR)
            self.ended.set()

    async def watch_source(self) -> None:
        """For a source that has ended: raises OSError when it resets, returns when its other end has passed as well."""
        await departure(self._source)
        if code := self._source.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise ConnectionResetError(code, "reset behind the end")


def pair(client: socket.socket, target: socket.socket) -> tuple[Way, Way]:
    """Both directions between two sockets: up to the target, and down to the client."""
    up = Way(Direction.CLIENT_TO_TARGET, client, target)
    down = Way(Direction.TARGET_TO_CLIENT, target, client)
    up.back, down.back = down, up
    return up, down


async def departure(peer: socket.socket, or_end: bool = False) -> None:
    """Waits until `peer` has reset the connection, or both its ends have passed; with `or_end`, also for its own end
    alone. Reads nothing. Linux only."""
    # An event loop's reader wakes for bytes that wait, too. An epoll of our own, asked for no bytes, becomes readable
    # itself, for what epoll always tells: errors and hang-ups.
    loop = asyncio.get_running_loop()
    with select.epoll() as signs:
        signs.register(peer, select.EPOLLRDHUP if or_end else 0)
        seen = asyncio.Event()
        loop.add_reader(signs, seen.set)
        try:
            await seen.wait()
        finally:
            loop.remove_reader(signs)


def reset(peer: socket.socket) -> None:
    """Closes with a TCP reset."""
    if peer.fileno() >= 0:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        peer.close()
