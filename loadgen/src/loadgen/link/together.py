"""Datagrams that come one by one, received together: what UDP_GRO does for those of one send, done for the rest.

Rules
- One system call (recvmmsg) takes as many datagrams as are there and fit into one UDP_SEGMENT send. Each is written
  where it belongs in one buffer, if it is as long as the caller expects. So a run of equal datagrams of one sender,
  only the last one shorter, comes out as one buffer of segments, and no datagram of it costs anything in Python.
- Everything else comes out datagram by datagram, whole: longer ones, GRO buffers, those of several senders.
- Where the system has no recvmmsg, or lays out its structures in another way than 64-bit Linux, there is no such thing.

Measured on loopback, microseconds a datagram of 1,452 bytes, the best of 60 runs: one by one 3.0, together 1.2. What
follows (admission, delay, sending) is then paid for each buffer, and that saves more.
"""

import ctypes
import errno
import os
import socket
import struct
import sys
from array import array
from functools import lru_cache
from mmap import mmap
from typing import Any

from loadgen.link.line import BUNDLE_BYTES, BUNDLE_SEGMENTS

_DATAGRAM_BYTES = 65_536
_NAME_BYTES = 28  # struct sockaddr_in6
_NO_NAMES = bytes(BUNDLE_SEGMENTS * _NAME_BYTES)
_CONTROL_BYTES = 24  # one struct cmsghdr, and an int
_CONTROL_DATA = 16
_GRO_SIZE = struct.Struct("=i")
_IPV4, _IPV6 = struct.Struct("!2xH4s"), struct.Struct("!2xHI16s")
_FAMILY, _SCOPE = struct.Struct("=H"), struct.Struct("=I")

# struct mmsghdr in words of 64 bits: name, its length, vectors, how many, control, its length, flags, datagram's length
_WORDS, _CONTROL_LENGTH, _LENGTH = 8, 5, 7
_VECTOR_WORDS, _VECTORS = 4, 2  # where a datagram belongs, and where the rest of a longer one goes: two struct iovec

Received = tuple[bytes, int, tuple[Any, ...]]
"""Segments, of how many bytes each (the last possibly shorter), and from whom, as the socket module has it."""


def possible() -> bool:
    """Whether this system can do it."""
    return sys.platform == "linux" and sys.byteorder == "little" and sys.maxsize > 1 << 32


class Together:
    """The memory for it, for any number of sockets, one after the other."""

    def __init__(self) -> None:
        self._receive = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._run = mmap(-1, BUNDLE_SEGMENTS * _DATAGRAM_BYTES)  # takes no memory where nothing was written
        self._rest = mmap(-1, BUNDLE_SEGMENTS * _DATAGRAM_BYTES)
        self._names = bytearray(BUNDLE_SEGMENTS * _NAME_BYTES)
        self._controls = bytearray(BUNDLE_SEGMENTS * _CONTROL_BYTES)
        self._vectors = array("Q", bytes(BUNDLE_SEGMENTS * _VECTOR_WORDS * 8))
        self._vectors[2::_VECTOR_WORDS] = _places(self._rest, _DATAGRAM_BYTES)
        self._vectors[3::_VECTOR_WORDS] = array("Q", [_DATAGRAM_BYTES]) * BUNDLE_SEGMENTS
        self._fresh = array("Q", bytes(BUNDLE_SEGMENTS * _WORDS * 8))
        self._fresh[0::_WORDS] = _places(self._names, _NAME_BYTES)
        self._fresh[1::_WORDS] = array("Q", [_NAME_BYTES]) * BUNDLE_SEGMENTS
        self._fresh[2::_WORDS] = _places(self._vectors, _VECTOR_WORDS * 8)
        self._fresh[3::_WORDS] = array("Q", [_VECTORS]) * BUNDLE_SEGMENTS
        self._fresh[4::_WORDS] = _places(self._controls, _CONTROL_BYTES)
        self._fresh[_CONTROL_LENGTH::_WORDS] = array("Q", [_CONTROL_BYTES]) * BUNDLE_SEGMENTS
        self._headers = array("Q", self._fresh)
        self._headers_at = self._headers.buffer_info()[0]
        self._expected_bytes = 0

    def receive(self, source: socket.socket, expected_bytes: int) -> tuple[list[Received], bool]:
        """Takes what is there, most of it datagrams of `expected_bytes`; never waits.

        Returns the buffers, and whether there may be more. Raises OSError for what an earlier send met.
        """
        if expected_bytes != self._expected_bytes:
            self._expect(expected_bytes)
        most = max(min(BUNDLE_SEGMENTS, BUNDLE_BYTES // expected_bytes), 1)
        self._headers[:] = self._fresh
        self._names[:] = _NO_NAMES  # an IPv4 address leaves the end of its place as it was
        count = self._receive(source.fileno(), ctypes.c_void_p(self._headers_at), most, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR):
                return [], False
            raise OSError(number, os.strerror(number))
        return (self._whole(count) or [self._one(number) for number in range(count)]), count == most

    def _expect(self, expected_bytes: int) -> None:
        self._expected_bytes = expected_bytes
        self._vectors[0::_VECTOR_WORDS] = _places(self._run, expected_bytes, BUNDLE_SEGMENTS)
        self._vectors[1::_VECTOR_WORDS] = array("Q", [expected_bytes]) * BUNDLE_SEGMENTS

    def _whole(self, count: int) -> list[Received]:
        """All of them as one buffer; empty where they are not one."""
        expected_bytes = self._expected_bytes
        lengths = self._headers[_LENGTH : count * _WORDS : _WORDS]
        name = bytes(self._names[:_NAME_BYTES])
        if (
            lengths[:-1].count(expected_bytes) < count - 1
            or not 0 < lengths[-1] <= expected_bytes
            or any(self._headers[_CONTROL_LENGTH : count * _WORDS : _WORDS])
            or self._names[: count * _NAME_BYTES] != name * count
        ):
            return []
        return [(self._run[: (count - 1) * expected_bytes + lengths[-1]], expected_bytes, _address(name))]

    def _one(self, number: int) -> Received:
        header = self._headers[number * _WORDS : (number + 1) * _WORDS]
        length, expected_bytes = header[_LENGTH], self._expected_bytes
        start, rest = number * expected_bytes, number * _DATAGRAM_BYTES
        data = self._run[start : start + min(length, expected_bytes)]
        data += self._rest[rest : rest + max(length - expected_bytes, 0)]
        segment_bytes = length
        if header[_CONTROL_LENGTH]:  # nothing but UDP_GRO was asked for
            (segment_bytes,) = _GRO_SIZE.unpack_from(self._controls, number * _CONTROL_BYTES + _CONTROL_DATA)
        return data, segment_bytes, _address(bytes(self._names[number * _NAME_BYTES : (number + 1) * _NAME_BYTES]))


def _places(memory: Any, step_bytes: int, count: int = BUNDLE_SEGMENTS) -> "array[int]":
    """The addresses of `count` places in `memory`, which stays where it is for as long as it is not resized."""
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return array("Q", range(start, start + count * step_bytes, step_bytes))


@lru_cache(maxsize=1024)
def _address(name: bytes) -> tuple[Any, ...]:
    if _FAMILY.unpack_from(name)[0] == socket.AF_INET:
        port, host = _IPV4.unpack_from(name)
        return socket.inet_ntop(socket.AF_INET, host), port
    port, flow, host = _IPV6.unpack_from(name)
    return socket.inet_ntop(socket.AF_INET6, host), port, flow, _SCOPE.unpack_from(name, 24)[0]
