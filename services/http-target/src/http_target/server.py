"""Listeners, the tasks of their connections, and the drain.

Rules:
- The server owns one task for each connection; all have ended when `drain` returns.
- Accepting is bounded twice: so many a turn of the event loop, so many at once. What is above waits in the
  kernel's backlog.
- At the limit, or out of descriptors, accepting pauses; it does not spin, and it does not end the program.
- Draining takes what the backlog holds already, stops accepting, then waits for the requests under way.
"""

import asyncio
import errno
import socket
from contextlib import suppress

from http_target.connection import Connection
from http_target.session import Service, Speak, serve
from servicekit.logs import get_logger

ACCEPTS_A_TURN = 64
PAUSE_S = 0.5
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Server:
    """All listeners and connections of the program. Belongs to the running event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[socket.socket, Speak] = {}
        self._connections: dict[asyncio.Task[None], Connection] = {}

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def add(self, listener: socket.socket, speak: Speak) -> None:
        """Accepts on `listener`, a non-blocking socket that is the server's from now on."""
        self._listeners[listener] = speak
        self._loop.add_reader(listener, self._accept, listener)

    async def drain(self, timeout_s: float, now: asyncio.Event) -> bool:
        """Stops accepting and returns when all connections have ended; after `timeout_s`, or as soon as `now` is set,
        it resets those that are left. Returns whether there were none of these.
        """
        for listener in self._listeners:
            self._accept(listener, at_most=self._service.settings.max_connections)
            self._loop.remove_reader(listener)
        while self._listeners:
            self._listeners.popitem()[0].close()
        self._service.draining.set()
        for connection in self._connections.values():
            connection.hurry()
        tasks = list(self._connections)
        cutter = asyncio.create_task(self._cut(timeout_s, now))
        await asyncio.gather(*tasks, return_exceptions=True)
        cutter.cancel()
        return not any(task.cancelled() for task in tasks)

    async def _cut(self, timeout_s: float, now: asyncio.Event) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(now.wait(), timeout_s)
        for task in self._connections:
            task.cancel()

    def _accept(self, listener: socket.socket, at_most: int = ACCEPTS_A_TURN) -> None:
        for _ in range(at_most):
            if len(self._connections) >= self._service.settings.max_connections:
                self._pause("max_connections is reached")
                return
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    self._pause(str(error))
                    return
                continue  # ECONNABORTED: that client has left already
            self._start(client, self._listeners[listener])

    def _start(self, client: socket.socket, speak: Speak) -> None:
        connection = Connection(client, self._service.metrics, self._service.draining)
        task = self._loop.create_task(serve(connection, self._service, speak))
        self._connections[task] = connection
        task.add_done_callback(self._connections.pop)

    def _pause(self, reason: str) -> None:
        get_logger().warning("accepting_paused", reason=reason, connections=self.connections)
        for listener in self._listeners:
            self._loop.remove_reader(listener)
        self._loop.call_later(PAUSE_S, self._resume)

    def _resume(self) -> None:
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)
