"""tunnel.net.tcp over loopback: exact counts, independent directions, and endings that stay what they were."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from tunnel.errors import Cause
from tunnel.net.poller import ERROR, HANG_UP, READABLE, WRITABLE, Poller
from tunnel.net.tcp import READ_BYTES_MAX, READS_A_TURN_MAX, TcpSocket

MIB = 1024 * 1024


class Journal:
    """Writes down what a connection tells its owner, and lets tests wait for it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.reads: list[int] = []
        self.taken: list[int] = []
        self.causes: list[Cause] = []
        self._changed = asyncio.Event()

    def _note(self, call: str) -> None:
        if not self.calls or self.calls[-1] != call:
            self.calls.append(call)
        self._changed.set()

    async def until(self, *calls: str) -> None:
        while not set(calls) <= set(self.calls):
            self._changed.clear()
            await self._changed.wait()

    async def until_data(self, count: int) -> None:
        while len(self.data) < count:
            self._changed.clear()
            await self._changed.wait()

    async def until_taken(self, count: int) -> None:
        while sum(self.taken) < count:
            self._changed.clear()
            await self._changed.wait()

    def on_data(self, data: bytes) -> None:
        self.data += data
        self.reads.append(len(data))
        self._note("data")

    def on_eof(self) -> None:
        self._note("eof")

    def on_taken(self, count: int) -> None:
        self.taken.append(count)
        self._note("taken")

    def on_finished(self) -> None:
        self._note("finished")

    def on_write_error(self, cause: Cause) -> None:
        self.causes.append(cause)
        self._note("write_error")

    def on_error(self, cause: Cause) -> None:
        self.causes.append(cause)
        self._note("error")


@dataclass
class Link:
    """A TcpSocket, its journal, and the raw socket at the other end."""

    tcp: TcpSocket
    journal: Journal
    peer: socket.socket
    raw: socket.socket

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.peer, data)

    async def receive(self, count: int) -> bytes:
        """`count` bytes from the TcpSocket, fewer only if it ends."""
        received = bytearray()
        while len(received) < count:
            data = await asyncio.get_running_loop().sock_recv(self.peer, count - len(received))
            if not data:
                break
            received += data
        return bytes(received)

    def reset(self) -> None:
        """The peer resets, whatever it has read."""
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()


@dataclass
class Links:
    poller: Poller
    made: list[Link] = field(default_factory=list)

    def make(self, **options: Any) -> Link:
        with socket.create_server(("127.0.0.1", 0)) as server:
            peer = socket.create_connection(server.getsockname())
            raw, _ = server.accept()
        peer.setblocking(False)
        raw.setblocking(False)
        journal = Journal()
        tcp = TcpSocket(self.poller, raw, journal, Cause.TARGET_RESET, **options)
        self.made.append(Link(tcp, journal, peer, raw))
        return self.made[-1]


@pytest.fixture
async def links() -> AsyncIterator[Links]:
    links = Links(Poller(asyncio.get_running_loop()))
    yield links
    for link in links.made:
        link.tcp.close()
        link.peer.close()
    links.poller.close()


async def turns(count: int = 5) -> None:
    """Lets the event loop look at every socket, several times. (Loopback delivers within the system call.)"""
    for _ in range(count):
        await asyncio.sleep(0)


# Reading.


async def test_bytes_arrive(links: Links) -> None:
    link = links.make()
    link.tcp.resume_reading()
    await link.send(b"hello")
    await link.journal.until_data(5)
    assert link.journal.data == b"hello"


async def test_paused_bytes_stay_in_the_kernel(links: Links) -> None:
    link = links.make()
    await link.send(b"early")
    await turns()
    assert link.journal.calls == [], "reading begins when told"
    link.tcp.resume_reading()
    await link.journal.until_data(5)
    link.tcp.pause_reading()
    await link.send(b"later")
    await turns()
    assert link.journal.data == b"early"
    link.tcp.resume_reading()
    await link.journal.until_data(10)
    assert link.journal.data == b"earlylater"


async def test_a_pause_in_the_callback_holds_at_once(links: Links) -> None:
    link = links.make()

    def take(data: bytes) -> None:
        Journal.on_data(link.journal, data)
        link.tcp.pause_reading()

    link.journal.on_data = take  # type: ignore[method-assign]
    link.tcp.read_bytes_max = 10
    await link.send(bytes(25))
    for expected in ([10], [10, 10], [10, 10, 5]):
        link.tcp.resume_reading()
        await link.journal.until_data(sum(expected))
        await turns()
        assert link.journal.reads == expected


async def test_one_turn_reads_a_bounded_amount(links: Links) -> None:
    link = links.make()
    loop = asyncio.get_running_loop()
    by_turn = [0]

    def next_turn() -> None:
        by_turn.append(sum(link.journal.reads))
        if not link.tcp.closed:
            loop.call_soon(next_turn)

    link.tcp.read_bytes_max = 1000
    await link.send(bytes(50_000))
    link.tcp.resume_reading()
    next_turn()
    await link.journal.until_data(50_000)
    link.tcp.close()
    steps = [after - before for before, after in pairwise(by_turn)]
    assert max(steps) == READS_A_TURN_MAX * 1000
    assert max(link.journal.reads) == 1000


async def test_a_limit_of_nothing_is_not_taken_for_the_end(links: Links) -> None:
    link = links.make()
    link.tcp.read_bytes_max = 0
    link.tcp.resume_reading()
    await link.send(b"ab")
    await link.journal.until_data(2)
    assert "eof" not in link.journal.calls


# Writing.


async def test_writes_of_one_turn_go_out_together_and_are_counted(links: Links) -> None:
    link = links.make()
    for _ in range(200):
        link.tcp.write(b"0123456789")
    assert link.journal.calls == [], "no callback from inside write"
    assert link.tcp.pending_bytes == 2000
    assert await link.receive(2000) == b"0123456789" * 200
    await link.journal.until_taken(2000)
    assert link.journal.taken == [2000]
    assert link.tcp.pending_bytes == 0


@pytest.mark.failure("F09")
async def test_f09_only_what_the_kernel_took_is_counted(links: Links) -> None:
    link = links.make()
    total = 12 * MIB
    for start in range(0, total, 100_000):
        link.tcp.write(bytes(min(100_000, total - start)))
    await link.journal.until("taken")
    # Nobody reads: what is taken is what the kernel's buffers hold, and the rest stays here.
    await turns(200)
    assert link.tcp.pending_bytes == total - sum(link.journal.taken) > 0
    assert len(await link.receive(total)) == total
    await link.journal.until_taken(total)
    assert sum(link.journal.taken) == total
    assert link.tcp.pending_bytes == 0


async def test_what_may_be_pending_is_bounded(links: Links) -> None:
    link = links.make(pending_bytes_max=1000)
    link.tcp.write(bytes(1000))
    with pytest.raises(BufferError):
        link.tcp.write(b"x")
    assert await link.receive(1000) == bytes(1000)
    await link.journal.until_taken(1000)
    link.tcp.write(b"x")
    assert await link.receive(1) == b"x"


async def test_a_write_from_the_callback_keeps_its_place(links: Links) -> None:
    link = links.make()

    def taken(count: int) -> None:
        Journal.on_taken(link.journal, count)
        if len(link.journal.taken) < 3:
            link.tcp.write(b"again")
        else:
            link.tcp.finish()

    link.journal.on_taken = taken  # type: ignore[method-assign]
    link.tcp.write(b"first")
    assert await link.receive(100) == b"firstagainagain"
    await link.journal.until("finished")


# Endings that go well.


@pytest.mark.failure("F03")
async def test_f03_each_end_is_reported_at_once_and_ends_one_direction_only(links: Links) -> None:
    link = links.make()
    link.tcp.resume_reading()
    await link.send(b"request")
    link.peer.shutdown(socket.SHUT_WR)
    await link.journal.until("eof")
    assert link.journal.data == b"request"
    link.tcp.write(b"response")
    link.tcp.finish()
    assert await link.receive(100) == b"response"
    await link.journal.until("finished")
    assert link.journal.calls == ["data", "eof", "taken", "finished"]


@pytest.mark.failure("F04")
async def test_f04_after_our_end_the_peer_may_go_on(links: Links) -> None:
    link = links.make()
    link.tcp.resume_reading()
    link.tcp.finish()
    await link.journal.until("finished")
    assert await link.receive(1) == b""
    await link.send(bytes(100_000))
    await link.journal.until_data(100_000)
    link.peer.shutdown(socket.SHUT_WR)
    await link.journal.until("eof")
    assert link.journal.causes == []


@pytest.mark.failure("F01")
async def test_f01_the_end_comes_behind_everything_that_was_pending(links: Links) -> None:
    link = links.make()
    total = 12 * MIB
    link.tcp.write(bytes(total))
    link.tcp.finish()
    link.tcp.finish()
    await link.journal.until("taken")
    await turns()
    assert "finished" not in link.journal.calls
    assert len(await link.receive(total + 1)) == total
    await link.journal.until("finished")
    assert sum(link.journal.taken) == total


async def test_a_write_behind_the_end_is_a_mistake_of_the_owner(links: Links) -> None:
    link = links.make()
    link.tcp.finish()
    with pytest.raises(RuntimeError):
        link.tcp.write(b"x")


async def test_the_end_is_told_once(links: Links) -> None:
    link = links.make()
    ends = []
    link.journal.on_eof = lambda: ends.append(1)  # type: ignore[method-assign]
    link.tcp.resume_reading()
    link.peer.shutdown(socket.SHUT_WR)
    while not ends:
        await turns(1)
    link.tcp.resume_reading()
    await turns()
    assert ends == [1]


# Endings that go wrong.


@pytest.mark.failure("F06")
async def test_f06_abort_is_a_reset(links: Links) -> None:
    link = links.make()
    link.tcp.write(b"part of it")
    await link.journal.until("taken")
    link.tcp.abort()
    link.tcp.abort()
    with pytest.raises(ConnectionResetError):
        await link.receive(100)


@pytest.mark.failure("F05")
async def test_f05_a_reset_is_never_an_end(links: Links) -> None:
    link = links.make()
    link.tcp.resume_reading()
    await link.send(b"half of")
    await link.journal.until("data")
    link.reset()
    await link.journal.until("error")
    assert link.journal.calls == ["data", "error"]
    assert link.journal.causes == [Cause.TARGET_RESET]
    assert link.tcp.closed


@pytest.mark.failure("F05")
async def test_f05_bytes_in_front_of_a_reset_are_read_first(links: Links) -> None:
    """More than one turn reads: uvloop calls the reader of a broken socket once."""
    link = links.make()
    await link.send(bytes(20_000))
    link.tcp.read_bytes_max = 1000
    link.tcp.resume_reading()
    link.reset()
    await link.journal.until("error")
    assert len(link.journal.data) == 20_000


@pytest.mark.failure("F05")
async def test_f05_the_same_when_reading_goes_on_after_it(links: Links) -> None:
    link = links.make()
    link.tcp.finish()
    await link.journal.until("finished")
    await link.send(bytes(20_000))
    link.reset()
    await turns()
    link.tcp.read_bytes_max = 1000
    link.tcp.resume_reading()
    await link.journal.until_data(1)
    for _ in range(10):
        link.tcp.pause_reading()
        link.tcp.resume_reading()
    before = len(link.journal.data)
    await turns(1)
    assert len(link.journal.data) - before <= READS_A_TURN_MAX * 1000, "still bounded"
    await link.journal.until("error")
    assert len(link.journal.data) == 20_000


async def test_a_false_alarm_changes_nothing(links: Links) -> None:
    link = links.make()
    link.tcp._ready(ERROR | HANG_UP | READABLE | WRITABLE)
    link.tcp.resume_reading()
    link.tcp._ready(ERROR | HANG_UP | READABLE | WRITABLE)
    await link.send(b"hello")
    await link.journal.until("data")
    assert link.journal.calls == ["data"]


async def test_a_reset_is_noticed_while_reading_is_paused(links: Links) -> None:
    link = links.make()
    await link.send(b"unread")
    link.reset()
    await link.journal.until("error")
    assert link.journal.calls == ["error"]
    assert link.journal.causes == [Cause.TARGET_RESET]


@pytest.mark.failure("F05")
async def test_f05_a_reset_that_a_write_finds_is_not_read_as_an_end(links: Links) -> None:
    """Linux reports the reset to the write, and would give the next read an ordinary end of stream."""
    link = links.make()
    await link.send(b"unread")
    link.reset()
    link.tcp._flush()
    link.tcp.write(b"x")
    link.tcp._flush()
    assert link.journal.calls == ["error"]
    link.tcp.resume_reading()
    await turns()
    assert link.journal.calls == ["error"]
    assert link.journal.causes == [Cause.TARGET_RESET]


@pytest.mark.failure("F04")
@pytest.mark.parametrize("found_by", ["watching", "writing"])
async def test_f04_an_early_answer_survives_the_refusal_of_our_bytes(links: Links, found_by: str) -> None:
    """The target answers, closes, and resets what we still upload: its answer had ended cleanly before."""
    link = links.make()
    await link.send(b"answer")
    link.peer.close()
    link.tcp.write(b"upload")
    link.tcp._flush()
    if found_by == "writing":
        link.tcp.write(b"more")
        link.tcp._flush()
    await link.journal.until("write_error")
    link.tcp.write(b"ignored")
    link.tcp.finish()
    link.tcp.resume_reading()
    await link.journal.until("eof")
    assert link.journal.data == b"answer"
    assert link.journal.causes == [Cause.TARGET_RESET]
    assert link.tcp.pending_bytes == 0
    assert link.journal.calls == ["taken", "write_error", "data", "eof"]


@pytest.mark.failure("F08")
async def test_f08_after_its_end_a_peer_that_takes_no_more_is_told_once(links: Links) -> None:
    link = links.make()
    link.tcp.resume_reading()
    link.peer.close()
    await link.journal.until("eof")
    for _ in range(3):
        link.tcp.write(bytes(1000))
        await turns()
    await link.journal.until("write_error")
    await turns()
    assert link.journal.causes == [Cause.TARGET_RESET]


async def test_nothing_is_heard_after_close(links: Links) -> None:
    link = links.make()
    link.tcp.resume_reading()
    link.tcp.write(bytes(12 * MIB))
    await link.journal.until("taken")
    await link.send(b"unheard")
    calls = list(link.journal.calls)
    link.tcp.close()
    link.tcp.close()
    link.tcp.write(b"x")
    link.tcp.finish()
    link.tcp.resume_reading()
    link.tcp.leave(1)
    await turns()
    assert link.journal.calls == calls
    assert link.tcp.pending_bytes == 0


async def test_closing_in_a_callback_is_heard_at_once(links: Links) -> None:
    link = links.make()

    def take(data: bytes) -> None:
        Journal.on_data(link.journal, data)
        link.tcp.close()

    link.journal.on_data = take  # type: ignore[method-assign]
    link.tcp.read_bytes_max = 1
    link.tcp.resume_reading()
    await link.send(b"abc")
    await link.journal.until("data")
    await turns()
    assert link.journal.data == b"a"


# Leaving politely.


@pytest.mark.failure("F22")
async def test_f22_the_last_words_reach_a_peer_that_is_still_sending(links: Links) -> None:
    link = links.make()
    upload = asyncio.create_task(link.send(bytes(MIB)))
    link.tcp.write(b"no")
    link.tcp.leave(30)
    await upload
    assert await link.receive(100) == b"no"
    link.peer.shutdown(socket.SHUT_WR)
    while not link.tcp.closed:
        await turns(1)
    assert link.journal.calls == [], "who has left hears nothing"


async def test_leaving_is_bounded(links: Links) -> None:
    link = links.make()
    link.tcp.leave(0.01)
    assert await link.receive(1) == b""
    while not link.tcp.closed:
        await turns(1)


async def test_leaving_when_both_ends_are_out_closes_at_once(links: Links) -> None:
    link = links.make()
    link.tcp.resume_reading()
    link.peer.shutdown(socket.SHUT_WR)
    link.tcp.finish()
    await link.journal.until("eof", "finished")
    link.tcp.leave(30)
    assert link.tcp.closed


async def test_leaving_ends_with_a_reset(links: Links) -> None:
    link = links.make()
    link.tcp.leave(30)
    link.reset()
    while not link.tcp.closed:
        await turns(1)


# The socket's own settings, and the poller.


async def test_small_writes_do_not_wait_and_dead_peers_are_probed(links: Links) -> None:
    raw = links.make().raw
    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


@pytest.mark.failure("F21")
async def test_f21_one_failing_owner_costs_the_others_nothing(links: Links) -> None:
    failed = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda *_: failed.set())
    several = [links.make() for _ in range(5)]

    def fail(cause: Cause) -> None:
        raise ValueError("planted")

    several[0].journal.on_error = fail  # type: ignore[method-assign]
    for link in several:
        link.reset()
    await failed.wait()
    for link in several[1:]:
        await link.journal.until("error")
    assert links.poller._callbacks == {}, "nobody is left in it"


async def test_a_connection_that_is_over_does_not_keep_the_event_loop_busy(links: Links) -> None:
    """After both ends, and after an error that is the reader's to find, epoll has a lasting event for the socket."""
    over, broken = links.make(), links.make()
    over.tcp.resume_reading()
    over.peer.shutdown(socket.SHUT_WR)
    over.tcp.finish()
    await over.journal.until("eof", "finished")
    broken.tcp.finish()
    await broken.journal.until("finished")
    broken.reset()
    await turns(10)
    assert links.poller._epoll.poll(0) == []
    assert broken.journal.calls == ["finished"]
    broken.tcp.resume_reading()
    await broken.journal.until("error")


async def test_nothing_wakes_the_owner_of_a_paused_connection_but_its_breaking(links: Links) -> None:
    link = links.make()
    await link.send(bytes(READ_BYTES_MAX))
    link.peer.shutdown(socket.SHUT_WR)
    await turns()
    assert links.poller._epoll.poll(0) == []


def read_to_the_end(peer: socket.socket) -> None:
    while peer.recv(65536):
        pass


async def test_a_close_in_the_middle_is_a_reset(links: Links) -> None:
    """Bytes are pending, the end is not out: closing the poller, or the process, must not look like a clean end."""
    poller = Poller(asyncio.get_running_loop())
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        accepted, _ = server.accept()
        accepted.setblocking(False)
        tcp = TcpSocket(poller, accepted, Journal(), Cause.TARGET_RESET)
        tcp.write(b"x" * 8_000_000)
        tcp.finish()
        peer.settimeout(5)
        await asyncio.sleep(0)  # One turn: the first bytes go out.
        await asyncio.sleep(0)
        assert tcp.pending_bytes
        poller.close()
        with pytest.raises(ConnectionResetError):
            read_to_the_end(peer)


async def test_closing_the_poller_closes_who_is_left(links: Links) -> None:
    """A program that ends does not wait for farewells; no descriptor may be left to the garbage collector."""
    poller = Poller(asyncio.get_running_loop())
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        accepted, _ = server.accept()
        accepted.setblocking(False)
        tcp = TcpSocket(poller, accepted, Journal(), Cause.TARGET_RESET)
        tcp.leave(60.0)
        poller.close()
        assert tcp.closed
        assert accepted.fileno() == -1


async def test_a_poller_may_be_closed_twice(links: Links) -> None:
    poller = Poller(asyncio.get_running_loop())
    poller.close()
    poller.close()


async def test_a_poller_does_what_it_is_asked_to_do_soon(links: Links) -> None:
    """At the turn's end, or before it for whoever cannot wait; once, and whatever another one raises."""
    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    poller, done = Poller(loop), []
    fault = RuntimeError("planted")

    def fail() -> None:
        raise fault

    poller.soon(fail)
    poller.soon(lambda: done.append("first"))
    assert done == []
    await turns(1)
    assert (done, reported) == (["first"], [fault])
    poller.soon(lambda: done.append("second"))
    assert poller.run_actions()
    assert not poller.run_actions()
    await turns(1)
    assert done == ["first", "second"]
    poller.close()
