"""A connection through the proxy on a socket of our own: every byte and every ending is seen as the kernel tells it.

Rules
- Nothing is read ahead: a read happens when the transaction waits for it, and an end of stream is an empty read.
- `shutdown_write` is SHUT_WR and nothing else. `close` after an ending on both sides is a normal close, otherwise a
  reset, so that a transaction that failed leaves nothing behind that the proxy would have to wait for.
- Errors of the socket arrive as Failed.
"""

import asyncio
import os
import select
import socket
import struct
from collections.abc import Callable
from typing import Self

from loadgen.transaction import socks5
from loadgen.transaction.outcomes import Failed, Outcome, of_os_error
from loadgen.transaction.phases import Phase
from loadgen.transaction.route import Route, SocketAddress
from loadgen.transaction.transaction import Transaction
from servicekit.address import Address

READ_BYTES = 256 * 1024

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class RawConnection:
    """An async context manager around one TCP connection. One transaction uses it, one operation at a time."""

    def __init__(self, transaction: Transaction, family: int) -> None:
        self._transaction = transaction
        self._loop = asyncio.get_running_loop()
        self._pushed_back = b""
        self._read_ended = self._write_ended = False
        try:
            self._socket = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise of_os_error(error) from error
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def connect(self, address: SocketAddress) -> None:
        """Waits until the connection is established. Raises Failed."""
        try:
            self._socket.connect(address)
        except BlockingIOError:
            await self._wait(select.POLLOUT)
            if code := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise of_os_error(OSError(code, os.strerror(code))) from None
        except OSError as error:
            raise of_os_error(error) from error

    @property
    def local_address(self) -> str:
        """As the other end sees it."""
        return str(Address.of_socket(self._socket.getsockname()))

    async def read(self) -> bytes:
        """Waits for bytes and returns them; empty at the end of the stream. Raises Failed."""
        if self._pushed_back:
            data, self._pushed_back = self._pushed_back, b""
            return data
        while True:
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                await self._wait(select.POLLIN)
                continue
            except OSError as error:
                raise of_os_error(error) from error
            self._transaction.progress()
            self._read_ended = not data
            return data

    async def read_message(self, length_of: Callable[[bytes], int | None]) -> bytes:
        """Reads one message, whose length `length_of` tells from its beginning. What is behind it stays to be read."""
        arrived = b""
        while (length := length_of(arrived)) is None or len(arrived) < length:
            data = await self.read()
            if not data:
                raise Failed(Outcome.EOF_PREMATURE, f"the proxy closed after {len(arrived)} bytes of its reply")
            arrived += data
        self._pushed_back = arrived[length:]
        return arrived[:length]

    async def write(self, data: bytes) -> None:
        """Waits until the kernel has taken all of `data`. Raises Failed."""
        rest = memoryview(data)
        while rest:
            try:
                taken = self._socket.send(rest)
            except BlockingIOError:
                await self._wait(select.POLLOUT)
                continue
            except OSError as error:
                raise of_os_error(error) from error
            self._transaction.progress()
            rest = rest[taken:]

    def shutdown_write(self) -> None:
        """Sends the end of our stream; reading goes on. Raises Failed."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise of_os_error(error) from error
        self._write_ended = True

    def close(self) -> None:
        """Closes at once: normally where the peer has ended its stream, with a reset otherwise."""
        if self._socket.fileno() < 0:
            return
        if not self._read_ended:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._socket.close()

    async def _wait(self, poll_for: int) -> None:
        """Waits until the socket is ready. A cancellation leaves nothing registered."""
        descriptor = self._socket.fileno()
        reading = poll_for == select.POLLIN
        add, remove = (
            (self._loop.add_reader, self._loop.remove_reader)
            if reading
            else (self._loop.add_writer, self._loop.remove_writer)
        )
        ready = self._loop.create_future()
        self._transaction.waits_for(descriptor, poll_for)
        add(descriptor, _wake, ready)
        try:
            await ready
        finally:
            remove(descriptor)
            self._transaction.waits_for(-1, 0)


async def dial(transaction: Transaction, route: Route, destination: Address) -> RawConnection:
    """Connects through the proxy to `destination`: phases tcp_connect, socks_greeting and socks_connect.

    Leaves socks_connect open: what comes next enters the phase that follows. Raises Failed. A cancellation closes the
    socket.
    """
    transaction.enter(Phase.TCP_CONNECT)
    try:
        family, address = await route.proxy_address()
    except OSError as error:
        raise of_os_error(error) from error
    connection = RawConnection(transaction, family)
    try:
        await connection.connect(address)
        transaction.application = connection.local_address
        await _handshake(connection, transaction, route, destination)
    except BaseException:
        connection.close()
        raise
    return connection


async def _handshake(connection: RawConnection, transaction: Transaction, route: Route, destination: Address) -> None:
    transaction.enter(Phase.SOCKS_GREETING)
    await connection.write(socks5.greeting(route.credentials))
    reply = await connection.read_message(lambda _: socks5.METHOD_REPLY_BYTES)
    socks5.check_method(reply, route.credentials)
    if route.credentials:
        await connection.write(socks5.login(route.credentials))
        socks5.check_login(await connection.read_message(lambda _: socks5.LOGIN_REPLY_BYTES))
    transaction.enter(Phase.SOCKS_CONNECT)
    await connection.write(socks5.connect_request(destination))
    socks5.check_connect(await connection.read_message(socks5.connect_reply_length))


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
