"""A UDP socket for a QUIC engine: many datagrams a system call, and no error that ends it.

Rules:
- The unit is the batch: equal segments in one buffer (only the last may be shorter), as UDP_GRO hands them
  out and UDP_SEGMENT takes them. A kernel or a network card without either is served datagram by datagram;
  what was refused once is not tried again.
- QUIC repairs losses, so nothing here is fatal: errors are counted and the datagrams concerned are gone.
- Work in one turn of the event loop is bounded, and so is what waits for a full socket.

Measured on loopback, Python 3.11, microseconds a datagram of 1,200 bytes: received alone 1.4 to 2.9, in a GRO
buffer of 44 segments 0.23; sent alone 3.9, in a batch of 44 0.15. `recvmsg` into a fresh bytes object is faster
than `recvmsg_into` a kept buffer (0.23 against 0.39), because slices of bytes are cheaper than slices of a
memoryview, and nobody has to mind how long a buffer stays valid.
"""

import asyncio
import errno
import socket
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

# linux/udp.h; the socket module does not name them before Python 3.13.
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104

Address = tuple[Any, ...]  # as the socket module gives it: (host, port) or (host, port, flow, scope)
Batch = list[tuple[bytes, int, Address]]

# One turn reads up to so many datagrams (and the rest of the buffer that reaches the number). A pure-Python
# engine needs about 0.1 ms a datagram, so a turn stays below 15 ms.
DATAGRAMS_A_TURN_MAX: Final = 64

# What waits when the kernel takes no more; behind that, datagrams are dropped and counted.
QUEUE_BYTES_MAX: Final = 1024 * 1024

# Asked of the kernel in each direction: a burst of a whole window must fit (rmem_max and wmem_max may allow less).
SOCKET_BUFFER_BYTES: Final = 4 * 1024 * 1024

_RECEIVE_BYTES: Final = 65535  # The largest datagram, and the largest buffer that GRO makes.
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(4)
_SEGMENTS_MAX: Final = 64  # UDP_MAX_SEGMENTS of the first kernels with UDP_SEGMENT.
_PAYLOAD_BYTES_MAX: Final = 65487  # 65,535 less 40 of IPv6 and 8 of UDP, the smaller of the families' bounds.
_OFF: Final = 0

# linux/in.h and linux/in6.h; the socket module does not name them.
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_PROBE: Final = 3

# EIO: no checksum offload on the way out. EINVAL, EMSGSIZE: the segment does not fit the interface or the path.
_SEGMENTATION_REFUSED: Final = (errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP)


@dataclass(slots=True)
class UdpCounters:
    """What has happened, since the beginning. A system call that moved 44 segments counts as 44 datagrams."""

    datagrams_received: int = 0
    bytes_received: int = 0
    receive_calls: int = 0
    receive_errors: int = 0
    datagrams_sent: int = 0
    bytes_sent: int = 0
    send_calls: int = 0
    send_errors: int = 0
    send_blocked: int = 0
    datagrams_dropped: int = 0
    segmentation_refused: int = 0


class UdpEndpoint:
    """Owns `sock` (bound, not connected, non-blocking) from here on. (uvloop forgets the reader of a socket that
    reports an error, and Linux reports the errors of datagrams, ICMP's, to connected sockets only.)

    `on_batch` gets a list of (data, segment size in bytes, address) once a turn. `on_writable` is called when
    everything that had to wait is out, after a `send` that returned False. `offload=False` does without
    UDP_GRO and UDP_SEGMENT, as an old kernel would.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_batch: Callable[[Batch], None],
        on_writable: Callable[[], None] = lambda: None,
        *,
        offload: bool = True,
    ) -> None:
        self.counters = UdpCounters()
        self.address: Address = sock.getsockname()
        self.receive_buffer_bytes = _grow(sock, socket.SO_RCVBUF)
        self.send_buffer_bytes = _grow(sock, socket.SO_SNDBUF)
        _forbid_fragments(sock)
        self.coalesced_receive = offload and _enable_gro(sock)
        self._segment_bytes_max = _PAYLOAD_BYTES_MAX // 2 if offload and _has_segmentation(sock) else _OFF
        self._loop = loop
        self._socket = sock
        self._fd = sock.fileno()
        self._on_batch = on_batch
        self._on_writable = on_writable
        self._queue: deque[tuple[bytes, int, Address]] = deque()
        self._queued_bytes = 0
        self._closed = False
        self._ancillary: dict[int, list[tuple[int, int, bytes]]] = {}
        loop.add_reader(self._fd, self._readable)

    @property
    def segmented_send(self) -> bool:
        """Whether batches go out by UDP_SEGMENT (at least those of smaller segments than one refused before)."""
        return self._segment_bytes_max != _OFF

    @property
    def queued_bytes(self) -> int:
        """What waits for the kernel; 0 unless a `send` returned False."""
        return self._queued_bytes

    def send(self, data: bytes, segment_size: int, address: Address) -> bool:
        """Sends `data` as datagrams of `segment_size` bytes each, the last one with what is left.

        Returns False when the kernel takes no more: this batch then waits here (QUEUE_BYTES_MAX in all, beyond
        it is dropped), and the caller had better stop until `on_writable`.
        """
        if self._closed:
            return False
        sent = 0
        if not self._queue:
            sent = self._transmit(data, segment_size, address)
            if sent >= len(data):
                return True
            self.counters.send_blocked += 1
            self._loop.add_writer(self._fd, self._writable)
        self._enqueue(data[sent:] if sent else data, segment_size, address)
        return False

    def close(self) -> None:
        """Closes the socket; what waits is lost. Idempotent, callable from the callbacks."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._socket.close()
        self._queue.clear()
        self._queued_bytes = 0

    # Receiving.

    def _readable(self) -> None:
        if self._closed:
            return
        batch: Batch = []
        counters = self.counters
        receive = self._socket.recvmsg
        room = DATAGRAMS_A_TURN_MAX
        while room > 0:
            try:
                data, ancillary, _, address = receive(_RECEIVE_BYTES, _ANCILLARY_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                # An ICMP error of something sent earlier (ECONNREFUSED, ENETUNREACH, …); reading it clears it.
                counters.receive_errors += 1
                room -= 1
                continue
            size = segment_size = len(data)
            for level, kind, value in ancillary:
                if kind == UDP_GRO and level == socket.IPPROTO_UDP:
                    segment_size = int.from_bytes(value, sys.byteorder)
            if not size:
                room -= 1
                continue
            segments = _count(size, segment_size)
            counters.receive_calls += 1
            counters.datagrams_received += segments
            counters.bytes_received += size
            room -= segments
            batch.append((data, segment_size, address))
        if batch:
            self._on_batch(batch)

    # Sending.

    def _enqueue(self, data: bytes, segment_size: int, address: Address) -> None:
        if self._queued_bytes + len(data) > QUEUE_BYTES_MAX:
            self.counters.datagrams_dropped += _count(len(data), segment_size)
            return
        self._queue.append((data, segment_size, address))
        self._queued_bytes += len(data)

    def _writable(self) -> None:
        if self._closed:
            return
        while self._queue:
            data, segment_size, address = self._queue[0]
            sent = self._transmit(data, segment_size, address)
            self._queued_bytes -= sent
            if sent < len(data):
                self._queue[0] = (data[sent:], segment_size, address)
                return
            self._queue.popleft()
        self._loop.remove_writer(self._fd)
        self._on_writable()

    def _transmit(self, data: bytes, segment_size: int, address: Address) -> int:
        """Hands datagrams to the kernel until it would block. Returns the bytes done with, sent or lost."""
        size = len(data)
        if size <= segment_size:
            return size if self._send_one(data, address) else 0
        done = 0
        while done < size:
            if segment_size > self._segment_bytes_max:
                if not self._send_one(data[done : done + segment_size], address):
                    return done
                done += segment_size
                continue
            # As many whole segments as one call takes.
            end = done + min(_SEGMENTS_MAX, _PAYLOAD_BYTES_MAX // segment_size) * segment_size
            portion = data[done:end] if done or end < size else data
            step = self._send_segments(portion, segment_size, address)
            if not step:
                return done
            done += step
        return size

    def _send_one(self, data: bytes, address: Address) -> bool:
        """Returns False if the kernel would block; any other error means that the datagram is lost."""
        try:
            self._socket.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self.counters.send_errors += 1
            return True
        self._count_sent(1, len(data))
        return True

    def _send_segments(self, data: bytes, segment_size: int, address: Address) -> int:
        """Sends what one call takes. Returns the bytes done with, 0 if the kernel would block."""
        ancillary = self._ancillary.get(segment_size)
        if ancillary is None:
            value = segment_size.to_bytes(2, sys.byteorder)
            ancillary = self._ancillary[segment_size] = [(socket.IPPROTO_UDP, UDP_SEGMENT, value)]
        try:
            self._socket.sendmsg((data,), ancillary, 0, address)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            if error.errno in _SEGMENTATION_REFUSED:
                return self._segmentation_refused(error, data, segment_size, address)
            self.counters.send_errors += _count(len(data), segment_size)
            return len(data)
        self._count_sent(_count(len(data), segment_size), len(data))
        return len(data)

    def _segmentation_refused(self, error: OSError, data: bytes, segment_size: int, address: Address) -> int:
        """Tries the first datagram alone: if it goes out, segmentation is to blame, else the address is."""
        errors = self.counters.send_errors
        if not self._send_one(data[:segment_size], address):
            return 0
        if self.counters.send_errors != errors:
            self.counters.send_errors += _count(len(data), segment_size) - 1
            return len(data)
        self.counters.segmentation_refused += 1
        self._segment_bytes_max = _OFF if error.errno == errno.EIO else segment_size - 1
        return segment_size

    def _count_sent(self, datagrams: int, size: int) -> None:
        self.counters.send_calls += 1
        self.counters.datagrams_sent += datagrams
        self.counters.bytes_sent += size


def _count(size: int, segment_size: int) -> int:
    return -(-size // segment_size)


def _grow(sock: socket.socket, option: int) -> int:
    """Asks for SOCKET_BUFFER_BYTES; returns what was granted (the kernel reports the double, for overhead)."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    except OSError:
        pass
    return sock.getsockopt(socket.SOL_SOCKET, option) // 2


def _forbid_fragments(sock: socket.socket) -> None:
    """RFC 9000 section 14: a datagram that does not fit the path is lost, not cut up, or its size would prove nothing.

    PROBE and not DO: what the kernel believes of the path is the engine's to find out.
    """
    options = [(socket.IPPROTO_IP, _IP_MTU_DISCOVER)]
    if sock.family == socket.AF_INET6:
        options.append((socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER))
    for level, option in options:
        try:
            sock.setsockopt(level, option, _PMTUDISC_PROBE)
        except OSError:
            pass


def _enable_gro(sock: socket.socket) -> bool:
    try:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    except OSError:
        return False
    return True


def _has_segmentation(sock: socket.socket) -> bool:
    # Kernels before 4.18 ignore the ancillary message and would send one giant datagram: ask first.
    try:
        sock.getsockopt(socket.IPPROTO_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True
