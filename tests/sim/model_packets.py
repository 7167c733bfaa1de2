"""The model engine's packets: what QUIC's are for, without its cryptography.

Rules:
- A packet is: kind, destination connection id, source connection id, packet number, frames, CRC-32 of all before.
  The checksum plays the part of authentication: a packet that the network has touched does not exist.
- A frame is a tuple; only this module knows its bytes. What does not decode is not a packet either.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

HELLO_PACKET = 1
"""Carries `Params` alone; repeated until answered; neither numbered nor acknowledged."""
DATA_PACKET = 2

ID_BYTES = 8
OVERHEAD_BYTES = 1 + 2 * ID_BYTES + 4 + 4
STREAM_OVERHEAD_BYTES = 16
CONTROL_FRAME_BYTES = 32
"""No frame but STREAM, ACK and CLOSE is longer."""

_HEADER = struct.Struct(">B8s8sI")
_CHECKSUM = struct.Struct(">I")


class Packet(NamedTuple):
    """A packet that the checksum vouches for; `body` is its frames."""

    kind: int
    destination: bytes
    source: bytes
    number: int
    body: bytes


class Params(NamedTuple):
    """What a side grants at first: the windows in bytes, and streams (the server's alone counts)."""

    stream_window: int
    control_window: int
    max_data: int
    max_streams: int


class PingFrame(NamedTuple):
    """Wants an acknowledgement, nothing else."""


class AckFrame(NamedTuple):
    """Half-open ranges of packet numbers, ascending."""

    ranges: tuple[tuple[int, int], ...]


class StreamFrame(NamedTuple):
    stream: int
    offset: int
    data: bytes
    end: bool


class ResetFrame(NamedTuple):
    stream: int
    code: int
    final_size: int


class StopFrame(NamedTuple):
    stream: int
    code: int


class MaxStreamData(NamedTuple):
    stream: int
    limit: int


class MaxData(NamedTuple):
    limit: int


class MaxStreams(NamedTuple):
    limit: int


class CloseFrame(NamedTuple):
    code: int
    reason: str


Frame = (
    Params
    | PingFrame
    | AckFrame
    | StreamFrame
    | ResetFrame
    | StopFrame
    | MaxStreamData
    | MaxData
    | MaxStreams
    | CloseFrame
)

_PARAMS, _PING, _ACK, _STREAM, _RESET, _STOP, _MAX_STREAM_DATA, _MAX_DATA, _MAX_STREAMS, _CLOSE = range(1, 11)

_PARAMS_BODY = struct.Struct(">QQQQ")
_ACK_HEAD = struct.Struct(">B")
_ACK_RANGE = struct.Struct(">II")
_STREAM_HEAD = struct.Struct(">IQHB")
_RESET_BODY = struct.Struct(">IIQ")
_STOP_BODY = struct.Struct(">II")
_MAX_STREAM_DATA_BODY = struct.Struct(">IQ")
_NUMBER_BODY = struct.Struct(">Q")
_CLOSE_HEAD = struct.Struct(">IH")


def encode_packet(kind: int, destination: bytes, source: bytes, number: int, frames: list[bytes]) -> bytes:
    packet = _HEADER.pack(kind, destination, source, number) + b"".join(frames)
    return packet + _CHECKSUM.pack(crc32(packet))


def decode_packet(data: bytes) -> Packet | None:
    """None where the bytes are no packet, or not as they were sent."""
    if len(data) < OVERHEAD_BYTES or crc32(data[:-4]) != _CHECKSUM.unpack(data[-4:])[0]:
        return None
    kind, destination, source, number = _HEADER.unpack_from(data)
    return Packet(kind, destination, source, number, data[_HEADER.size : -4])


def encode_frame(frame: Frame) -> bytes:
    match frame:
        case StreamFrame(stream, offset, data, end):
            return bytes((_STREAM,)) + _STREAM_HEAD.pack(stream, offset, len(data), end) + data
        case AckFrame(ranges):
            head = bytes((_ACK,)) + _ACK_HEAD.pack(len(ranges))
            return head + b"".join(_ACK_RANGE.pack(*one) for one in ranges)
        case PingFrame():
            return bytes((_PING,))
        case MaxStreamData():
            return bytes((_MAX_STREAM_DATA,)) + _MAX_STREAM_DATA_BODY.pack(*frame)
        case MaxData():
            return bytes((_MAX_DATA,)) + _NUMBER_BODY.pack(*frame)
        case MaxStreams():
            return bytes((_MAX_STREAMS,)) + _NUMBER_BODY.pack(*frame)
        case ResetFrame():
            return bytes((_RESET,)) + _RESET_BODY.pack(*frame)
        case StopFrame():
            return bytes((_STOP,)) + _STOP_BODY.pack(*frame)
        case Params():
            return bytes((_PARAMS,)) + _PARAMS_BODY.pack(*frame)
        case CloseFrame(code, reason):
            text = reason.encode()
            return bytes((_CLOSE,)) + _CLOSE_HEAD.pack(code, len(text)) + text


def decode_frames(body: bytes) -> Iterator[Frame]:
    """The frames of a packet. The checksum has vouched for the bytes, so that they are well formed."""
    at = 0
    while at < len(body):
        kind = body[at]
        at += 1
        if kind == _STREAM:
            stream, offset, length, end = _STREAM_HEAD.unpack_from(body, at)
            at += _STREAM_HEAD.size + length
            yield StreamFrame(stream, offset, body[at - length : at], bool(end))
        elif kind == _ACK:
            count = body[at]
            ranges = tuple(_ACK_RANGE.iter_unpack(body[at + 1 : at + 1 + count * _ACK_RANGE.size]))
            at += 1 + count * _ACK_RANGE.size
            yield AckFrame(ranges)
        elif kind == _PING:
            yield PingFrame()
        elif kind == _CLOSE:
            code, length = _CLOSE_HEAD.unpack_from(body, at)
            at += _CLOSE_HEAD.size + length
            yield CloseFrame(code, body[at - length : at].decode())
        else:
            make, fields = _FIXED[kind]
            yield make(*fields.unpack_from(body, at))
            at += fields.size


_FIXED: dict[
    int, tuple[type[Params | ResetFrame | StopFrame | MaxStreamData | MaxData | MaxStreams], struct.Struct]
] = {
    _PARAMS: (Params, _PARAMS_BODY),
    _RESET: (ResetFrame, _RESET_BODY),
    _STOP: (StopFrame, _STOP_BODY),
    _MAX_STREAM_DATA: (MaxStreamData, _MAX_STREAM_DATA_BODY),
    _MAX_DATA: (MaxData, _NUMBER_BODY),
    _MAX_STREAMS: (MaxStreams, _NUMBER_BODY),
}
