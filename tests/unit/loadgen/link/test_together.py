"""Many datagrams with one call, over real sockets on loopback."""

import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadgen.link.line import BUNDLE_SEGMENTS
from loadgen.link.together import Received, Together, possible
from loadgen.link.udp import UdpSocket

pytestmark = pytest.mark.skipif(not possible(), reason="needs 64-bit Linux")

FAMILIES = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


@pytest.fixture(scope="module")
def together() -> Together:
    """One for all: what one call leaves in its memory must not be seen by the next."""
    return Together()


@pytest.fixture
def pair() -> Iterator[tuple[UdpSocket, UdpSocket]]:
    yield from connected(socket.AF_INET)


def connected(family: socket.AddressFamily) -> Iterator[tuple[UdpSocket, UdpSocket]]:
    """A socket connected to another one."""
    sender, receiver = UdpSocket(family), UdpSocket(family)
    try:
        receiver.raw.bind((FAMILIES[family], 0))
        sender.raw.connect(receiver.raw.getsockname())
        yield sender, receiver
    finally:
        sender.close()
        receiver.close()


def segments_of(received: list[Received]) -> list[bytes]:
    return [
        data[start : start + segment_bytes]
        for data, segment_bytes, _ in received
        for start in range(0, len(data), max(segment_bytes, 1))
    ]


def test_equal_datagrams_come_as_one_buffer_and_a_shorter_one_ends_it(
    pair: tuple[UdpSocket, UdpSocket], together: Together
) -> None:
    sender, receiver = pair
    for data in (b"123", b"456", b"7"):
        sender.raw.send(data)

    assert together.receive(receiver.raw, 3) == ([(b"1234567", 3, sender.raw.getsockname())], False)
    assert together.receive(receiver.raw, 3) == ([], False)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sender_is_who_the_socket_module_says(family: socket.AddressFamily, together: Together) -> None:
    if family == socket.AF_INET6 and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    for sender, receiver in connected(family):
        sender.raw.send(b"one")
        _, address = receiver.raw.recvfrom(10)
        sender.raw.send(b"two")

        assert together.receive(receiver.raw, 3)[0] == [(b"two", 3, address)]


def test_datagrams_of_several_senders_stay_apart(pair: tuple[UdpSocket, UdpSocket], together: Together) -> None:
    sender, receiver = pair
    other = UdpSocket(socket.AF_INET)
    other.raw.connect(receiver.raw.getsockname())
    sender.raw.send(b"123")
    other.raw.send(b"456")

    received, _ = together.receive(receiver.raw, 3)
    other_name = other.raw.getsockname()
    other.close()

    assert received == [(b"123", 3, sender.raw.getsockname()), (b"456", 3, other_name)]


def test_a_buffer_that_the_kernel_made_comes_with_its_segments(
    pair: tuple[UdpSocket, UdpSocket], together: Together
) -> None:
    sender, receiver = pair
    if not (sender.sends_segments and receiver.receives_segments):
        pytest.skip("this kernel has no UDP_SEGMENT or no UDP_GRO")
    sender.raw.send(b"abc")
    sender.send(b"12345678", 3)
    sender.raw.send(b"def")

    received, _ = together.receive(receiver.raw, 3)

    assert [(data, segment_bytes) for data, segment_bytes, _ in received] == [
        (b"abc", 3),
        (b"12345678", 3),
        (b"def", 3),
    ]


def test_one_call_takes_what_one_send_can_carry_and_says_that_there_may_be_more(
    pair: tuple[UdpSocket, UdpSocket], together: Together
) -> None:
    sender, receiver = pair
    for _ in range(BUNDLE_SEGMENTS + 1):
        sender.raw.send(b"1234")

    (first,), is_more = together.receive(receiver.raw, 4)
    assert (len(first[0]), is_more) == (4 * BUNDLE_SEGMENTS, True)
    assert together.receive(receiver.raw, 4) == ([(b"1234", 4, sender.raw.getsockname())], False)

    for _ in range(9):
        sender.raw.send(bytes(8000))
    assert [len(data) for data, _, _ in together.receive(receiver.raw, 8000)[0]] == [64_000]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # drained by each example
@given(st.lists(st.integers(1, 2000), min_size=1, max_size=30), st.integers(1, 2000))
def test_whatever_was_expected_each_datagram_comes_out_whole_and_in_order(
    pair: tuple[UdpSocket, UdpSocket], together: Together, sizes: list[int], expected_bytes: int
) -> None:
    sender, receiver = pair
    sent = [bytes([number]) * size for number, size in enumerate(sizes, start=1)]
    for data in sent:
        sender.raw.send(data)

    assert segments_of(together.receive(receiver.raw, expected_bytes)[0]) == sent
    assert receiver.receive() is None


def test_an_empty_datagram_harms_nobody(pair: tuple[UdpSocket, UdpSocket], together: Together) -> None:
    sender, receiver = pair
    for data in (b"123", b"", b"456", b""):
        sender.raw.send(data)

    assert segments_of(together.receive(receiver.raw, 3)[0]) == [b"123", b"456"]


def test_the_error_of_a_socket_is_raised(together: Together) -> None:
    closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    closed.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        together.receive(closed, 3)
