"""Whole buffers over real sockets on loopback."""

import socket
import sys
from collections.abc import Iterator

import pytest

from loadgen.link.udp import UdpSocket


@pytest.fixture
def pair() -> Iterator[tuple[UdpSocket, UdpSocket]]:
    """A socket connected to another one."""
    sender, receiver = UdpSocket(socket.AF_INET), UdpSocket(socket.AF_INET)
    receiver.raw.bind(("127.0.0.1", 0))
    sender.raw.connect(receiver.raw.getsockname())
    yield sender, receiver
    sender.close()
    receiver.close()


def drain(receiver: UdpSocket) -> list[bytes]:
    """Every segment that has arrived; loopback delivers within the send."""
    segments = []
    while (received := receiver.receive()) is not None:
        data, segment_bytes, _ = received
        segments += [data[start : start + segment_bytes] for start in range(0, len(data), segment_bytes)]
    return segments


@pytest.mark.parametrize("sends_segments", [True, False])
@pytest.mark.parametrize("receives_segments", [True, False])
def test_a_buffer_arrives_as_its_segments(
    pair: tuple[UdpSocket, UdpSocket], sends_segments: bool, receives_segments: bool
) -> None:
    sender, receiver = pair
    sender.sends_segments &= sends_segments
    if not receives_segments and receiver.receives_segments:
        receiver.raw.setsockopt(socket.IPPROTO_UDP, 104, 0)
        receiver.receives_segments = False

    assert sender.send(b"1234567", 3) == 7
    assert sender.send(b"89", 3) == 2
    assert drain(receiver) == [b"123", b"456", b"7", b"89"]


def test_the_sender_is_told_and_can_be_answered(pair: tuple[UdpSocket, UdpSocket]) -> None:
    sender, receiver = pair
    sender.send(b"ping", 4)

    received = receiver.receive()

    assert received == (b"ping", 4, sender.raw.getsockname())
    assert receiver.send(b"pong!!!", 4, received[2]) == 7
    assert drain(sender) == [b"pong", b"!!!"]


def test_nothing_there_is_none(pair: tuple[UdpSocket, UdpSocket]) -> None:
    assert pair[1].receive() is None


def test_a_segment_larger_than_the_way_ahead_is_not_sent(pair: tuple[UdpSocket, UdpSocket]) -> None:
    sender, receiver = pair

    assert sender.send(bytes(65_530), 65_530) == 0  # with its headers longer than an IPv4 packet
    assert drain(receiver) == []


def test_datagrams_are_sent_whole_or_not_at_all(pair: tuple[UdpSocket, UdpSocket]) -> None:
    if sys.platform != "linux":
        pytest.skip("IP_MTU_DISCOVER is Linux's")
    ip_mtu_discover, probe = 10, 3  # linux/in.h

    assert pair[0].raw.getsockopt(socket.IPPROTO_IP, ip_mtu_discover) == probe
