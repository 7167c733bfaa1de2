"""A UDP socket that receives and sends whole buffers of equal segments where the kernel can (UDP_GRO, UDP_SEGMENT).

Rules
- One receive gives (data, segment_bytes, address): segments of equal size, the last one possibly shorter.
- Without UDP_GRO each receive is one datagram; without UDP_SEGMENT each segment is one send. Nothing else differs.
- Never fragmented: a segment larger than the way ahead is not sent, so that path MTU probes tell the truth.
- Never waits: what the kernel does not take at once is not sent, and the caller is told.
"""

import errno
import socket
import struct
import sys
from typing import Any

BUFFER_BYTES = 16 * 1024 * 1024
"""Asked for each socket and direction: 20 ms of a link that carries 6 Gbit/s, for which somebody else may have the
processor. Who may not administer the network gets at most net.core.rmem_max and wmem_max."""

_LARGEST_DATAGRAM_BYTES = 65535
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_UDP_SEGMENT, _UDP_GRO = 103, 104
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
_SEGMENT_SIZE = struct.Struct("=H")
_GRO_SIZE = struct.Struct("=i")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_GRO_SIZE.size)
_NOT_SEGMENTED = frozenset({errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP})

SocketAddress = tuple[Any, ...]
"""As the socket module has it: (host, port) or (host, port, flow, scope)."""


class UdpSocket:
    """A non-blocking UDP socket of `family`. Bind or connect it through `raw`."""

    def __init__(self, family: int) -> None:
        self.raw = socket.socket(family, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0))
        self.raw.setblocking(False)
        linux = sys.platform == "linux"
        for option, forced in ((socket.SO_RCVBUF, _SO_RCVBUFFORCE), (socket.SO_SNDBUF, _SO_SNDBUFFORCE)):
            if not (linux and self._try_option(socket.SOL_SOCKET, forced, BUFFER_BYTES)):
                self._try_option(socket.SOL_SOCKET, option, BUFFER_BYTES)
        if linux and family == socket.AF_INET:
            self._try_option(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        elif linux:
            self._try_option(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        self.receives_segments = linux and self._try_option(socket.IPPROTO_UDP, _UDP_GRO, 1)
        self.sends_segments = linux and self._try_option(socket.IPPROTO_UDP, _UDP_SEGMENT, 0)

    def _try_option(self, level: int, option: int, value: int) -> bool:
        try:
            self.raw.setsockopt(level, option, value)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[bytes, int, SocketAddress] | None:
        """Returns one buffer, or None where nothing is there. Raises OSError for what an earlier send met."""
        try:
            if not self.receives_segments:
                data, address = self.raw.recvfrom(_LARGEST_DATAGRAM_BYTES)
                return data, len(data), address
            data, ancillary, _flags, address = self.raw.recvmsg(_LARGEST_DATAGRAM_BYTES, _ANCILLARY_BYTES)
        except (BlockingIOError, InterruptedError):
            return None
        for level, kind, value in ancillary:
            if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
                return data, _GRO_SIZE.unpack(value[: _GRO_SIZE.size])[0], address
        return data, len(data), address

    def send(self, data: bytes, segment_bytes: int, address: SocketAddress | None = None) -> int:
        """Sends equal segments, the last possibly shorter, to `address` (None: to the connected peer).

        Returns how many bytes were taken, whole segments. Raises OSError where the peer or the route is away.
        """
        if len(data) > segment_bytes and self.sends_segments:
            ancillary = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(segment_bytes))]
            try:
                return self.raw.sendmsg([data], ancillary, 0, *([address] if address else []))
            except BlockingIOError:
                return 0
            except OSError as error:
                if error.errno not in _NOT_SEGMENTED:
                    raise
        return self._send_each(memoryview(data), segment_bytes, address)

    def _send_each(self, data: memoryview, segment_bytes: int, address: SocketAddress | None) -> int:
        taken = 0
        for start in range(0, len(data), segment_bytes):
            segment = data[start : start + segment_bytes]
            try:
                taken += self.raw.sendto(segment, address) if address else self.raw.send(segment)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                break
        return taken

    def close(self) -> None:
        self.raw.close()
