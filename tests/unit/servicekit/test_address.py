"""servicekit.address: text and value convert without loss, and what is refused is refused in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from servicekit.address import Address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:1080", Address("127.0.0.1", 1080)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        ("[fe80::1%eth0]:1", Address("fe80::1%eth0", 1)),
        ("http-target:8080", Address("http-target", 8080)),
        ("a_b.Example:1", Address("a_b.Example", 1)),
    ],
)
def test_round_trip(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text
    assert TypeAdapter(Address).validate_python(text) == address
    assert TypeAdapter(Address).validate_python(address) is address
    assert TypeAdapter(Address).dump_json(address) == b'"' + text.encode() + b'"'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("127.0.0.1:99999", "port must be 0 to 65535"),
        ("127.0.0.1:-1", "port must be 0 to 65535"),
        ("127.0.0.1:", "port must be 0 to 65535"),
        ("127.0.0.1:8O", "port must be 0 to 65535"),
        ("127.0.0.1:\N{ARABIC-INDIC DIGIT ONE}", "port must be 0 to 65535"),
        ("127.0.0.1:" + "1" * 10_000, "port must be 0 to 65535"),
        ("8080", "must be HOST:PORT"),
        ("", "must be HOST:PORT"),
        (":8080", "host is missing"),
        ("::1:8080", "an IPv6 address goes in brackets"),
        ("[]:8080", '"" is not an IPv6 address'),
        ("[127.0.0.1]:8080", '"127.0.0.1" is not an IPv6 address'),
        ("[::g]:8080", '"::g" is not an IPv6 address'),
        ("a b:1", "host must be an address or a name"),
        ("*:1", "host must be an address or a name"),
        ("a" * 254 + ":1", "host must be an address or a name"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        Address.parse(text)
    assert reason in str(refusal.value)
    with pytest.raises(ValidationError):
        TypeAdapter(Address).validate_python(text)


def test_refused_unless_text() -> None:
    with pytest.raises(ValidationError, match="must be HOST:PORT"):
        TypeAdapter(Address).validate_python(8080)


def test_of_socket() -> None:
    assert Address.of_socket(("::1", 1, 0, 0)) == Address("::1", 1)
    assert Address.of_socket(("127.0.0.1", 1)) == Address("127.0.0.1", 1)


hosts = st.one_of(
    st.ip_addresses().map(str),
    st.ip_addresses(v=6).map(lambda address: f"{address}%eth0"),
    st.from_regex(r"[A-Za-z0-9._-]{1,253}", fullmatch=True),
)
almost = st.tuples(st.sampled_from(["", "[", " "]), hosts, st.sampled_from(["", "]", ":"]), st.integers(-1, 10**6)).map(
    lambda parts: f"{parts[0]}{parts[1]}{parts[2]}:{parts[3]}"
)


@given(hosts, st.integers(0, 65535))
def test_every_address_is_read_as_it_was_written(host: str, port: int) -> None:
    assert Address.parse(str(Address(host, port))) == Address(host, port)


@given(st.text(max_size=40) | almost)
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert Address.parse(str(address)) == address
