"""The codec against PROTOCOL.md: golden bytes, any split of the input, and no exception but WireError."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.target import AddressKind, Target
from tunnel.wire.codec import MAX_BODY_BYTES, Decoder, WireError, encode
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
from tunnel.wire.varint import MAX_VARINT, decode_varint, encode_varint

HEADER_BYTES_MAX = 16
"""Two varints."""

# Each line stands in PROTOCOL.md too.
GOLDEN: list[tuple[Message, str]] = [
    (Hello(1, 0, b"secret"), "01 09 01 00 06 73 65 63 72 65 74"),
    (
        Welcome(bytes(range(8)), bytes(range(16)), 256, 0),
        "02 1b 0001020304050607 000102030405060708090a0b0c0d0e0f 4100 00",
    ),
    (Done(4, Direction.TARGET_TO_CLIENT, 1000, Outcome.EOF), "03 05 04 01 43e8 00"),
    (End(8, 70000), "04 05 08 80011170"),
    (GoAway(12), "05 01 0c"),
    (Ping(b"12345678"), "06 08 31 32 33 34 35 36 37 38"),
    (Pong(b"12345678"), "07 08 31 32 33 34 35 36 37 38"),
    (Taken(4, 65536), "08 05 04 80010000"),
    (Open(Kind.CONNECT, Target.of("example.test", 443)), "10 11 01 03 0c 6578616d706c652e74657374 01bb"),
    (Open(Kind.CONNECT, Target.of("192.0.2.1", 80)), "10 09 01 01 04 c0000201 0050"),
    (Open(Kind.CONNECT, Target.of("2001:db8::1", 80)), "10 15 01 04 10 20010db8000000000000000000000001 0050"),
    (Reply(0, Target.of("192.0.2.7", 4096)), "11 09 00 01 04 c0000207 1000"),
    (Reply(6, None), "11 05 06 00 00 0000"),
]


@pytest.mark.parametrize(("message", "golden"), GOLDEN)
def test_golden_bytes(message: Message, golden: str) -> None:
    data = bytes.fromhex(golden)
    assert encode(message) == data
    decoder = Decoder()
    for byte in data:
        assert decoder.take_one() is None
        decoder.feed(bytes((byte,)))
    assert decoder.take_one() == message
    assert decoder.pending_bytes == 0


numbers = st.integers(0, MAX_VARINT)
targets = st.one_of(
    st.ip_addresses(v=4).map(lambda a: (AddressKind.IPV4, str(a))),
    st.ip_addresses(v=6).map(lambda a: (AddressKind.IPV6, str(a))),
    st.from_regex(r"[A-Za-z0-9._-]{1,255}", fullmatch=True).map(lambda n: (AddressKind.NAME, n)),
).flatmap(lambda kh: st.integers(0, 65535).map(lambda port: Target(kh[0], kh[1], port)))
messages = st.one_of(
    st.builds(Hello, numbers, numbers, st.binary(max_size=512)),
    st.builds(Welcome, st.binary(min_size=8, max_size=8), st.binary(min_size=16, max_size=16), numbers, numbers),
    st.builds(Done, numbers, st.sampled_from(Direction), numbers, st.sampled_from(Outcome)),
    st.builds(End, numbers, numbers),
    st.builds(Taken, numbers, numbers),
    st.builds(GoAway, numbers),
    st.builds(Ping, st.binary(min_size=8, max_size=8)),
    st.builds(Pong, st.binary(min_size=8, max_size=8)),
    st.builds(Open, st.just(Kind.CONNECT), targets),
    st.builds(Reply, numbers, st.none() | targets),
)


@given(st.lists(messages, max_size=8), st.data())
def test_result_does_not_depend_on_how_bytes_were_split(sent: list[Message], data: st.DataObject) -> None:
    wire = b"".join(map(encode, sent))
    decoder, got = Decoder(), list[Message]()
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        decoder.feed(wire[:size])
        got += decoder
        wire = wire[size:]
    assert got == sent


kinds = st.integers(0, 0x12) | numbers
bodies = st.binary(max_size=40)
almost_messages = st.one_of(
    messages.map(encode),
    st.tuples(kinds, bodies).map(lambda m: encode_varint(m[0]) + encode_varint(len(m[1])) + m[1]),
    st.tuples(messages.map(encode), st.integers(0, 40), st.integers(0, 255)).map(lambda m: bent(*m)),
    bodies,
)


def bent(message: bytes, at: int, octet: int) -> bytes:
    """With another octet in its place."""
    at %= len(message)
    return message[:at] + bytes((octet,)) + message[at + 1 :]


def read(pieces: list[bytes]) -> tuple[list[Message], str]:
    """The messages, and what the error said, if there was one."""
    decoder, got = Decoder(), list[Message]()
    try:
        for piece in pieces:
            decoder.feed(piece)
            got.extend(decoder)
            assert decoder.pending_bytes < HEADER_BYTES_MAX + MAX_BODY_BYTES, "it keeps more than it has to"
    except WireError as error:
        return got, f"an error: {error}"
    return got, ""


@given(st.lists(almost_messages, max_size=6).map(b"".join), st.lists(st.integers(0, 300)))
def test_whatever_comes_is_messages_or_a_wire_error_however_it_is_cut(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(stream)]
    whole, error = read([stream])
    assert read([stream[start:end] for start, end in pairwise(edges)]) == (whole, error)
    for message in whole:
        assert read([encode(message)]) == ([message], ""), "what was read can be said again"


def test_unknown_type_is_skipped() -> None:
    decoder = Decoder()
    decoder.feed(encode_varint(0x3333) + b"\x03abc" + encode(GoAway(4)))
    assert list(decoder) == [GoAway(4)]


def test_bytes_behind_the_first_message_are_handed_on() -> None:
    decoder = Decoder()
    decoder.feed(encode(Reply(0, None)) + b"early bytes")
    assert decoder.take_one() == Reply(0, None)
    assert decoder.rest() == b"early bytes"
    assert decoder.rest() == b""


@pytest.mark.parametrize(
    "wire",
    [
        "05 02 0c 00",  # one byte too many
        "05 00",  # no number at all
        "03 05 04 02 43e8 00",  # no such direction
        "03 05 04 01 43e8 09",  # no such outcome
        "10 09 02 01 04 c0000201 0050",  # no such kind
        "10 09 01 07 04 c0000201 0050",  # no such address type
        "10 05 01 03 00 0050",  # a name without a character
        "10 05 01 00 00 0050",  # an OPEN to nowhere
        "11 05 00 00 00 0050",  # a port of no address
        "06 01 00",  # a PING too short
    ],
)
def test_malformed_message(wire: str) -> None:
    decoder = Decoder()
    decoder.feed(bytes.fromhex(wire))
    with pytest.raises(WireError):
        list(decoder)


def test_oversized_body_is_refused_before_it_arrives() -> None:
    decoder = Decoder()
    decoder.feed(encode_varint(1) + encode_varint(MAX_BODY_BYTES + 1))
    with pytest.raises(WireError):
        list(decoder)


@given(numbers)
def test_varint_round_trip(value: int) -> None:
    data = encode_varint(value)
    assert decode_varint(data, 0) == (value, len(data))
    assert decode_varint(data[:-1], 0) is None


def test_varint_bounds() -> None:
    assert [len(encode_varint(v)) for v in (63, 64, 16383, 16384, 2**30 - 1, 2**30)] == [1, 2, 2, 4, 4, 8]
    for value in (-1, MAX_VARINT + 1):
        with pytest.raises(ValueError, match="62"):
            encode_varint(value)
