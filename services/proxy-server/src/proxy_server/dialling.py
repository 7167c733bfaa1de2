"""From a request to a relay: dial the target, answer, join the two.

Rules:
- A dial is bounded in time, and ends at once when its stream does. Its task has one owner: `Dialling`.
- The answer does not wait for a byte of the target's (F17); bytes of the client's are held meanwhile, within a window.
"""

import asyncio
import socket
from collections.abc import Callable

from tunnel.errors import Cause
from tunnel.net.dial import DialError, dial
from tunnel.net.driver import Driver
from tunnel.net.egress import EgressPolicy
from tunnel.net.poller import Poller
from tunnel.net.relay import Relay
from tunnel.net.tcp import TcpSocket
from tunnel.session.events import Dial
from tunnel.session.server import ServerSession
from tunnel.target import Target

OnDialled = Callable[[Target, Cause, str, float], None]
"""Target, cause (NONE for success), detail and seconds."""


class Dialling:
    """All dials and relays of one server."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        driver: Driver,
        session: ServerSession,
        policy: EgressPolicy,
        *,
        timeout_s: float,
        on_dialled: OnDialled,
        on_closed: Callable[[], None],
    ) -> None:
        self._poller = Poller(loop)
        self._loop = loop
        self._driver = driver
        self._session = session
        self._policy = policy
        self._timeout_s = timeout_s
        self._on_dialled = on_dialled
        self._on_closed = on_closed
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def start(self, event: Dial) -> None:
        """A client's request."""
        relay = Relay(self._driver, event.stream, on_closed=lambda: self._closed(event.stream))
        task = self._loop.create_task(self._dial(event.target, relay), name=f"dial stream {event.stream}")
        self._tasks[event.stream] = task
        task.add_done_callback(lambda done: self._done(event.stream, done))

    @property
    def active(self) -> int:
        return len(self._tasks)

    def close(self) -> None:
        """Gives up the dials under way."""
        for task in self._tasks.values():
            task.cancel()
        self._poller.close()

    async def _dial(self, target: Target, relay: Relay) -> None:
        began_at = self._loop.time()
        cause, detail = Cause.INTERNAL, Cause.INTERNAL.summary
        try:
            sock = await dial(target, self._policy, timeout_s=self._timeout_s)
            cause, detail = Cause.NONE, ""
        except DialError as error:
            cause, detail = error.cause, error.detail
        except asyncio.CancelledError:
            cause, detail = Cause.CANCELLED, "the stream ended before the dial did"
            raise
        finally:
            self._on_dialled(target, cause, detail, self._loop.time() - began_at)
            if cause is not Cause.NONE:
                self._refuse(relay, cause)
        if cause is Cause.NONE:
            self._join(sock, relay)

    def _join(self, sock: socket.socket, relay: Relay) -> None:
        """Success is told only when there is a socket that can be relayed."""
        try:
            target = TcpSocket(self._poller, sock, relay, Cause.TARGET_RESET)
        except Exception:
            sock.close()
            self._refuse(relay, Cause.INTERNAL)
            raise
        self._session.dialled(relay.stream, _bound(sock), Driver.now())
        relay.attach(target)
        self._driver.wake()

    def _refuse(self, relay: Relay, cause: Cause) -> None:
        if cause is not Cause.CANCELLED:  # There, the session knows already how the stream ended.
            self._session.refused(relay.stream, cause, Driver.now())
        relay.close()
        self._driver.wake()

    def _closed(self, stream: int) -> None:
        """The relay is over: with it a dial that still runs."""
        task = self._tasks.get(stream)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        self._on_closed()

    def _done(self, stream: int, task: asyncio.Task[None]) -> None:
        del self._tasks[stream]
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error  # A fault of ours: for the loop's handler, which logs it.


def _bound(sock: socket.socket) -> Target | None:
    host, port = sock.getsockname()[:2]
    try:
        return Target.of(host.partition("%")[0], port)
    except ValueError:
        return None
