"""tunnel.net.relay between a session and a socket that only note what they are asked: every ending, in every order."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.errors import Cause
from tunnel.net.driver import Driver
from tunnel.net.relay import FAREWELL_S, Relay
from tunnel.net.tcp import TcpSocket
from tunnel.session import events
from tunnel.session.events import Ending
from tunnel.wire.messages import Direction

STREAM = 7
SENDS = Direction.CLIENT_TO_TARGET


class FakeSession:
    """Takes `room` bytes and no more; what a relay asks of it is noted, times and stream left out."""

    sends = SENDS

    def __init__(self) -> None:
        self.room = 1 << 30
        self.sent = b""
        self.calls: list[tuple[Any, ...]] = []
        self.accounted = 0
        self.received_ends = 0

    def send(self, stream: int, data: bytes, now: float) -> int:
        assert stream == STREAM
        taken = min(self.room, len(data))
        self.room -= taken
        self.sent += data[:taken]
        return taken

    def end_read(self, stream: int) -> None:
        assert stream == STREAM
        self.received_ends += 1

    def finish(self, stream: int, now: float) -> None:
        self._note("finish", stream)

    def reset(self, stream: int, cause: Cause, now: float) -> None:
        self._note("reset", stream, cause)

    def stop(self, stream: int, cause: Cause, now: float) -> None:
        self._note("stop", stream, cause)

    def ended(self, stream: int, now: float) -> None:
        self._note("ended", stream)

    def delivered(self, stream: int, count: int, now: float) -> None:
        self._note("delivered", stream, count)
        self.accounted += count

    def discarded(self, count: int) -> None:
        if count:
            self.calls.append(("discarded", count))
            self.accounted += count

    def _note(self, name: str, stream: int, *arguments: object) -> None:
        assert stream == STREAM
        self.calls.append((name, *arguments))


class FakeSocket:
    """Notes what it is told; like a real one, it says nothing from inside a call."""

    def __init__(self) -> None:
        self.pending_bytes = 0
        self.written: list[bytes] = []
        self.calls: list[str] = []
        self.reading = False
        self.over = ""

    def write(self, data: bytes) -> None:
        assert not self.over
        assert "finish" not in self.calls
        self.written.append(data)
        self.pending_bytes += len(data)

    def finish(self) -> None:
        self._note("finish")

    def resume_reading(self) -> None:
        self.reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def leave(self, linger_s: float) -> None:
        assert linger_s == FAREWELL_S
        self._end("leave")

    def close(self) -> None:
        self._end("close")

    def abort(self) -> None:
        self._end("abort")

    def _end(self, how: str) -> None:
        assert not self.over, f"{how} after {self.over}"
        self.over = how
        self._note(how)

    def _note(self, call: str) -> None:
        if not self.calls or self.calls[-1] != call:
            self.calls.append(call)


class FakeDriver:
    def __init__(self, session: FakeSession) -> None:
        self.session = session
        self.handlers: dict[int, Relay] = {}
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    @staticmethod
    def now() -> float:
        return 1.0


class Bench:
    """A relay and everything around it."""

    def __init__(self, *, attached: bool = True) -> None:
        self.session = FakeSession()
        self.driver = FakeDriver(self.session)
        self.socket = FakeSocket()
        self.closed = 0
        self.replies: list[events.Replied] = []
        self.relay = Relay(cast(Driver, self.driver), STREAM, on_closed=self._on_closed, on_replied=self.replies.append)
        if attached:
            self.attach()

    def _on_closed(self) -> None:
        self.closed += 1

    def attach(self) -> None:
        self.relay.attach(cast(TcpSocket, self.socket))

    # What a session says.

    def data(self, data: bytes) -> None:
        self.relay.on_session_event(events.Data(STREAM, data))

    def ended(self, ending: Ending, cause: Cause = Cause.NONE) -> None:
        self.relay.on_session_event(events.Ended(STREAM, ending, cause))

    def stopped(self) -> None:
        self.relay.on_session_event(events.Stopped(STREAM, Cause.CANCELLED))

    def writable(self, room: int = 1 << 30) -> None:
        self.session.room = room
        self.relay.on_session_event(events.Writable(STREAM))

    # What a socket says.

    def take(self, count: int | None = None) -> None:
        """Its kernel takes what is pending, or so much of it."""
        count = self.socket.pending_bytes if count is None else count
        self.socket.pending_bytes -= count
        if count:
            self.relay.on_taken(count)

    @property
    def open(self) -> bool:
        return STREAM in self.driver.handlers and not self.closed


@pytest.fixture
def bench() -> Bench:
    return Bench()


def over(bench: Bench, how: str) -> None:
    """The relay is gone from everywhere, and said so once."""
    assert bench.socket.over == how
    assert bench.closed == 1
    assert not bench.driver.handlers


# Bytes.


def test_socket_to_stream(bench: Bench) -> None:
    assert bench.socket.reading
    bench.relay.on_data(b"abc")
    bench.relay.on_data(b"def")
    assert bench.session.sent == b"abcdef"
    assert bench.driver.woken == 2
    assert bench.session.calls == []


@pytest.mark.failure("F10")
def test_f10_socket_waits_while_the_stream_takes_no_more(bench: Bench) -> None:
    bench.session.room = 2
    bench.relay.on_data(b"abcdef")
    assert bench.session.sent == b"ab"
    assert not bench.socket.reading
    bench.writable(room=3)
    assert bench.session.sent == b"abcde"
    assert not bench.socket.reading
    bench.writable()
    assert bench.session.sent == b"abcdef"
    assert bench.socket.reading


@pytest.mark.failure("F09")
def test_f09_credit_is_for_what_the_kernel_took(bench: Bench) -> None:
    bench.data(b"abcdef")
    assert bench.socket.written == [b"abcdef"]
    assert bench.session.calls == []
    bench.take(2)
    bench.take(4)
    assert bench.session.calls == [("delivered", 2), ("delivered", 4)]
    assert bench.driver.woken == 2


@pytest.mark.failure("F22")
def test_f22_reply_is_in_front_and_earns_no_credit(bench: Bench) -> None:
    bench.relay.on_session_event(events.Replied(STREAM, Cause.NONE))
    assert bench.replies == [events.Replied(STREAM, Cause.NONE)]
    bench.relay.write_reply(b"0123456789")
    bench.data(b"abc")
    assert bench.socket.written == [b"0123456789", b"abc"]
    bench.take(4)
    bench.take(8)
    bench.take(1)
    assert bench.session.calls == [("delivered", 2), ("delivered", 1)]


def test_handshake_bytes_still_pending_earn_no_credit() -> None:
    bench = Bench(attached=False)
    bench.socket.pending_bytes = 2  # The method reply to a client that did not wait for it.
    bench.attach()
    bench.relay.write_reply(b"0123456789")
    bench.data(b"abc")
    bench.take()
    assert bench.session.calls == [("delivered", 3)]


# While the target is dialled.


def test_held_until_the_socket_is_there() -> None:
    bench = Bench(attached=False)
    bench.data(b"abc")
    bench.data(b"def")
    bench.ended(Ending.EOF)
    assert bench.session.calls == []
    bench.attach()
    assert bench.socket.written == [b"abc", b"def"]
    assert bench.socket.calls == ["finish"]
    assert bench.socket.reading
    bench.take()
    bench.relay.on_finished()
    assert bench.session.calls == [("delivered", 6), ("ended",)]
    assert bench.open


@pytest.mark.parametrize(
    ("ending", "cause"), [(Ending.RESET, Cause.APPLICATION_RESET), (Ending.LOST, Cause.PEER_SILENT)]
)
def test_stream_ends_while_the_target_is_dialled(ending: Ending, cause: Cause) -> None:
    bench = Bench(attached=False)
    bench.data(b"abc")
    bench.ended(ending, cause)
    assert bench.session.calls == [("ended",), ("reset", cause), ("discarded", 3)]
    over(bench, "")


def test_stopped_while_the_target_is_dialled() -> None:
    """The client left, politely: its request still goes out, its answer is read and thrown away."""
    bench = Bench(attached=False)
    bench.data(b"request")
    bench.ended(Ending.EOF)
    bench.stopped()
    bench.attach()
    bench.relay.on_data(b"answer")
    assert bench.socket.reading
    bench.take()
    bench.relay.on_finished()
    assert bench.session.sent == b""
    assert bench.session.calls == [("delivered", 7), ("ended",)]
    over(bench, "leave")


def test_refused_dial() -> None:
    bench = Bench(attached=False)
    bench.data(b"abc")
    bench.relay.close()
    bench.relay.close()
    assert bench.session.calls == [("discarded", 3)]
    over(bench, "")


# Clean ends.


@pytest.mark.failure("F03")
@pytest.mark.failure("F14")
def test_f03_end_of_the_socket_is_forwarded_at_once(bench: Bench) -> None:
    bench.data(b"abc")  # The other direction is busy: that is nobody's business here.
    bench.relay.on_eof()
    assert bench.session.calls == [("finish",)]
    assert bench.session.received_ends == 1
    assert bench.socket.calls == []
    assert bench.open


@pytest.mark.failure("F03")
def test_f03_end_of_the_stream_is_forwarded_at_once(bench: Bench) -> None:
    bench.session.room = 0
    bench.relay.on_data(b"waits")
    bench.data(b"abc")
    bench.ended(Ending.EOF)
    assert bench.socket.calls == ["finish"]
    assert bench.session.calls == []  # Not "ended" before the socket has it.
    bench.take()
    bench.relay.on_finished()
    assert bench.session.calls == [("delivered", 3), ("ended",)]
    assert bench.open


@pytest.mark.failure("F04")
@pytest.mark.parametrize("first", ["socket", "stream"])
def test_f04_directions_end_one_after_the_other(bench: Bench, first: str) -> None:
    def socket_ends() -> None:
        bench.relay.on_data(b"up")
        bench.relay.on_eof()

    def stream_ends() -> None:
        bench.data(b"down")
        bench.ended(Ending.EOF)
        bench.take()
        bench.relay.on_finished()

    steps = [socket_ends, stream_ends] if first == "socket" else [stream_ends, socket_ends]
    steps[0]()
    assert bench.open
    steps[1]()
    assert bench.session.sent == b"up"
    assert sorted(bench.session.calls) == [("delivered", 4), ("ended",), ("finish",)]
    over(bench, "leave")


def test_end_read_while_bytes_are_unsent(bench: Bench) -> None:
    """The end stands behind the bytes, however long they wait."""
    bench.session.room = 1
    bench.relay.on_data(b"abc")
    bench.relay.on_eof()
    assert bench.session.calls == []
    assert bench.session.received_ends == 1
    bench.writable(room=1)
    assert bench.session.calls == []
    bench.writable()
    assert bench.session.sent == b"abc"
    assert bench.session.calls == [("finish",)]
    bench.writable()
    assert bench.session.calls == [("finish",)]
    assert bench.session.received_ends == 1


# Ends that are none.


@pytest.mark.failure("F05")
@pytest.mark.failure("F06")
@pytest.mark.parametrize(("ending", "cause"), [(Ending.RESET, Cause.TARGET_RESET), (Ending.LOST, Cause.TUNNEL_LOST)])
def test_f05_f06_broken_stream_is_a_broken_socket(bench: Bench, ending: Ending, cause: Cause) -> None:
    bench.data(b"abc")
    bench.take(1)
    bench.ended(ending, cause)
    assert bench.session.calls == [("delivered", 1), ("ended",), ("reset", cause), ("discarded", 2)]
    over(bench, "abort")


@pytest.mark.failure("F05")
def test_f05_broken_after_an_end_that_is_still_pending(bench: Bench) -> None:
    """The socket has not been shut down yet, so nobody was promised anything: reset."""
    bench.data(b"abc")
    bench.ended(Ending.EOF)
    bench.relay.on_session_event(events.Abandoned(STREAM, Cause.HALF_CLOSED_TIMEOUT))
    over(bench, "abort")


def test_abandoned_after_the_socket_was_shut_down(bench: Bench) -> None:
    """A reset would throw away bytes that were confirmed."""
    bench.data(b"abc")
    bench.ended(Ending.EOF)
    bench.take()
    bench.relay.on_finished()
    bench.relay.on_session_event(events.Abandoned(STREAM, Cause.HALF_CLOSED_TIMEOUT))
    assert bench.session.calls[-1] == ("reset", Cause.HALF_CLOSED_TIMEOUT)
    over(bench, "close")


@pytest.mark.failure("F05")
def test_f05_broken_socket_is_a_broken_stream(bench: Bench) -> None:
    bench.data(b"abc")
    bench.relay.on_error(Cause.TARGET_RESET)
    expected = [("reset", Cause.TARGET_RESET), ("stop", Cause.TARGET_RESET), ("discarded", 3)]
    assert bench.session.calls == expected
    assert bench.session.received_ends == 0
    over(bench, "")  # It has closed itself.


def test_broken_socket_with_unsent_bytes(bench: Bench) -> None:
    bench.session.room = 0
    bench.relay.on_data(b"abc")
    bench.relay.on_error(Cause.SOCKET_FAILED)
    assert bench.session.calls == [("reset", Cause.SOCKET_FAILED), ("stop", Cause.SOCKET_FAILED)]
    assert bench.closed == 1


# One direction broken, the other well.


@pytest.mark.failure("F08")
def test_f08_stopped(bench: Bench) -> None:
    """Read and thrown away from then on; the other direction goes on to its end."""
    bench.session.room = 0
    bench.relay.on_data(b"unsent")
    bench.stopped()
    assert bench.socket.reading
    assert not bench.relay._unsent
    bench.session.room = 1 << 30
    bench.relay.on_data(b"more")
    bench.writable()
    bench.data(b"down")
    bench.relay.on_eof()
    assert bench.session.sent == b""
    assert bench.session.calls == []
    assert bench.session.received_ends == 0
    assert bench.open
    bench.ended(Ending.EOF)
    bench.take()
    bench.relay.on_finished()
    assert bench.session.calls == [("delivered", 4), ("ended",)]
    over(bench, "leave")


def test_stopped_after_the_other_direction_ended(bench: Bench) -> None:
    bench.ended(Ending.EOF)
    bench.relay.on_finished()
    bench.stopped()
    over(bench, "leave")


def test_stopped_after_the_end_was_forwarded(bench: Bench) -> None:
    bench.relay.on_eof()
    bench.stopped()
    bench.ended(Ending.EOF)
    bench.relay.on_finished()
    assert bench.session.calls == [("finish",), ("ended",)]
    over(bench, "leave")


def test_socket_that_takes_no_more_may_still_end_cleanly(bench: Bench) -> None:
    bench.data(b"abc")
    bench.take(1)
    bench.relay.on_write_error(Cause.TARGET_RESET)
    assert bench.session.calls == [("delivered", 1), ("discarded", 2), ("stop", Cause.TARGET_RESET)]
    bench.data(b"on its way")
    assert bench.open
    bench.relay.on_data(b"last words")
    bench.relay.on_eof()
    assert bench.session.sent == b"last words"
    assert bench.session.calls[-2:] == [("discarded", 10), ("finish",)]
    over(bench, "leave")


def test_socket_that_takes_no_more_after_its_end(bench: Bench) -> None:
    bench.relay.on_eof()
    bench.relay.on_write_error(Cause.TARGET_RESET)
    assert bench.session.calls == [("finish",), ("stop", Cause.TARGET_RESET)]
    over(bench, "leave")


# Refusals and faults.


def test_refusal_is_the_last_word(bench: Bench) -> None:
    bench.relay.refuse(b"no")
    assert bench.socket.written == [b"no"]
    over(bench, "leave")
    bench.relay.refuse(b"no")
    bench.relay.close()
    assert bench.closed == 1


def test_nobody_is_there_to_be_refused(bench: Bench) -> None:
    bench.relay.on_error(Cause.APPLICATION_RESET)
    bench.relay.refuse(b"no")
    assert bench.socket.written == []
    assert bench.closed == 1


@pytest.mark.failure("F21")
def test_f21_abandoned_by_the_driver(bench: Bench) -> None:
    bench.data(b"abc")
    bench.relay.abandon()
    assert bench.session.calls == [("discarded", 3)]
    over(bench, "abort")


@pytest.mark.failure("F21")
def test_f21_abandoned_before_there_is_a_socket() -> None:
    bench = Bench(attached=False)
    bench.data(b"abc")
    bench.relay.abandon()
    assert bench.session.calls == [("discarded", 3)]
    over(bench, "")


# Any order.

STEPS: dict[str, Callable[[Bench], None]] = {
    "data": lambda bench: bench.data(b"12345"),
    "taken": lambda bench: bench.take(min(3, bench.socket.pending_bytes)),
    "all taken": lambda bench: bench.take(),
    "stream ends": lambda bench: bench.ended(Ending.EOF),
    "stream resets": lambda bench: bench.ended(Ending.RESET, Cause.TARGET_RESET),
    "stopped": lambda bench: bench.stopped(),
    "writable": lambda bench: bench.writable(room=4),
    "abandoned": lambda bench: bench.relay.on_session_event(events.Abandoned(STREAM, Cause.IDLE_TIMEOUT)),
    "read": lambda bench: bench.relay.on_data(b"abc"),
    "socket ends": lambda bench: bench.relay.on_eof(),
    "write error": lambda bench: bench.relay.on_write_error(Cause.TARGET_RESET),
    "error": lambda bench: bench.relay.on_error(Cause.TARGET_RESET),
    "attach": lambda bench: bench.attach(),
    "refuse": lambda bench: bench.relay.refuse(b"no"),
    "abandon": lambda bench: bench.relay.abandon(),
}


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=25), st.integers(0, 12))
def test_any_order(steps: list[str], room: int) -> None:
    """Whatever a session and a socket may say in whatever order: every byte is accounted for, every end is told once,
    the socket is left in one way, and the owner hears of it once."""
    bench = Bench(attached=False)
    bench.session.room = room
    attached = stream_over = socket_over = reads_over = finished = writes_over = False
    given_bytes, read = 0, b""
    for step in steps:
        possible = {
            "attach": not attached,
            "data": not stream_over,
            "stream ends": not stream_over,
            "stream resets": not stream_over,
            "taken": attached and not (writes_over or socket_over),
            "all taken": attached and not (writes_over or socket_over),
            "read": attached and bench.socket.reading and not (reads_over or socket_over),
            "socket ends": attached and bench.socket.reading and not (reads_over or socket_over),
            "write error": attached and not (writes_over or socket_over),
            "error": attached and not socket_over,
            "refuse": attached and not stream_over,
        }.get(step, True)
        if not (possible and bench.open) or bench.socket.over:
            continue
        STEPS[step](bench)
        attached |= step == "attach"
        stream_over |= step in ("stream ends", "stream resets")
        reads_over |= step == "socket ends"
        writes_over |= step == "write error"
        socket_over |= step == "error"
        given_bytes += 5 * (step == "data")
        read += b"abc" * (step == "read")
        shut_down = "finish" in bench.socket.calls and not bench.socket.pending_bytes
        if shut_down and attached and bench.open and not (finished or writes_over or bench.socket.over):
            finished = writes_over = True
            bench.relay.on_finished()

    calls = [call[0] for call in bench.session.calls]
    assert read.startswith(bench.session.sent)
    for once in ("finish", "ended"):
        assert calls.count(once) <= 1
    assert bench.session.received_ends <= 1
    if "finish" in calls:
        assert bench.session.sent == read
    assert bench.closed == (STREAM not in bench.driver.handlers)
    if bench.closed:
        assert bench.closed == 1
        assert bench.session.accounted == given_bytes
        if attached and not socket_over:
            assert bench.socket.over
    else:
        assert bench.session.accounted == given_bytes - bench.relay._undelivered_bytes
        assert not bench.socket.over
