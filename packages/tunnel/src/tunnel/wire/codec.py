"""Messages to bytes and back, for any split of the bytes.

Rules:
- A message is: type (varint), length of the body (varint), body.
- An unknown type is skipped over. A known one must fill its body exactly; anything else is a `WireError`.
- A body is at most MAX_BODY_BYTES, so that a decoder never holds more than that and one header.
"""

from collections.abc import Callable, Iterator
from typing import assert_never

from tunnel.target import Target
from tunnel.wire.messages import (
    Direction,
    Done,
    End,
    GoAway,
    Hello,
    Kind,
    Message,
    Open,
    Outcome,
    Ping,
    Pong,
    Reply,
    Taken,
    Welcome,
)
from tunnel.wire.varint import decode_varint, encode_varint

MAX_BODY_BYTES = 1024

SESSION_ID_BYTES = 8
INSTANCE_ID_BYTES = 16
PING_BYTES = 8

_NO_ADDRESS = 0


class WireError(ValueError):
    """The peer's bytes are no messages of this protocol. The text says what is wrong, for people."""


def encode(message: Message) -> bytes:
    """The bytes of one message."""
    kind, body = _encode_body(message)
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"a body of {len(body)} bytes is longer than {MAX_BODY_BYTES}")
    return encode_varint(kind) + encode_varint(len(body)) + body


class Decoder:
    """Takes bytes as they come, gives messages. Raises `WireError`, after which it must not be used again."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Adds bytes. Bounded by the flow control of whoever feeds it, and emptied by the iteration."""
        self._buffer += data

    def __iter__(self) -> Iterator[Message]:
        """The whole messages that are there; the rest waits for more bytes."""
        while (taken := self._take()) is not None:
            if taken[0] is not None:
                yield taken[0]

    def take_one(self) -> Message | None:
        """The first message that is there whole. What stands behind it is `rest()`."""
        while (taken := self._take()) is not None:
            if taken[0] is not None:
                return taken[0]
        return None

    def rest(self) -> bytes:
        """Hands out, and forgets, the bytes that were not decoded."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    @property
    def pending_bytes(self) -> int:
        return len(self._buffer)

    def _take(self) -> tuple[Message | None] | None:
        """One message (None for an unknown type) in a tuple; None where the bytes do not reach."""
        buffer = self._buffer
        kind = decode_varint(buffer, 0)
        length = kind and decode_varint(buffer, kind[1])
        if kind is None or length is None:
            return None
        body_bytes, start = length
        if body_bytes > MAX_BODY_BYTES:
            raise WireError(f"a body of {body_bytes} bytes is longer than {MAX_BODY_BYTES}")
        stop = start + body_bytes
        if stop > len(buffer):
            return None
        body = bytes(buffer[start:stop])
        del buffer[:stop]
        read = _READERS.get(kind[0])
        return (None,) if read is None else (_decode_body(read, body),)


class _Body:
    """Reads the fields of a body one after the other."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def varint(self) -> int:
        found = decode_varint(self._data, self._at)
        if found is None:
            raise WireError("a body ends in the middle of a number")
        value, self._at = found
        return value

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise WireError(f"a body ends before its {count} bytes of content")
        start, self._at = self._at, self._at + count
        return self._data[start : self._at]

    def counted(self) -> bytes:
        return self.take(self.varint())

    def end(self) -> None:
        if self._at != len(self._data):
            raise WireError(f"a body has {len(self._data) - self._at} bytes too many")


def _decode_body(read: Callable[[_Body], Message], data: bytes) -> Message:
    body = _Body(data)
    try:
        message = read(body)
    except WireError:
        raise
    except ValueError as error:  # An enum or an address that does not exist.
        raise WireError(str(error)) from error
    body.end()
    return message


def _read_address(body: _Body) -> Target | None:
    kind, packed, port = body.varint(), body.counted(), int.from_bytes(body.take(2), "big")
    return None if (kind, packed, port) == (_NO_ADDRESS, b"", 0) else Target.unpacked(kind, packed, port)


def _write_address(target: Target | None) -> bytes:
    if target is None:
        return bytes((_NO_ADDRESS, 0, 0, 0))
    packed = target.packed()
    return encode_varint(target.kind) + encode_varint(len(packed)) + packed + target.port.to_bytes(2, "big")


def _read_open(body: _Body) -> Open:
    kind, target = Kind(body.varint()), _read_address(body)
    if target is None:
        raise WireError("an OPEN without an address")
    return Open(kind, target)


_HELLO, _WELCOME, _DONE, _END, _GOAWAY, _PING, _PONG, _TAKEN, _OPEN, _REPLY = 1, 2, 3, 4, 5, 6, 7, 8, 0x10, 0x11

# What an enumeration's call does, without the call: these two are in each DONE.
_DIRECTIONS, _OUTCOMES = {one.value: one for one in Direction}, {one.value: one for one in Outcome}


def _read_done(body: _Body) -> Done:
    stream, direction, final_offset, outcome = body.varint(), body.varint(), body.varint(), body.varint()
    try:
        return Done(stream, _DIRECTIONS[direction], final_offset, _OUTCOMES[outcome])
    except KeyError:
        raise WireError(f"a DONE of direction {direction} and outcome {outcome}") from None


_READERS: dict[int, Callable[[_Body], Message]] = {
    _HELLO: lambda b: Hello(b.varint(), b.varint(), b.counted()),
    _WELCOME: lambda b: Welcome(b.take(SESSION_ID_BYTES), b.take(INSTANCE_ID_BYTES), b.varint(), b.varint()),
    _DONE: _read_done,
    _END: lambda b: End(b.varint(), b.varint()),
    _GOAWAY: lambda b: GoAway(b.varint()),
    _PING: lambda b: Ping(b.take(PING_BYTES)),
    _PONG: lambda b: Pong(b.take(PING_BYTES)),
    _TAKEN: lambda b: Taken(b.varint(), b.varint()),
    _OPEN: _read_open,
    _REPLY: lambda b: Reply(b.varint(), _read_address(b)),
}


def _encode_body(message: Message) -> tuple[int, bytes]:
    v = encode_varint
    match message:  # The most frequent ones first: each case costs a check.
        case Done(stream, direction, final_offset, outcome):
            return _DONE, v(stream) + v(direction) + v(final_offset) + v(outcome)
        case Open(kind, target):
            return _OPEN, v(kind) + _write_address(target)
        case Reply(status, bound):
            return _REPLY, v(status) + _write_address(bound)
        case Hello(version, features, token):
            return _HELLO, v(version) + v(features) + v(len(token)) + token
        case Welcome(session_id, instance_id, max_streams, features):
            return _WELCOME, session_id + instance_id + v(max_streams) + v(features)
        case End(stream, final_offset):
            return _END, v(stream) + v(final_offset)
        case Taken(stream, offset):
            return _TAKEN, v(stream) + v(offset)
        case GoAway(last_stream):
            return _GOAWAY, v(last_stream)
        case Ping(payload):
            return _PING, payload
        case Pong(payload):
            return _PONG, payload
        case _:
            assert_never(message)
