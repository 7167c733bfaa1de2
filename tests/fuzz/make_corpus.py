"""Writes corpus/: a few small inputs for each target, of what real peers say. `python -m tests.fuzz.make_corpus`

What once was a finding stands in corpus/ too, under a name that says what it was; this script leaves it alone.
"""

from collections.abc import Callable
from pathlib import Path

from tests.fuzz.server import ACTS, Exchange

from tunnel.target import Target
from tunnel.wire.codec import encode
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

FOLDER = Path(__file__).parent / "corpus"

CONTROL: list[Message] = [
    Hello(1, 0, b"secret"),
    Welcome(bytes(range(8)), bytes(range(16)), 256, 0),
    Done(4, Direction.TARGET_TO_CLIENT, 1000, Outcome.EOF),
    End(8, 70000),
    Taken(4, 65536),
    GoAway(12),
    Ping(b"12345678"),
    Pong(b"12345678"),
]
NAME, V4, V6 = Target.of("example.test", 443), Target.of("192.0.2.1", 80), Target.of("2001:db8::1", 80)

NO_AUTH, USER_AUTH, ALICE = b"\x05\x01\x00", b"\x05\x02\x00\x02", b"\x01\x05alice\x06secret"
CONNECT_V4 = bytes.fromhex("05010001 7f000001 1f90")
CONNECT_V6 = bytes.fromhex("05010004 20010db8000000000000000000000001 01bb")
CONNECT_NAME = b"\x05\x01\x00\x03\x0bhttp-target\x1f\x90"
BIND_V4 = bytes.fromhex("05020001 7f000001 1f90")


def act(what: Callable[[Exchange], None], *parts: bytes) -> bytes:
    return bytes((ACTS.index(what),)) + b"".join(parts)


def counted(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


NEXT, ANSWER, TALK = act(Exchange.next_one), act(Exchange.answer), act(Exchange.exchange)
STREAM_4 = bytes.fromhex("0f04 18 05") + b"bytes"  # STREAM with an offset, a length and a FIN
RESET_8, STOP_4 = bytes.fromhex("040806 18"), bytes.fromhex("0504 06")
CRYPTO = bytes.fromhex("060004 01000000")
CLOSE = bytes.fromhex("1c0000 03") + b"bye"
NEW_ID = bytes.fromhex("180200 08 0102030405060708") + bytes(16)
BEND_TWO = bytes.fromhex("02 0000 04 0014 ff")
LONG_HEADER = bytes.fromhex("c0 00000001 08") + b"any id, " + bytes.fromhex("08") + b"stranger"
OTHER_VERSION = bytes.fromhex("c0 1a2a3a4a 08") + b"any id, " + bytes.fromhex("08") + b"stranger"

DATAGRAMS = {
    "handshake": NEXT + ANSWER + NEXT + NEXT + ANSWER + NEXT + ANSWER,
    "talk_then_silence": TALK + act(Exchange.time_passes, b"\xff") + TALK,
    "bent_handshake": act(Exchange.next_one_bent, BEND_TWO) + ANSWER + TALK,
    "cut_handshake": NEXT + ANSWER + act(Exchange.next_one_bent, bytes.fromhex("01 0040 00")) + TALK,
    "replayed": TALK + act(Exchange.again, b"\0\1\0") + act(Exchange.again, b"\2\1", BEND_TWO) + ANSWER + TALK,
    "noise": act(Exchange.noise, b"\0\7", counted(b"nothing that anybody would say")),
    "long_header": act(Exchange.padded_noise, counted(LONG_HEADER)),
    "other_version": act(Exchange.padded_noise, counted(OTHER_VERSION)),
    "short_header": TALK + act(Exchange.short_header, counted(bytes(range(40)))) + TALK,
    "initials": b"".join(act(Exchange.initial, bytes((n,)) * 8, b"\0", counted(CRYPTO)) for n in range(8)) + TALK,
    "initial_token": act(Exchange.initial, b"8 octets", b"\5token", counted(CRYPTO)) + TALK,
    "initial_close": act(Exchange.initial, b"8 octets", b"\0", counted(b"\1" + CLOSE)) + TALK,
    "stream": TALK + act(Exchange.frames, counted(STREAM_4)) + TALK,
    "reset_and_stop": TALK + act(Exchange.frames, counted(STREAM_4 + RESET_8 + STOP_4)) + TALK,
    "ids": TALK + act(Exchange.frames, counted(NEW_ID + b"\x19\0" + b"\x1apathpath")) + TALK,
    "limits": TALK + act(Exchange.frames, counted(b"\x10\x44\0\x11\0\x44\0\x12\x10\x14\x20\x15\0\x20\x16\x10")) + TALK,
}

INPUTS = {
    "codec": {
        **{type(one).__name__.lower(): b"\x01" + encode(one) for one in CONTROL},
        "control": b"\x02" + b"".join(map(encode, CONTROL)),
        "open_name": b"\x00" + encode(Open(Kind.CONNECT, NAME)) + b"GET / HTTP/1.1\r\n",
        "open_addresses": b"\x03" + encode(Open(Kind.CONNECT, V4)) + encode(Open(Kind.CONNECT, V6)),
        "reply": b"\x04" + encode(Reply(0, V4)) + encode(Reply(6, None)),
        "unknown_type": b"\x05\x73\x33\x03abc" + encode(GoAway(4)),
        "oversized": b"\x06\x01\x44\x01",
    },
    "socks": {
        "name": b"\x00" + NO_AUTH + CONNECT_NAME + b"GET / HTTP/1.1\r\n",
        "ipv4": b"\x02" + NO_AUTH + CONNECT_V4,
        "ipv6_with_user": b"\x05" + USER_AUTH + ALICE + CONNECT_V6 + b"early",
        "wrong_password": b"\x03" + USER_AUTH + ALICE[:-1] + b"!" + CONNECT_V4,
        "user_not_offered": b"\x03" + NO_AUTH + CONNECT_V4,
        "address_as_name": b"\x06" + NO_AUTH + b"\x05\x01\x00\x03\x09127.0.0.1\x00\x50",
        "bind": b"\x08" + NO_AUTH + BIND_V4,
        "truncated": b"\x02" + NO_AUTH + CONNECT_NAME[:9],
        "socks4": b"\x00\x04\x01\x00\x50\x7f\x00\x00\x01me\x00",
        "http": b"\x00GET http://example.test/ HTTP/1.1\r\n\r\n",
        "tls": b"\x00\x16\x03\x01\x02\x00\x01",
    },
    "aioquic": DATAGRAMS,
    "quinn": DATAGRAMS,
}


def main() -> None:
    for target, inputs in INPUTS.items():
        folder = FOLDER / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
