"""From a request to a relay: dial the target, answer, join the two.

Rules:
- A dial is bounded in time, and ends at once when its stream does. Each has one owner: `Dialling`.
- Only a name takes a task; an address takes callbacks, and no turn of the event loop where it is near.
- The answer does not wait for a byte of the target's (F17); bytes of the client's are held meanwhile, within a window.
"""

import asyncio
import socket
import time
from collections.abc import Callable

from tunnel.errors import Cause
from tunnel.net.dial import DialError, dial
from tunnel.net.direct import DirectDial
from tunnel.net.driver import Driver
from tunnel.net.egress import EgressPolicy
from tunnel.net.poller import Poller
from tunnel.net.relay import Relay
from tunnel.net.tcp import TcpSocket
from tunnel.session.events import Dial
from tunnel.session.server import ServerSession
from tunnel.target import AddressKind, Target

OnDialled = Callable[[Target, Cause, str, float], None]
"""Target, cause (NONE for success), detail and seconds."""


class Dialling:
    """All dials and relays of one server."""

    def __init__(
        self,
        poller: Poller,
        driver: Driver,
        session: ServerSession,
        policy: EgressPolicy,
        *,
        timeout_s: float,
        on_dialled: OnDialled,
        on_closed: Callable[[], None],
    ) -> None:
        self._poller = poller
        driver.before_flush = self._poller.run_actions
        self._poller.after_part = driver.flush
        self._loop = poller.loop
        self._driver = driver
        self._session = session
        self._policy = policy
        self._timeout_s = timeout_s
        self._on_dialled = on_dialled
        self._on_closed = on_closed
        self._clock = time.monotonic
        self._dials: dict[_Attempt, DirectDial | asyncio.Task[None]] = {}

    def start(self, event: Dial) -> None:
        """A client's request."""
        stream, target = event.stream, event.target
        attempt = _Attempt(target, Relay(self._driver, stream, on_closed=lambda: self._closed(attempt)), self._clock())
        if target.kind is AddressKind.NAME:
            task = self._loop.create_task(self._look_up_and_dial(attempt), name=f"dial stream {stream}")
            task.add_done_callback(_raise_fault)
            self._dials[attempt] = task
        else:
            direct = DirectDial(self._poller, self._timeout_s, lambda outcome: self._over(attempt, outcome))
            self._dials[attempt] = direct
            direct.start(target, self._policy)

    @property
    def active(self) -> int:
        return len(self._dials)

    def close(self) -> None:
        """Gives up the dials under way."""
        for dialling in self._dials.values():
            dialling.cancel()

    async def _look_up_and_dial(self, attempt: "_Attempt") -> None:
        try:
            sock = await dial(attempt.target, self._policy, timeout_s=self._timeout_s)
        except DialError as error:
            self._over(attempt, error)
        except Exception:
            self._over(attempt, DialError(Cause.INTERNAL, Cause.INTERNAL.summary))
            raise
        else:
            self._over(attempt, sock)

    def _over(self, attempt: "_Attempt", outcome: socket.socket | DialError) -> None:
        """A dial ended by itself."""
        self._dials.pop(attempt, None)
        seconds = self._clock() - attempt.began_at
        if isinstance(outcome, DialError):
            self._on_dialled(attempt.target, outcome.cause, outcome.detail, seconds)
            self._refuse(attempt.relay, outcome.cause)
        else:
            self._on_dialled(attempt.target, Cause.NONE, "", seconds)
            self._join(outcome, attempt.relay)

    def _join(self, sock: socket.socket, relay: Relay) -> None:
        """Success is told only when there is a socket that can be relayed."""
        try:
            target = TcpSocket(self._poller, sock, relay, Cause.TARGET_RESET, reading=True)
        except Exception:
            sock.close()
            self._refuse(relay, Cause.INTERNAL)
            raise
        self._session.dialled(relay.stream, _bound(sock), Driver.now())
        relay.attach(target)
        self._driver.wake()

    def _refuse(self, relay: Relay, cause: Cause) -> None:
        self._session.refused(relay.stream, cause, Driver.now())
        relay.close()
        self._driver.wake()

    def _closed(self, attempt: "_Attempt") -> None:
        """The relay is over: with it a dial that still runs. The session knows already how the stream ended."""
        dialling = self._dials.pop(attempt, None)
        if dialling is not None:
            dialling.cancel()
            detail = "the stream ended before the dial did"
            self._on_dialled(attempt.target, Cause.CANCELLED, detail, self._clock() - attempt.began_at)
        self._on_closed()


class _Attempt:
    """A request whose target is being dialled."""

    __slots__ = ("began_at", "relay", "target")

    def __init__(self, target: Target, relay: Relay, began_at: float) -> None:
        self.target = target
        self.relay = relay
        self.began_at = began_at


def _raise_fault(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error  # A fault of ours: for the loop's handler, which logs it.


def _bound(sock: socket.socket) -> Target | None:
    host, port = sock.getsockname()[:2]
    try:
        return Target.of(host.partition("%")[0], port)
    except ValueError:
        return None
