"""tunnel.socks5: golden bytes, every way to split and to truncate them, and whatever else a client may send."""

import hmac
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.errors import Cause, Reply
from tunnel.socks5 import EARLY_BYTES_MAX, HANDSHAKE_BYTES_MAX, Close, Event, Handshake, Request, State, Write, reply
from tunnel.socks5.handshake import TRANSITIONS
from tunnel.target import AddressKind, Target

NO_AUTH = bytes.fromhex("050100")
USER_AUTH = bytes.fromhex("05020002")
ALICE = b"\x01\x05alice\x06secret"
CONNECT_V4 = bytes.fromhex("05010001 7f000001 1f90")
CONNECT_V6 = bytes.fromhex("05010004 20010db8000000000000000000000001 01bb")
CONNECT_NAME = b"\x05\x01\x00\x03\x0bhttp-target\x1f\x90"
V4 = Target(AddressKind.IPV4, "127.0.0.1", 8080)
V6 = Target(AddressKind.IPV6, "2001:db8::1", 443)
NAME = Target(AddressKind.NAME, "http-target", 8080)


def is_alice(user: bytes, password: bytes) -> bool:
    return hmac.compare_digest(user, b"alice") & hmac.compare_digest(password, b"secret")


def machine(users: bool = False) -> Handshake:
    return Handshake(is_alice if users else None)


def said(events: list[Event]) -> tuple[bytes, Cause | None]:
    """What went out, and why the connection closes, if it does."""
    written = b"".join(event.data for event in events if isinstance(event, Write))
    causes = [event.cause for event in events if isinstance(event, Close)]
    assert len(causes) <= 1
    assert not causes or isinstance(events[-1], Close), "nothing follows a Close"
    return written, causes[0] if causes else None


def refusal(reply_number: Reply) -> bytes:
    return bytes((5, reply_number, 0, 1)) + bytes(6)


def request_for(name: bytes, port: int = 80) -> bytes:
    return NO_AUTH + b"\x05\x01\x00\x03" + bytes((len(name),)) + name + port.to_bytes(2, "big")


# What goes well.


@pytest.mark.parametrize(("request_bytes", "target"), [(CONNECT_V4, V4), (CONNECT_V6, V6), (CONNECT_NAME, NAME)])
def test_connect_without_authentication(request_bytes: bytes, target: Target) -> None:
    handshake = machine()
    assert handshake.receive(NO_AUTH) == [Write(b"\x05\x00")]
    assert handshake.receive(request_bytes) == [Request(target, None)]
    assert handshake.reply(Cause.NONE, V4) == bytes.fromhex("05000001 7f000001 1f90")
    assert handshake.state is State.ESTABLISHED


def test_connect_with_user_and_password() -> None:
    handshake = machine(users=True)
    assert handshake.receive(USER_AUTH) == [Write(b"\x05\x02")]
    assert handshake.receive(ALICE) == [Write(b"\x01\x00")]
    assert handshake.receive(CONNECT_NAME) == [Request(NAME, "alice")]


def test_one_byte_at_a_time_every_answer_is_one_write() -> None:
    handshake = machine(users=True)
    events = [event for byte in USER_AUTH + ALICE + CONNECT_V6 for event in handshake.receive(bytes((byte,)))]
    assert events == [Write(b"\x05\x02"), Write(b"\x01\x00"), Request(V6, "alice")]


def test_a_reserved_octet_is_not_looked_at() -> None:
    handshake = machine()
    assert handshake.receive(NO_AUTH + b"\x05\x01\xff" + CONNECT_V4[3:])[-1] == Request(V4, None)


def test_an_address_sent_as_a_name_needs_no_resolver() -> None:
    assert machine().receive(request_for(b"127.0.0.1", 8080))[-1] == Request(V4, None)
    assert machine().receive(request_for(b"2001:db8::1", 443))[-1] == Request(V6, None)


@pytest.mark.parametrize(
    ("cause", "bound", "expected"),
    [
        (Cause.NONE, None, "05000001 00000000 0000"),
        (Cause.NONE, V6, "05000004 20010db8000000000000000000000001 01bb"),
        (Cause.NONE, Target(AddressKind.NAME, "a", 1), "05000003 01 61 0001"),
        (Cause.CONNECTION_REFUSED, None, "05050001 00000000 0000"),
        (Cause.HOST_UNREACHABLE, None, "05040001 00000000 0000"),
        (Cause.NETWORK_UNREACHABLE, None, "05030001 00000000 0000"),
        (Cause.POLICY_DENIED, None, "05020001 00000000 0000"),
        (Cause.TUNNEL_DOWN, None, "05010001 00000000 0000"),
    ],
)
def test_replies(cause: Cause, bound: Target | None, expected: str) -> None:
    assert reply(cause, bound) == bytes.fromhex(expected)


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.NONE])
def test_every_failure_closes(cause: Cause) -> None:
    handshake = machine()
    handshake.receive(NO_AUTH + CONNECT_V4)
    assert handshake.reply(cause) == refusal(cause.reply)
    assert handshake.state is State.CLOSED
    assert handshake.receive(b"more") == []


# Bytes behind the request.


@pytest.mark.failure("F22")
@pytest.mark.parametrize("cut", range(len(NO_AUTH + CONNECT_NAME) + 5))
def test_f22_bytes_behind_the_request_are_handed_on(cut: int) -> None:
    stream = NO_AUTH + CONNECT_NAME + b"GET /"
    handshake = machine()
    events = handshake.receive(stream[:cut]) + handshake.receive(stream[cut:])
    assert events == [Write(b"\x05\x00"), Request(NAME, None)]
    assert handshake.take_early() == b"GET /"
    assert handshake.take_early() == b""
    handshake.receive(b" HTTP/1.1")
    handshake.reply(Cause.NONE)
    assert handshake.take_early() == b" HTTP/1.1"


def test_early_bytes_stop_at_the_cap() -> None:
    handshake = machine()
    handshake.receive(NO_AUTH + CONNECT_V4)
    sent = 0
    while handshake.wanted:
        portion = min(handshake.wanted, 1000)
        handshake.receive(bytes(portion))
        sent += portion
        if sent == 5000:
            assert len(handshake.take_early()) == 5000
    assert sent == EARLY_BYTES_MAX
    assert len(handshake.take_early()) == EARLY_BYTES_MAX - 5000
    assert handshake.wanted == 0, "taking them early makes no room for more"
    handshake.reply(Cause.NONE)
    assert handshake.wanted == 0


def test_end_of_stream_behind_the_request_is_a_half_close() -> None:
    handshake = machine()
    handshake.receive(NO_AUTH + CONNECT_V4)
    assert handshake.receive_eof() == []
    assert handshake.timed_out() == []
    assert handshake.reply(Cause.NONE)[1] == Reply.SUCCEEDED


# What goes wrong.


@pytest.mark.parametrize(
    ("data", "words", "answer"),
    [
        (b"\x04\x01\x1f\x90\x7f\x00\x00\x01\x00", "SOCKS version 4", b"\x00\x5b" + bytes(6)),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP", b""),
        (b"CONNECT a:1 HTTP/1.1\r\n", "HTTP", b""),
        (b"\x16\x03\x01", "TLS", b""),
        (b"\x00", "first octet is 0", b""),
    ],
)
def test_a_stranger_is_told_from_its_first_octet(data: bytes, words: str, answer: bytes) -> None:
    for portion in (data, data[:1]):
        events = machine().receive(portion)
        assert said(events) == (answer, Cause.SOCKS_VERSION)
        assert isinstance(events[-1], Close)
        assert words in events[-1].detail


@pytest.mark.parametrize(
    ("users", "greeting"),
    [(False, "050102"), (True, "050100"), (False, "0500"), (True, "0500"), (False, "05020102"), (True, "0503000180")],
)
def test_no_acceptable_method(users: bool, greeting: str) -> None:
    assert said(machine(users).receive(bytes.fromhex(greeting))) == (b"\x05\xff", Cause.NO_ACCEPTABLE_METHOD)


@pytest.mark.parametrize(
    "credentials", [b"\x01\x05alice\x05wrong", b"\x01\x03bob\x06secret", b"\x01\x00\x00", b"\x01\x05alice\x00"]
)
def test_wrong_credentials(credentials: bytes) -> None:
    handshake = machine(users=True)
    handshake.receive(USER_AUTH)
    assert said(handshake.receive(credentials)) == (b"\x01\x01", Cause.BAD_CREDENTIALS)


@pytest.mark.parametrize("credentials", [b"\x01\x05alice\x08hunter22", b"\x05\x05alice\x08hunter22"])
def test_no_password_is_quoted_or_kept(credentials: bytes) -> None:
    handshake = machine(users=True)
    shown = repr(handshake.receive(USER_AUTH + credentials)) + repr(
        [getattr(handshake, name) for name in Handshake.__slots__]
    )
    assert "hunter22" not in shown


def test_wrong_version_of_the_credentials_message() -> None:
    assert said(machine(users=True).receive(USER_AUTH + b"\x05")) == (b"\x05\x02\x01\x01", Cause.BAD_REQUEST)


@pytest.mark.parametrize(
    ("request_bytes", "cause", "answer"),
    [
        (b"\x05\x02" + CONNECT_V4[2:], Cause.COMMAND_NOT_SUPPORTED, Reply.COMMAND_NOT_SUPPORTED),
        (b"\x05\x03" + CONNECT_NAME[2:], Cause.COMMAND_NOT_SUPPORTED, Reply.COMMAND_NOT_SUPPORTED),
        (b"\x05\x02\x00\x07", Cause.COMMAND_NOT_SUPPORTED, Reply.COMMAND_NOT_SUPPORTED),
        (b"\x05\x01\x00\x02", Cause.ADDRESS_TYPE_NOT_SUPPORTED, Reply.ADDRESS_TYPE_NOT_SUPPORTED),
        (b"\x04", Cause.BAD_REQUEST, Reply.GENERAL_FAILURE),
        (b"\x05\x01\x00\x03\x00\x00\x50", Cause.BAD_REQUEST, Reply.GENERAL_FAILURE),
        (CONNECT_V4[:-2] + b"\x00\x00", Cause.BAD_REQUEST, Reply.GENERAL_FAILURE),
        (CONNECT_NAME[:-2] + b"\x00\x00", Cause.BAD_REQUEST, Reply.GENERAL_FAILURE),
    ],
)
def test_bad_requests(request_bytes: bytes, cause: Cause, answer: Reply) -> None:
    handshake = machine()
    handshake.receive(NO_AUTH)
    assert said(handshake.receive(request_bytes)) == (refusal(answer), cause)


@pytest.mark.parametrize(
    "name", [b"a\0b", b"\0", b"a b", b"b\xfccher", "bücher".encode(), b"a\r\nX: y", b"[::1]", b"fe80::1%eth0", b"a:b"]
)
def test_bad_names(name: bytes) -> None:
    written, cause = said(machine().receive(request_for(name)))
    assert (written, cause) == (b"\x05\x00" + refusal(Reply.GENERAL_FAILURE), Cause.BAD_REQUEST)


@pytest.mark.parametrize("ends", ["eof", "timeout"])
@pytest.mark.parametrize("cut", range(len(USER_AUTH + ALICE + CONNECT_NAME)))
def test_broken_off_at_every_byte(cut: int, ends: str) -> None:
    handshake = machine(users=True)
    handshake.receive((USER_AUTH + ALICE + CONNECT_NAME)[:cut])
    state = handshake.state
    events = handshake.receive_eof() if ends == "eof" else handshake.timed_out()
    farewell = {
        State.GREETING: b"",
        State.CREDENTIALS: b"\x01\x01",
        State.REQUEST: refusal(Reply.GENERAL_FAILURE),
    }[state]
    assert said(events) == (farewell, Cause.SOCKS_TRUNCATED if ends == "eof" else Cause.SOCKS_TIMEOUT)
    assert handshake.state is State.CLOSED
    assert handshake.receive_eof() == handshake.timed_out() == handshake.receive(b"\x05") == []


def test_the_longest_handshake_there_is() -> None:
    everything = Handshake(lambda user, password: True)
    longest = (
        b"\x05\xff" + bytes(254) + b"\x02" + b"\x01\xff" + b"u" * 255 + b"\xff" + b"p" * 255
        + b"\x05\x01\x00\x03\xff" + b"n" * 255 + b"\x00\x50"
    )  # fmt: skip
    assert len(longest) == HANDSHAKE_BYTES_MAX
    assert everything.receive(longest)[-1] == Request(Target(AddressKind.NAME, "n" * 255, 80), "u" * 255)


# The owner's mistakes raise; the client's never do.


def test_a_reply_without_a_request_is_a_mistake_of_the_owner() -> None:
    handshake = machine()
    for cause in (Cause.NONE, Cause.TUNNEL_DOWN):
        with pytest.raises(RuntimeError):
            handshake.reply(cause)
    handshake.receive(NO_AUTH + CONNECT_V4)
    handshake.reply(Cause.NONE)
    with pytest.raises(RuntimeError):
        handshake.reply(Cause.NONE)


def test_every_state_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(State)


GOOD = st.sampled_from([NO_AUTH, USER_AUTH, ALICE, CONNECT_V4, CONNECT_V6, CONNECT_NAME, b"\x05", b"\x05\x01\x00\x03"])
STREAMS = st.lists(st.one_of(GOOD, st.binary(max_size=40)), max_size=6).map(b"".join)


def run(users: bool, portions: list[bytes]) -> tuple[list[Event], State, bytes]:
    handshake = machine(users)
    events = [event for portion in portions for event in handshake.receive(portion)]
    return events, handshake.state, handshake.take_early()


@given(st.booleans(), STREAMS, st.lists(st.integers(0, 300)))
def test_the_result_does_not_depend_on_the_split(users: bool, stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(stream)]
    portions = [stream[start:end] for start, end in pairwise(edges)]
    assert run(users, [*portions]) == run(users, [stream])


@given(st.booleans(), STREAMS)
def test_whatever_a_client_sends_there_is_an_answer(users: bool, stream: bytes) -> None:
    handshake = machine(users)
    events = handshake.receive(stream)
    if handshake.state is State.DECIDING:
        assert isinstance(events[-1], Request)
        assert handshake.reply(Cause.CONNECTION_REFUSED) == refusal(Reply.CONNECTION_REFUSED)
    else:
        events += handshake.timed_out()
        assert isinstance(events[-1], Close)
    assert handshake.state is State.CLOSED
    assert handshake.wanted == 0
