"""The client's side of SOCKS5, in golden bytes."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.transaction import socks5
from loadgen.transaction.outcomes import Failed, Outcome
from loadgen.transaction.socks5 import Credentials
from servicekit.address import Address


def test_greeting_and_login() -> None:
    me = Credentials("me", "sécret")
    assert socks5.greeting(None) == b"\x05\x01\x00"
    assert socks5.greeting(me) == b"\x05\x01\x02"
    assert socks5.login(me) == b"\x01\x02me\x07s\xc3\xa9cret"


@pytest.mark.parametrize(
    ("destination", "packed"),
    [
        (Address("192.0.2.7", 80), b"\x01\xc0\x00\x02\x07\x00\x50"),
        (Address("2001:db8::1", 443), b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x01\xbb"),
        (Address("http-target", 8080), b"\x03\x0bhttp-target\x1f\x90"),
    ],
)
def test_connect(destination: Address, packed: bytes) -> None:
    assert socks5.connect_request(destination) == b"\x05\x01\x00" + packed


@pytest.mark.parametrize(
    "reply",
    [
        b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50",
        b"\x05\x00\x00\x03\x04name\x00\x50",
        b"\x05\x00\x00\x04" + bytes(16) + b"\x00\x50",
    ],
)
def test_the_length_of_a_reply_is_known_from_its_fifth_byte(reply: bytes) -> None:
    for arrived in range(len(reply)):
        assert socks5.connect_reply_length(reply[:arrived]) == (None if arrived < 5 else len(reply))
    socks5.check_connect(reply)


@pytest.mark.parametrize(
    ("reply", "words"),
    [(b"\x05\x05", "connection refused"), (b"\x05\x02", "not allowed"), (b"\x05\x2a", "not of RFC 1928")],
)
def test_a_refusal_in_words(reply: bytes, words: str) -> None:
    with pytest.raises(Failed, match=words) as failed:
        socks5.check_connect(reply)
    assert failed.value.outcome is Outcome.SOCKS_REJECTED


@pytest.mark.parametrize("arrived", [b"\x04", b"HTTP/1.1", b"\x05\x00\x00\x02\x00"])
def test_what_is_no_reply(arrived: bytes) -> None:
    with pytest.raises(Failed) as failed:
        socks5.connect_reply_length(arrived)
    assert failed.value.outcome is Outcome.CORRUPT


@pytest.mark.parametrize(("name", "password"), [("", "x"), ("x", ""), ("x" * 256, "x")])
def test_credentials_fit_rfc_1929(name: str, password: str) -> None:
    with pytest.raises(ValueError, match="1 to 255 bytes"):
        Credentials(name, password)


names = st.from_regex(r"[A-Za-z0-9._-]{1,253}", fullmatch=True)
hosts = st.one_of(names, st.ip_addresses().map(str))


@given(st.builds(Address, hosts, st.integers(0, 65535)))
def test_every_destination_has_a_request(destination: Address) -> None:
    request = socks5.connect_request(destination)
    assert request.startswith(b"\x05\x01\x00")
    assert request.endswith(destination.port.to_bytes(2, "big"))
    reply = b"\x05\x00\x00" + request[3:]  # A reply that is bound there has the same shape.
    assert socks5.connect_reply_length(reply) == len(reply)


@given(st.binary(max_size=300))
def test_any_reply_has_a_length_or_is_none_however_much_of_it_is_there(arrived: bytes) -> None:
    """Once its length is known it does not change, and what is refused stays so."""

    def length(much: int) -> int | str | None:
        try:
            return socks5.connect_reply_length(arrived[:much])
        except Failed as failed:
            return str(failed)

    known = [found for much in range(len(arrived) + 1) if (found := length(much)) is not None]
    assert len(set(known)) <= 1


@given(st.binary(min_size=2, max_size=2), st.booleans())
def test_any_answer_to_the_greeting_is_taken_or_refused(reply: bytes, with_name: bool) -> None:
    me = Credentials("me", "secret") if with_name else None
    with suppress(Failed):
        socks5.check_login(reply)
    with suppress(Failed):
        socks5.check_method(reply, me)
    if reply == socks5.greeting(me)[::2]:
        socks5.check_method(reply, me)
