"""tunnel.target: the constructor is the gate, and bytes and text convert without loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.target import AddressKind, Target


@pytest.mark.parametrize(
    ("target", "packed", "text"),
    [
        (Target(AddressKind.IPV4, "192.0.2.1", 80), b"\xc0\x00\x02\x01", "192.0.2.1:80"),
        (
            Target(AddressKind.IPV6, "2001:DB8:0:0::1", 443),
            bytes.fromhex("20010db8" + "0" * 23 + "1"),
            "[2001:db8::1]:443",
        ),
        (
            Target(AddressKind.IPV6, "::ffff:10.0.0.1", 1),
            bytes(10) + b"\xff\xff\x0a\x00\x00\x01",
            "[::ffff:a00:1]:1",
        ),
        (Target(AddressKind.NAME, "http-target", 8080), b"http-target", "http-target:8080"),
        (Target(AddressKind.NAME, "a_b.Example.", 0), b"a_b.Example.", "a_b.Example.:0"),
    ],
)
def test_golden(target: Target, packed: bytes, text: str) -> None:
    assert target.packed() == packed
    assert str(target) == text
    assert Target.unpacked(target.kind, packed, target.port) == target


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("10.0.0.1", AddressKind.IPV4),
        ("::1", AddressKind.IPV6),
        ("localhost", AddressKind.NAME),
        ("10.1", AddressKind.NAME),
    ],
)
def test_of_tells_addresses_from_names(host: str, kind: AddressKind) -> None:
    assert Target.of(host, 1).kind is kind


@pytest.mark.parametrize("host", ["", "a\0b", "a b", "a:b", "bücher", "a\n", "x" * 256, "[::1]", "a/b", "user@host"])
def test_a_bad_name_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Target(AddressKind.NAME, host, 1)


@pytest.mark.parametrize(
    ("kind", "packed"),
    [(1, b"abc"), (1, bytes(16)), (4, bytes(4)), (4, b""), (3, b""), (3, b"\xff"), (2, b"a"), (0, b"a")],
)
def test_bad_bytes_are_refused(kind: int, packed: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- the reason comes from ipaddress or enum here
        Target.unpacked(kind, packed, 1)


def test_a_zone_and_a_bad_port_are_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        Target(AddressKind.IPV6, "fe80::1%eth0", 1)
    for port in (-1, 65536):
        with pytest.raises(ValueError, match="port"):
            Target(AddressKind.IPV4, "1.2.3.4", port)


@given(st.sampled_from(list(AddressKind)), st.binary(max_size=300), st.integers(0, 65535))
def test_whatever_unpacks_packs_to_the_same_bytes(kind: AddressKind, packed: bytes, port: int) -> None:
    try:
        target = Target.unpacked(kind, packed, port)
    except ValueError:
        return
    assert target.packed() == packed
    assert Target(target.kind, target.host, target.port) == target
