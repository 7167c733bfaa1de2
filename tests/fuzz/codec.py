"""Target: the wire codec. Any bytes, cut anyhow, are messages or a `WireError`; what was read can be written again."""

from tests.fuzz.pieces import pieces

from tunnel.wire.codec import MAX_BODY_BYTES, Decoder, WireError, encode
from tunnel.wire.messages import Message

HEADER_BYTES_MAX = 16
"""Two varints."""


def one_input(data: bytes) -> None:
    how, wire = data[:1], data[1:]
    whole, error = decoded([wire])
    assert decoded(pieces(how[0] if how else 0, wire)) == (whole, error), "it depends on how the bytes were cut"
    for message in whole:
        again, _ = decoded([encode(message)])
        assert again == [message], f"{message} became {again}"
    check_rest(wire, whole)


def decoded(wire: list[bytes]) -> tuple[list[Message], str]:
    """The messages, and what the error said, if there was one."""
    decoder, messages = Decoder(), list[Message]()
    try:
        for piece in wire:
            decoder.feed(piece)
            for message in decoder:
                messages.append(message)
            assert decoder.pending_bytes < HEADER_BYTES_MAX + MAX_BODY_BYTES, "the decoder holds more than a message"
    except WireError as error:
        return messages, f"an error: {error}"
    return messages, ""


def check_rest(wire: bytes, whole: list[Message]) -> None:
    """What stands behind the first message is handed on, to the byte."""
    decoder = Decoder()
    decoder.feed(wire)
    try:
        first = decoder.take_one()
    except WireError:
        assert not whole, "an error in front of a message"
        return
    rest = decoder.rest()
    assert wire.endswith(rest), "the rest is not what was sent"
    assert [first] == whole[:1] or first is None
    if first is not None:
        assert decoded([rest])[0] == whole[1:], "the first message took more than its own bytes"
