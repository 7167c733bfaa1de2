"""The operating system of the simulation: TCP sockets, an event loop and its poller, on virtual time.

Rules:
- A `VirtualSocket` behaves as a non-blocking Linux socket does, errors included: what was received before a reset can
  still be read; the reset is handed out once; EPIPE where the peer had ended before it reset (tcp_reset, tcp_recvmsg).
- Buffers are small, so that every write may be a short one.
- A `Host` is the part of an event loop that `tunnel.net` uses, and its poller. Readiness is seen a little late, in a
  seeded order. A frozen host does nothing until it thaws; a dead one does nothing ever.
"""

import errno
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.sim.world import MAX_TRANSMITS_AT_ONCE, Planned, Stuck, World

from tunnel.engine.port import Address, Transmit
from tunnel.net.poller import ERROR, HANG_UP, READABLE, WRITABLE

READINESS_S = 0.000_5
MAX_BACKLOG = 300
"""What waits for a frozen host before datagrams are lost, as in a full socket buffer."""
MAX_TURNS = 20_000
"""How often one socket may be ready: beyond that somebody does not take what it is told."""

_LINGER = struct.Struct("ii")


class VirtualSocket:
    """One end of a TCP connection. `on_change` is called when it may be readable, writable or broken anew."""

    _descriptors = 100

    def __init__(self, receive_bytes: int, send_bytes: int) -> None:
        VirtualSocket._descriptors += 1
        self.peer: VirtualSocket = self
        self.closed = False
        self.fin_sent = False
        """The peer will see a clean end behind what was sent."""
        self.on_change: Callable[[], None] = lambda: None
        self._descriptor = VirtualSocket._descriptors
        self._receive_bytes = receive_bytes
        self._send_bytes = send_bytes
        self._inbox = bytearray()
        """What the peer sent: up to `receive_bytes` are here, the rest is in the peer's kernel still."""
        self._fin_received = False
        self._was_reset = False
        self._error = 0
        self._linger = True

    @classmethod
    def pair(cls, rng: Random) -> tuple["VirtualSocket", "VirtualSocket"]:
        """Both ends of a connection, with buffers of a size of their own."""
        one, other = (cls(rng.choice(_BUFFER_SIZES), rng.choice(_BUFFER_SIZES)) for _ in range(2))
        one.peer, other.peer = other, one
        return one, other

    # What a program calls.

    def fileno(self) -> int:
        return -1 if self.closed else self._descriptor

    def recv(self, size: int) -> bytes:
        self._check_open()
        if self._inbox:
            was_full = not self.peer.writable
            data = bytes(self._inbox[:size])
            del self._inbox[:size]
            if was_full and self.peer.writable:
                self.peer.on_change()
            return data
        if self._fin_received:
            return b""
        if self._error:
            self._raise_error()
        if self._was_reset:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | memoryview) -> int:
        self._check_open()
        if self._error:
            self._raise_error()
        if self._was_reset or self.fin_sent:
            raise BrokenPipeError(errno.EPIPE, "broken pipe")
        count = min(len(data), self._room)
        if not count and data:
            raise BlockingIOError
        if self.peer.closed:  # The answer is a reset: nobody is there to read.
            self._receive_reset()
        else:
            self.peer._inbox += data[:count]
            self.peer.on_change()
        return count

    def sendmsg(self, chunks: list[bytes | memoryview]) -> int:
        return self.send(b"".join(chunks))

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR
        self._check_open()
        if self._was_reset:
            raise OSError(errno.ENOTCONN, "not connected")
        self._send_fin()

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            assert isinstance(value, bytes)
            self._linger = _LINGER.unpack(value) != (1, 0)

    def getsockopt(self, level: int, option: int) -> int:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            return 0
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        error, self._error = self._error, 0
        return error

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.on_change = lambda: None
        if self._was_reset:
            return
        # Bytes that nobody read are answered with a reset (RFC 2525 section 2.17).
        if self._inbox or not self._linger:
            self.peer._receive_reset()
        else:
            self._send_fin()

    def reset(self) -> None:
        """Closes with a reset, whatever is on its way."""
        self._linger = False
        self.close()

    # What the kernel knows.

    @property
    def writable(self) -> bool:
        return not self.closed and (self._was_reset or self._room > 0)

    def poll(self) -> int:
        """Its readiness, as epoll has it."""
        if self.closed:
            return 0
        events = READABLE if self._inbox or self._fin_received or self._was_reset else 0
        events |= WRITABLE if self.writable else 0
        events |= ERROR if self._error else 0
        return events | (HANG_UP if self._was_reset or (self._fin_received and self.fin_sent) else 0)

    @property
    def _room(self) -> int:
        return self._send_bytes + self.peer._receive_bytes - len(self.peer._inbox)

    def _send_fin(self) -> None:
        if not self.fin_sent:
            self.fin_sent = True
            if self.peer.closed:
                return
            self.peer._fin_received = True
            self.peer.on_change()

    def _receive_reset(self) -> None:
        """What had not left the sender's kernel is lost with it."""
        if self.closed or self._was_reset:
            return
        self._was_reset = True
        in_sight = self._inbox[: self._receive_bytes]
        self._fin_received = self._fin_received and len(in_sight) == len(self._inbox)
        self._inbox = in_sight
        self._error = errno.EPIPE if self._fin_received else errno.ECONNRESET
        self.on_change()

    def _raise_error(self) -> None:
        error, self._error = self._error, 0
        raise OSError(error, "reset")

    def _check_open(self) -> None:
        if self.closed:
            raise OSError(errno.EBADF, "closed")


_BUFFER_SIZES = (300, 2_000, 16_000, 64_000)


class Handle:
    """What `call_soon` and `call_later` give."""

    __slots__ = ("cancelled", "planned")

    def __init__(self) -> None:
        self.cancelled = False
        self.planned: Planned | None = None

    def cancel(self) -> None:
        self.cancelled = True
        if self.planned is not None:
            self.planned.cancel()


class Host:
    """A machine with one process: its event loop, its poller, its UDP socket."""

    def __init__(self, world: World, rng: Random, address: Address) -> None:
        self.address = address
        self.turns = 0
        """How often something has run here."""
        self._world = world
        self._rng = rng
        self._dead = False
        self._frozen = False
        self._backlog: list[Callable[[], None]] = []
        self._sent_at = 0.0
        self._sent_at_once = 0
        self._sockets: dict[int, VirtualSocket] = {}
        self._polled: dict[int, _Polled] = {}
        self._actions: list[Callable[[], None]] = []

    # Life.

    def freeze(self) -> None:
        self._frozen = True

    def thaw(self) -> None:
        """All that came meanwhile happens now, in the order in which it came."""
        self._frozen = False
        backlog, self._backlog = self._backlog, []
        for action in backlog:
            self._run(action)

    def die(self) -> None:
        """The machine is gone: nothing of it runs any more, its TCP peers see a reset."""
        self._dead = True
        for sock in self._sockets.values():
            sock.reset()

    def connect(self, sock: VirtualSocket) -> VirtualSocket:
        """Makes a socket one of this host's."""
        number = sock.fileno()
        self._sockets[number] = sock
        sock.on_change = lambda: self._look(number)
        return sock

    @property
    def open_sockets(self) -> int:
        return sum(not sock.closed for sock in self._sockets.values())

    # An event loop.

    @property
    def loop(self) -> "Host":
        return self

    def time(self) -> float:
        return self._world.now

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> Handle:
        return self.call_later(0, callback, *args)

    def call_later(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> Handle:
        handle = Handle()

        def call() -> None:
            if not handle.cancelled:  # It may have been while the host was frozen.
                callback(*args)

        handle.planned = self._world.after(delay_s, lambda: self._run(call))
        return handle

    # A poller.

    def add(self, descriptor: int, on_ready: Callable[[int], None], events: int = 0) -> None:
        self._polled[descriptor] = _Polled(on_ready, events)
        self._look(descriptor)

    def want(self, descriptor: int, events: int) -> None:
        polled = self._polled[descriptor]
        polled.wanted, polled.reported = events, 0
        self._look(descriptor)

    def soon(self, action: Callable[[], None]) -> None:
        if not self._actions:
            self.call_soon(self.run_actions)
        self._actions.append(action)

    def run_actions(self) -> bool:
        actions, self._actions = self._actions, []
        for action in actions:
            action()
        return bool(actions)

    def remove(self, descriptor: int) -> None:
        self._polled.pop(descriptor, None)

    # A UDP socket.

    def listen(self, on_batch: Callable[[list[tuple[bytes, int, Address]]], None]) -> None:
        def receive(data: bytes, segment_size: int, address: Address) -> None:
            if len(self._backlog) < MAX_BACKLOG:
                self._run(lambda: on_batch([(data, segment_size, address)]))

        self._world.listen(self.address, receive)

    def send(self, data: bytes, segment_size: int, address: Address) -> bool:
        self._sent_at_once = self._sent_at_once + 1 if self._sent_at == self._world.now else 1
        self._sent_at = self._world.now
        if self._sent_at_once > MAX_TRANSMITS_AT_ONCE:
            raise Stuck(f"{self.address} has sent {self._sent_at_once} times at {self._sent_at}")
        if not self._dead:
            self._world.network.send(Transmit(data, segment_size, address), self.address, self._world.now)
        return True

    def close(self) -> None:
        """Closes the UDP socket: nothing is sent any more, since nobody asks."""

    # Private.

    def _run(self, action: Callable[[], None]) -> None:
        if self._dead:
            return
        if self._frozen:
            self._backlog.append(action)
        else:
            self.turns += 1
            action()

    def _look(self, descriptor: int) -> None:
        """Looks at a socket soon, once however often it is asked."""
        polled = self._polled.get(descriptor)
        if polled is not None and not polled.look_planned:
            polled.look_planned = True
            self._world.after(READINESS_S * self._rng.random(), lambda: self._run(lambda: self._look_now(descriptor)))

    def _look_now(self, descriptor: int) -> None:
        polled = self._polled.get(descriptor)
        if polled is None:
            return
        polled.look_planned = False
        events = self._sockets[descriptor].poll() & (polled.wanted | ERROR | HANG_UP)
        # With nothing wanted, each error is told once: see `tunnel.net.poller`.
        if events and (polled.wanted or events & ~polled.reported):
            polled.reported = events
            polled.turns += 1
            if polled.turns > MAX_TURNS:
                raise Stuck(f"a socket was ready {MAX_TURNS} times: {events:#x} of {polled.wanted:#x}")
            polled.on_ready(events)
            self._look(descriptor)


@dataclass(slots=True)
class _Polled:
    on_ready: Callable[[int], None]
    wanted: int = 0
    reported: int = 0
    look_planned: bool = False
    turns: int = 0
