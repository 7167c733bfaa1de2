"""tunnel.net.udp over loopback sockets: batches, fall-backs, bounds, and errors that end nothing."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tunnel.net import udp
from tunnel.net.bind import bound_socket
from tunnel.net.udp import DATAGRAMS_A_TURN_MAX, QUEUE_BYTES_MAX, Address, Batch, UdpEndpoint


class ObstinateSocket(socket.socket):
    """A socket whose system calls fail on demand."""

    send_error: int | None = None
    segments_error: int | None = None
    receive_errors: int = 0

    def sendto(self, data: Any, address: Any) -> int:  # type: ignore[override]
        if self.send_error:
            raise OSError(self.send_error, "planted")
        return super().sendto(data, address)

    def sendmsg(self, *arguments: Any) -> int:
        if self.segments_error or self.send_error:
            raise OSError(self.segments_error or self.send_error, "planted")
        return super().sendmsg(*arguments)

    def recvmsg(self, *arguments: Any) -> Any:
        if self.receive_errors:
            self.receive_errors -= 1
            raise OSError(errno.ECONNREFUSED, "planted")
        return super().recvmsg(*arguments)


class Receiver:
    """An endpoint that takes the batches apart again."""

    def __init__(self, host: str = "127.0.0.1", offload: bool = True, sock: socket.socket | None = None) -> None:
        self.datagrams: list[bytes] = []
        self.addresses: set[Address] = set()
        self.turns: list[int] = []
        self._changed = asyncio.Event()
        sock = sock or bound_socket(host, 0, socket.SOCK_DGRAM)
        self.endpoint = UdpEndpoint(asyncio.get_running_loop(), sock, self._take, offload=offload)

    def _take(self, batch: Batch) -> None:
        before = len(self.datagrams)
        for data, segment_size, address in batch:
            self.datagrams += [data[start : start + segment_size] for start in range(0, len(data), segment_size)]
            self.addresses.add(address)
        self.turns.append(len(self.datagrams) - before)
        self._changed.set()

    async def until(self, count: int) -> list[bytes]:
        while len(self.datagrams) < count:
            self._changed.clear()
            await self._changed.wait()
        return self.datagrams


Open = Callable[..., Receiver]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    receivers: list[Receiver] = []

    def make(*arguments: Any, **options: Any) -> Receiver:
        receivers.append(Receiver(*arguments, **options))
        return receivers[-1]

    yield make
    for receiver in receivers:
        receiver.endpoint.close()


def obstinate() -> ObstinateSocket:
    sock = ObstinateSocket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    return sock


def numbered(count: int, size: int) -> list[bytes]:
    return [index.to_bytes(4, "big") + bytes(size - 4) for index in range(count)]


@pytest.mark.parametrize("sender_offload", [True, False])
@pytest.mark.parametrize("receiver_offload", [True, False])
@pytest.mark.parametrize(("count", "size", "last"), [(1, 1200, 1200), (10, 1200, 7), (64, 1000, 1000), (200, 1350, 50)])
async def test_batches_arrive_whole_and_in_order(
    opened: Open, sender_offload: bool, receiver_offload: bool, count: int, size: int, last: int
) -> None:
    sender, receiver = opened(offload=sender_offload), opened(offload=receiver_offload)
    sent = numbered(count, size)
    sent[-1] = sent[-1][:last]
    assert sender.endpoint.send(b"".join(sent), size, receiver.endpoint.address)
    assert await receiver.until(count) == sent
    assert receiver.addresses == {sender.endpoint.address}
    for counters in (sender.endpoint.counters, receiver.endpoint.counters):
        assert counters.datagrams_sent + counters.datagrams_received == count
        assert counters.bytes_sent + counters.bytes_received == sum(map(len, sent))
    assert sender.endpoint.counters.send_calls <= count


async def test_the_kernel_gathers_and_splits(opened: Open) -> None:
    sender, receiver = opened(), opened()
    if not (sender.endpoint.segmented_send and receiver.endpoint.coalesced_receive):
        pytest.skip("this kernel has no UDP_SEGMENT or no UDP_GRO")
    sender.endpoint.send(b"".join(numbered(44, 1200)), 1200, receiver.endpoint.address)
    await receiver.until(44)
    assert sender.endpoint.counters.send_calls == 1
    assert receiver.endpoint.counters.receive_calls < 44


async def test_without_offload_there_is_one_call_a_datagram(opened: Open) -> None:
    sender, receiver = opened(offload=False), opened(offload=False)
    assert not sender.endpoint.segmented_send
    assert not receiver.endpoint.coalesced_receive
    sender.endpoint.send(b"".join(numbered(10, 1200)), 1200, receiver.endpoint.address)
    await receiver.until(10)
    assert sender.endpoint.counters.send_calls == 10
    assert receiver.endpoint.counters.receive_calls == 10


async def test_one_turn_is_bounded(opened: Open) -> None:
    sender, receiver = opened(), opened(offload=False)
    count = DATAGRAMS_A_TURN_MAX * 3
    for datagram in numbered(count, 100):
        sender.endpoint.send(datagram, 100, receiver.endpoint.address)
    await receiver.until(count)
    assert max(receiver.turns) == DATAGRAMS_A_TURN_MAX


async def test_dual_stack(opened: Open) -> None:
    both = opened("::")
    port = both.endpoint.address[1]
    for host in ("127.0.0.1", "::1"):
        sender = opened(host)
        sender.endpoint.send(b"ping" * 3, 4, (host, port))
        await both.until(3)
        (address,) = both.addresses
        both.endpoint.send(b"pong" * 3, 4, address)
        assert await sender.until(3) == [b"pong"] * 3
        both.datagrams.clear()
        both.addresses.clear()


async def test_one_family_only_when_told(opened: Open) -> None:
    six = opened("::1")
    assert six.endpoint.address[0] == "::1"
    assert opened("127.0.0.1").endpoint.address[0] == "127.0.0.1"


async def test_the_buffers_granted_are_told(opened: Open) -> None:
    endpoint = opened().endpoint
    for granted in (endpoint.receive_buffer_bytes, endpoint.send_buffer_bytes):
        assert 0 < granted <= udp.SOCKET_BUFFER_BYTES


# Errors.


async def test_receive_errors_end_nothing(opened: Open) -> None:
    sock = obstinate()
    sock.receive_errors = 3
    sender, receiver = opened(), opened(sock=sock)
    sender.endpoint.send(b"hello", 5, receiver.endpoint.address)
    assert await receiver.until(1) == [b"hello"]
    assert receiver.endpoint.counters.receive_errors == 3


async def test_a_refused_port_ends_nothing(opened: Open) -> None:
    """A connected socket gets the real ICMP answer of a port that nobody listens on."""
    closed = bound_socket("127.0.0.1", 0, socket.SOCK_DGRAM)
    nobody = closed.getsockname()
    closed.close()
    sock = bound_socket("127.0.0.1", 0, socket.SOCK_DGRAM)
    sock.connect(nobody)
    sender = opened(sock=sock)
    for _ in range(3):
        assert sender.endpoint.send(b"x" * 40, 10, nobody)
    assert sender.endpoint.counters.send_errors + sender.endpoint.counters.receive_errors > 0


@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.EPERM, errno.ENOBUFS, errno.ECONNREFUSED])
@pytest.mark.parametrize("offload", [True, False])
async def test_send_errors_are_counted_and_forgotten(opened: Open, code: int, offload: bool) -> None:
    sock = obstinate()
    sender, receiver = opened(sock=sock, offload=offload), opened()
    sock.send_error = code
    assert sender.endpoint.send(bytes(35), 10, receiver.endpoint.address)
    assert sender.endpoint.counters.send_errors == 4
    sock.send_error = None
    assert sender.endpoint.send(b"again", 10, receiver.endpoint.address)
    assert await receiver.until(1) == [b"again"]


@pytest.mark.parametrize(
    ("code", "remains"), [(errno.EIO, False), (errno.EINVAL, True), (errno.EMSGSIZE, True), (errno.EOPNOTSUPP, True)]
)
async def test_refused_segmentation_falls_back_and_is_remembered(opened: Open, code: int, remains: bool) -> None:
    sock = obstinate()
    sender, receiver = opened(sock=sock), opened()
    if not sender.endpoint.segmented_send:
        pytest.skip("this kernel has no UDP_SEGMENT")
    sock.segments_error = code
    sent = numbered(5, 1400)
    assert sender.endpoint.send(b"".join(sent), 1400, receiver.endpoint.address)
    assert await receiver.until(5) == sent
    sock.segments_error = None
    sender.endpoint.send(b"".join(sent), 1400, receiver.endpoint.address)
    await receiver.until(10)
    assert sender.endpoint.counters.send_calls == 10, "no second attempt"
    sender.endpoint.send(b"".join(numbered(5, 1200)), 1200, receiver.endpoint.address)
    await receiver.until(15)
    assert sender.endpoint.counters.send_calls == (11 if remains else 15), "smaller segments may still fit"
    assert sender.endpoint.counters.segmentation_refused == 1
    assert sender.endpoint.segmented_send is remains


async def test_an_impossible_address_does_not_cost_segmentation(opened: Open) -> None:
    """Port 0 gives EINVAL to everybody; a peer that spoofs it must not slow the others down."""
    sender, receiver = opened(), opened()
    if not sender.endpoint.segmented_send:
        pytest.skip("this kernel has no UDP_SEGMENT")
    assert sender.endpoint.send(bytes(30), 10, ("127.0.0.1", 0))
    assert sender.endpoint.counters.send_errors == 3
    assert sender.endpoint.send(bytes(30), 10, receiver.endpoint.address)
    assert sender.endpoint.counters.send_calls == 1
    await receiver.until(3)


async def test_segments_too_large_to_share_a_call_go_alone(opened: Open) -> None:
    sender, receiver = opened(), opened()
    sent = numbered(2, 40000)
    assert sender.endpoint.send(b"".join(sent), 40000, receiver.endpoint.address)
    assert await receiver.until(2) == sent


# A full socket.


@pytest.mark.parametrize("offload", [True, False])
async def test_what_the_kernel_does_not_take_waits_then_goes_out_in_order(opened: Open, offload: bool) -> None:
    loop = asyncio.get_running_loop()
    sock, receiver = obstinate(), opened()
    writable = asyncio.Event()
    endpoint = UdpEndpoint(loop, sock, lambda batch: None, writable.set, offload=offload)
    sock.send_error = errno.EAGAIN
    sent = numbered(30, 100)
    assert not endpoint.send(b"".join(sent[:10]), 100, receiver.endpoint.address)
    sock.send_error = None
    assert not endpoint.send(b"".join(sent[10:]), 100, receiver.endpoint.address), "not past those that wait"
    assert endpoint.queued_bytes == 3000
    await writable.wait()
    assert await receiver.until(30) == sent
    assert endpoint.queued_bytes == 0
    assert endpoint.counters.send_blocked == 1
    endpoint.close()


async def test_a_batch_that_is_taken_in_parts_goes_out_whole(opened: Open) -> None:
    class Reluctant(ObstinateSocket):
        calls = 0

        def sendto(self, data: Any, address: Any) -> int:  # type: ignore[override]
            self.calls += 1
            if self.calls % 3 == 0:
                raise BlockingIOError
            return super().sendto(data, address)

    sock, receiver = Reluctant(socket.AF_INET, socket.SOCK_DGRAM), opened()
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    sender = opened(sock=sock, offload=False)
    sent = numbered(20, 100)
    assert not sender.endpoint.send(b"".join(sent), 100, receiver.endpoint.address)
    assert sender.endpoint.queued_bytes == 1800
    assert await receiver.until(20) == sent
    assert sender.endpoint.queued_bytes == 0


async def test_the_queue_is_bounded(opened: Open) -> None:
    sock, receiver = obstinate(), opened()
    endpoint = opened(sock=sock).endpoint
    sock.send_error = errno.EAGAIN
    portion = bytes(60000)
    for _ in range(QUEUE_BYTES_MAX // len(portion) + 2):
        assert not endpoint.send(portion, 1000, receiver.endpoint.address)
    assert QUEUE_BYTES_MAX - len(portion) < endpoint.queued_bytes <= QUEUE_BYTES_MAX
    assert endpoint.counters.datagrams_dropped == 120
    endpoint.close()
    assert endpoint.queued_bytes == 0


async def test_close_is_final(opened: Open) -> None:
    sender, receiver = opened(), opened()
    closing: list[Batch] = []

    def close(batch: Batch) -> None:
        closing.append(batch)
        endpoint.close()

    endpoint = UdpEndpoint(asyncio.get_running_loop(), bound_socket("127.0.0.1", 0, socket.SOCK_DGRAM), close)
    sender.endpoint.send(b"x", 1, endpoint.address)
    sender.endpoint.send(b"y", 1, receiver.endpoint.address)
    await receiver.until(1)
    await asyncio.sleep(0)
    assert len(closing) == 1
    endpoint.close()
    assert not endpoint.send(b"x", 1, receiver.endpoint.address)


async def test_a_failing_owner_does_not_end_the_endpoint() -> None:
    loop = asyncio.get_running_loop()
    reported, arrived = asyncio.Event(), asyncio.Event()
    loop.set_exception_handler(lambda _, context: reported.set())

    def take(batch: Batch) -> None:
        if not reported.is_set():
            raise ValueError("planted")
        arrived.set()

    endpoint = UdpEndpoint(loop, bound_socket("127.0.0.1", 0, socket.SOCK_DGRAM), take)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"first", endpoint.address)
        await reported.wait()
        sender.sendto(b"second", endpoint.address)
        await arrived.wait()
    endpoint.close()


def test_a_host_that_is_none_leaves_nothing_behind() -> None:
    with pytest.raises(OSError, match=r"."):
        bound_socket("192.0.2.999", 0, socket.SOCK_DGRAM)
    with bound_socket("127.0.0.1", 0, socket.SOCK_DGRAM) as taken, pytest.raises(OSError, match="in use"):
        bound_socket("127.0.0.1", taken.getsockname()[1], socket.SOCK_DGRAM)


async def test_datagrams_are_not_fragmented() -> None:
    """The size of a datagram that arrived proves something about the path only if nobody may cut it up."""
    sock = bound_socket("127.0.0.1", 0, socket.SOCK_DGRAM)
    endpoint = UdpEndpoint(asyncio.get_running_loop(), sock, lambda batch: None)
    try:
        assert sock.getsockopt(socket.IPPROTO_IP, 10) == 3  # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE
    finally:
        endpoint.close()
