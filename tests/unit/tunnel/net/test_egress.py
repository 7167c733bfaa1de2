"""tunnel.net.egress: what is public, what hides in what, and what is this machine's own."""

import socket
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.net.egress import EgressPolicy

DEFAULT = EgressPolicy()

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.0",
    "172.32.0.1",
    "2606:4700::1111",
    "2a00::1",
    "2001:200::1",
]
NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255"),
    *("169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1"),
    *("192.168.1.1", "198.18.0.1", "198.51.100.7", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
    "255.255.255.255",
    *("::", "::1", "::7f00:1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
    *("100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "4000::1", "64:ff9b:1::1"),
]


@pytest.mark.failure("F27")
@pytest.mark.parametrize("host", PUBLIC)
def test_f27_public_addresses_are_allowed(host: str) -> None:
    assert DEFAULT.allows(host)


@pytest.mark.failure("F27")
@pytest.mark.parametrize("host", NOT_PUBLIC)
def test_f27_everything_else_is_denied(host: str) -> None:
    assert not DEFAULT.allows(host)


@pytest.mark.failure("F27")
@pytest.mark.parametrize("form", ["::ffff:{}", "64:ff9b::{}"])
@pytest.mark.parametrize(("host", "allowed"), [("127.0.0.1", False), ("169.254.169.254", False), ("8.8.8.8", True)])
def test_f27_an_address_inside_an_address_is_judged_as_itself(form: str, host: str, allowed: bool) -> None:
    assert DEFAULT.allows(form.format(host)) is allowed
    assert EgressPolicy(allow=(ip_network(f"{host}/32"),)).allows(form.format(host))


@pytest.mark.failure("F27")
def test_f27_allowing_all_of_ipv6_allows_no_ipv4_in_disguise() -> None:
    policy = EgressPolicy.parse(["::/0"])
    assert policy.allows("fd00::1")
    assert not policy.allows("::ffff:10.0.0.1")


@pytest.mark.parametrize("host", ["", "localhost", "127.1", "0x7f000001", "::1/128", "[::1]", "127.0.0.1\n"])
def test_what_is_no_address_is_denied(host: str) -> None:
    assert not EgressPolicy.parse(["0.0.0.0/0", "::/0", "own"]).allows(host)


def test_networks_are_allowed_one_by_one() -> None:
    policy = EgressPolicy.parse(["10.1.0.0/16", "fd00::/64", "192.168.7.7"])
    for host in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::5", "192.168.7.7", "8.8.8.8"):
        assert policy.allows(host)
    for host in ("10.2.0.1", "fd00:0:0:1::5", "192.168.7.8", "127.0.0.1"):
        assert not policy.allows(host)


def test_own_addresses() -> None:
    own = EgressPolicy.parse(["own"])
    for host in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", *addresses_of_this_machine()):
        assert own.allows(host)
        assert not DEFAULT.allows(host) or not host.startswith("127.")
    for host in ("10.255.254.253", "169.254.169.254", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "fd12:3456::1"):
        if host not in addresses_of_this_machine():
            assert not own.allows(host)


def addresses_of_this_machine() -> set[str]:
    try:
        infos = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    candidates = {str(info[4][0]) for info in infos}
    return {host for host in candidates if "%" not in host and can_bind(host)}


def can_bind(host: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((host, 0))
        except OSError:
            return False
    return True


@pytest.mark.parametrize(
    ("item", "words"),
    [("10.0.0.1/8", "host bits"), ("lan", "neither a network"), ("", "neither"), ("10.0.0.0/33", "/33")],
)
def test_errors_name_the_item(item: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        EgressPolicy.parse(["127.0.0.0/8", item])
    assert repr(item) in str(caught.value)


@given(st.ip_addresses(v=4))
def test_disguises_change_nothing(address: object) -> None:
    assert DEFAULT.allows(f"::ffff:{address}") == DEFAULT.allows(f"64:ff9b::{address}") == DEFAULT.allows(str(address))


@given(st.lists(st.text(max_size=20) | st.ip_addresses(network="fc00::/7").map(str) | st.just("own"), max_size=3))
def test_any_items_are_a_policy_or_a_value_error(items: list[str]) -> None:
    try:
        policy = EgressPolicy.parse(items)
    except ValueError:
        return
    assert len(policy.allow) + policy.allow_own <= len(items)


@given(st.text(max_size=30) | st.ip_addresses(v=6).map("{}%eth0".format))
def test_any_text_is_asked_about_and_only_public_addresses_are_allowed(host: str) -> None:
    """Nothing raises; and what Python says of an address in all its versions agrees."""
    if DEFAULT.allows(host):
        address = ip_address(host.partition("%")[0])
        inside = [address.is_loopback, address.is_link_local, address.is_multicast, address.is_unspecified]
        assert not any(inside)
