"""tunnel.net.driver on a real event loop, between a session and a socket that do what a test says."""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest

from tunnel.engine.port import Address, Transmit
from tunnel.errors import Cause
from tunnel.net.driver import ConnectionEvent, Driver, StreamEvent
from tunnel.net.udp import UdpEndpoint
from tunnel.session import events
from tunnel.session.base import Session
from tunnel.session.events import Ending
from tunnel.target import Target
from tunnel.wire.messages import Direction

PEER: Address = ("192.0.2.1", 4433)
SOON_S = 5.0


class FakeSession:
    """Gives the events and datagrams that a test puts in; what is asked of it is noted."""

    def __init__(self) -> None:
        self.events: deque[events.Event] = deque()
        self.datagrams: deque[bytes] = deque()
        self.timer: float | None = None
        self.calls: list[tuple[Any, ...]] = []
        self.timer_fired = asyncio.Event()
        self.receive_error: Exception | None = None
        self.timer_error: Exception | None = None
        self.poll_error: Exception | None = None
        self.events_polled = 0
        self.drained = asyncio.Event()

    def receive(self, data: bytes, segment_size: int, address: Address, now: float) -> None:
        self.calls.append(("receive", data))
        if self.receive_error is not None:
            raise self.receive_error

    def poll_event(self) -> events.Event | None:
        if self.poll_error is not None:
            error, self.poll_error = self.poll_error, None
            raise error
        self.events_polled += bool(self.events)
        if not self.events:
            self.drained.set()
            return None
        return self.events.popleft()

    def poll_transmit(self, now: float) -> Transmit | None:
        return Transmit(self.datagrams.popleft(), 1200, PEER) if self.datagrams else None

    def get_timer(self) -> float | None:
        return self.timer

    def handle_timer(self, now: float) -> None:
        assert self.timer is not None
        self.calls.append(("timer", now >= self.timer))
        self.timer = None
        self.timer_fired.set()
        if self.timer_error is not None:
            raise self.timer_error

    def reset(self, stream: int, cause: Cause, now: float) -> None:
        self.calls.append(("reset", stream, cause))

    def stop(self, stream: int, cause: Cause, now: float) -> None:
        self.calls.append(("stop", stream, cause))

    def discarded(self, count: int) -> None:
        self.calls.append(("discarded", count))


class FakeUdp:
    """Takes `room` batches, then says that it is full."""

    def __init__(self) -> None:
        self.room = 1_000_000
        self.sent: list[bytes] = []
        self.closed = 0

    def send(self, data: bytes, segment_size: int, address: Address) -> bool:
        assert (segment_size, address) == (1200, PEER)
        self.sent.append(data)
        self.room -= 1
        return self.room > 0

    def close(self) -> None:
        self.closed += 1


class Handler:
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.abandon_error: Exception | None = None
        self.heard: list[StreamEvent] = []
        self.abandoned = 0

    def on_session_event(self, event: StreamEvent) -> None:
        self.heard.append(event)
        if self.errors:
            raise self.errors.pop(0)

    def abandon(self) -> None:
        self.abandoned += 1
        if self.abandon_error is not None:
            raise self.abandon_error


class Bench:
    """A driver and everything around it."""

    def __init__(self) -> None:
        self.session = FakeSession()
        self.udp = FakeUdp()
        self.dialled: list[events.Dial] = []
        self.heard: list[ConnectionEvent] = []
        self.faults: list[Exception] = []
        self.dial_error: Exception | None = None
        self.event_error: Exception | None = None
        self.driver = Driver(
            asyncio.get_running_loop(),
            cast(Session, self.session),
            on_dial=self._on_dial,
            on_connection_event=self._on_connection_event,
            on_fault=self.faults.append,
        )

    def start(self) -> "Bench":
        self.driver.start(cast(UdpEndpoint, self.udp))
        return self

    def _on_dial(self, event: events.Dial) -> None:
        self.dialled.append(event)
        if self.dial_error is not None:
            raise self.dial_error

    def _on_connection_event(self, event: ConnectionEvent) -> None:
        self.heard.append(event)
        if self.event_error is not None:
            raise self.event_error

    async def turn(self, *happening: events.Event) -> None:
        """One run of the driver, with these events."""
        self.session.events.extend(happening)
        self.driver.wake()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> Bench:
    return Bench().start()


def data(stream: int, payload: bytes = b"abc") -> events.Data:
    return events.Data(stream, payload)


async def test_events_go_where_they_belong(bench: Bench) -> None:
    first, second = Handler(), Handler()
    bench.driver.handlers.update({1: first, 2: second})
    dial = events.Dial(3, Target.of("example.test", 80))
    end = events.Ended(2, Ending.EOF, Cause.NONE)
    goaway = events.GoAwayReceived(1)
    await bench.turn(data(1), end, dial, goaway)
    assert first.heard == [data(1)]
    assert second.heard == [end]
    assert bench.dialled == [dial]
    assert bench.heard == [goaway]
    assert bench.faults == []
    assert bench.session.calls == []


async def test_what_happens_before_the_flush_goes_along_with_it(bench: Bench) -> None:
    """Sockets are written to between events and datagrams: what they tell the session needs no turn of its own."""
    happened: list[str] = []

    def before_flush() -> bool:
        if happened or not handler.heard:
            return False
        happened.append("sent")
        bench.session.datagrams.append(b"receipt")
        bench.session.events.append(data(1, b"more"))
        return True

    handler = Handler()
    bench.driver.handlers[1] = handler
    bench.driver.before_flush = before_flush
    await bench.turn(data(1))
    assert bench.udp.sent == [b"receipt"]
    assert handler.heard == [data(1), data(1, b"more")]


async def test_a_flush_in_the_middle_sends_what_is_ready_and_nothing_when_closed(bench: Bench) -> None:
    bench.session.datagrams.append(b"early")
    bench.driver.flush()
    assert bench.udp.sent == [b"early"]
    bench.driver.close()
    bench.session.datagrams.append(b"late")
    bench.driver.flush()
    assert bench.udp.sent == [b"early"]


async def test_a_flush_is_bounded_and_goes_on_in_the_next_turn(bench: Bench) -> None:
    """However much there is to send, the sockets are looked at in between (F21)."""
    many = [bytes([number]) for number in range(200)]
    bench.session.datagrams.extend(many)
    bench.driver.wake()
    seen = []
    while len(bench.udp.sent) < len(many):
        await asyncio.sleep(0)  # One turn of the event loop.
        seen.append(len(bench.udp.sent))
    assert max(after - before for before, after in pairwise([0, *seen])) == 64
    assert bench.udp.sent == many


async def test_bytes_for_a_stream_that_was_let_go_are_accounted_for(bench: Bench) -> None:
    await bench.turn(data(9, b"12345"), events.Ended(9, Ending.EOF, Cause.NONE))
    assert bench.session.calls == [("discarded", 5)]


@pytest.mark.failure("F21")
async def test_f21_handler_that_raises_loses_its_own_stream(bench: Bench) -> None:
    fault = ValueError("a bug")
    broken, well = Handler(fault), Handler()
    bench.driver.handlers.update({1: broken, 2: well})
    await bench.turn(data(1), data(1), data(2))
    assert bench.faults == [fault]
    assert broken.heard == [data(1)]
    assert broken.abandoned == 1
    assert well.heard == [data(2)]
    assert bench.driver.handlers == {2: well}
    ends = [("reset", 1, Cause.INTERNAL), ("stop", 1, Cause.INTERNAL)]
    assert bench.session.calls == [*ends, ("discarded", 3)]
    await bench.turn(data(2))
    assert len(well.heard) == 2


@pytest.mark.failure("F21")
async def test_f21_handler_that_cannot_even_be_abandoned(bench: Bench) -> None:
    broken, well = Handler(ValueError("a bug")), Handler()
    broken.abandon_error = KeyError("another")
    bench.driver.handlers.update({1: broken, 2: well})
    await bench.turn(data(1), data(2))
    assert [type(fault) for fault in bench.faults] == [ValueError, KeyError]
    assert well.heard == [data(2)]
    assert bench.driver.handlers == {2: well}


@pytest.mark.failure("F21")
async def test_f21_dial_that_raises_loses_its_own_stream(bench: Bench) -> None:
    bench.dial_error = ValueError("a bug")
    await bench.turn(events.Dial(3, Target.of("example.test", 80)))
    assert bench.faults == [bench.dial_error]
    assert bench.session.calls == [("reset", 3, Cause.INTERNAL), ("stop", 3, Cause.INTERNAL)]


@pytest.mark.failure("F21")
async def test_f21_observer_that_raises_costs_no_stream(bench: Bench) -> None:
    well = Handler()
    bench.driver.handlers[3] = well
    bench.event_error = ValueError("a bug")
    await bench.turn(events.Rescued(1, 3, Direction.TARGET_TO_CLIENT, 10), data(3))
    assert bench.faults == [bench.event_error]
    assert well.heard == [data(3)]
    assert bench.session.calls == []


@pytest.mark.failure("F21")
async def test_f21_session_that_raises_on_a_datagram(bench: Bench) -> None:
    well = Handler()
    bench.driver.handlers[1] = well
    bench.session.receive_error = ValueError("a bug")
    bench.session.events.append(data(1))
    bench.session.datagrams.append(b"answer")
    bench.driver.on_batch([(b"a", 1200, PEER)])
    assert bench.faults == [bench.session.receive_error]
    assert well.heard == [data(1)]
    assert bench.udp.sent == [b"answer"]


@pytest.mark.failure("F21")
async def test_f21_session_that_raises_on_its_timer(bench: Bench) -> None:
    """The next timer is armed all the same: without it, nothing would be noticed any more."""
    bench.session.timer_error = ValueError("a bug")
    bench.session.timer = bench.driver.now()
    await bench.turn()
    async with asyncio.timeout(SOON_S):
        await bench.session.timer_fired.wait()
        await asyncio.sleep(0)
        assert bench.faults == [bench.session.timer_error]
        bench.session.timer_error = None
        bench.session.timer_fired.clear()
        bench.session.timer = bench.driver.now()
        bench.driver.wake()
        await bench.session.timer_fired.wait()
    assert bench.session.calls == [("timer", True), ("timer", True)]


@pytest.mark.failure("F21")
async def test_f21_session_that_raises_on_an_event(bench: Bench) -> None:
    well = Handler()
    bench.driver.handlers[1] = well
    fault = bench.session.poll_error = ValueError("a bug")
    bench.session.timer = bench.driver.now()
    await bench.turn(data(1))
    assert bench.faults == [fault]
    async with asyncio.timeout(SOON_S):
        await bench.session.timer_fired.wait()
        await asyncio.sleep(0)
    assert well.heard == [data(1)]


@pytest.mark.failure("F21")
async def test_f21_a_turn_is_bounded(bench: Bench) -> None:
    """Sockets get their turn in the middle of a flood of events."""
    seen_by_others: list[int] = []
    await asyncio.sleep(0)
    bench.session.drained.clear()
    bench.session.events.extend(data(1) for _ in range(2000))
    bench.driver.wake()
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: seen_by_others.append(bench.session.events_polled))
    async with asyncio.timeout(SOON_S):
        await bench.session.drained.wait()
    assert 0 < seen_by_others[0] < 1000
    assert bench.session.events_polled == 2000


async def test_datagrams_follow_the_events(bench: Bench) -> None:
    """What a handler makes the session say goes out in the same turn; and what that makes happen is seen to."""

    class Answering(Handler):
        def on_session_event(self, event: StreamEvent) -> None:
            super().on_session_event(event)
            bench.session.datagrams.append(b"answer")

    handler = Answering()
    bench.driver.handlers[1] = handler
    bench.session.events.append(data(1))
    bench.driver.on_batch([(b"question", 1200, PEER)])
    assert bench.session.calls == [("receive", b"question")]
    assert bench.udp.sent == [b"answer"]


async def test_events_that_sending_brings_about(bench: Bench) -> None:
    handler = Handler()
    bench.driver.handlers[1] = handler

    class Flushing(deque[bytes]):
        def popleft(self) -> bytes:
            bench.session.events.append(events.Writable(1))  # Room was made by sending.
            return super().popleft()

    bench.session.datagrams = Flushing([b"datagram"])
    bench.session.events.append(data(1))
    bench.driver.on_batch([])
    assert handler.heard == [data(1), events.Writable(1)]


async def test_many_wakes_are_one_turn(bench: Bench) -> None:
    await asyncio.sleep(0)
    turns = 0

    class Counting(deque[bytes]):
        def __bool__(self) -> bool:
            nonlocal turns
            turns += 1
            return False

    bench.session.datagrams = Counting()
    for _ in range(100):
        bench.driver.wake()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert turns == 1


async def test_full_socket_is_left_alone_until_it_takes_more(bench: Bench) -> None:
    bench.udp.room = 2
    bench.session.datagrams.extend([b"1", b"2", b"3"])
    await bench.turn()
    assert bench.udp.sent == [b"1", b"2"]
    await bench.turn()
    assert bench.udp.sent == [b"1", b"2"]
    bench.udp.room = 10
    bench.driver.on_writable()
    await bench.turn()
    assert bench.udp.sent == [b"1", b"2", b"3"]


async def test_while_the_socket_is_full_what_is_due_keeps_nobody_busy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that has datagrams to send says that its timer is due: without end, if that were taken at its word."""
    armed: list[float] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def note(delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        armed.append(delay_s)
        return call_later(delay_s, call)

    monkeypatch.setattr(loop, "call_later", note)
    bench.udp.room = 1
    bench.session.datagrams.extend([b"1", b"2"])
    bench.session.timer = bench.driver.now() - 1
    await bench.turn()
    assert armed == [0.02]
    bench.udp.room = 10
    bench.driver.on_writable()
    await bench.turn()
    assert bench.udp.sent == [b"1", b"2"]


async def test_timer_is_kept(bench: Bench) -> None:
    """Armed for what the session says now, not for what it said before."""
    bench.session.timer = bench.driver.now() + 3600
    await bench.turn()
    bench.session.timer = bench.driver.now() + 0.05
    await bench.turn()
    async with asyncio.timeout(SOON_S):
        await bench.session.timer_fired.wait()
    assert bench.session.calls == [("timer", True)]


async def test_timer_that_is_withdrawn(bench: Bench) -> None:
    bench.session.timer = bench.driver.now() + 0.05
    await bench.turn()
    bench.session.timer = None
    await bench.turn()
    await asyncio.sleep(0.1)
    assert bench.session.calls == []
    assert bench.faults == []


async def test_before_the_socket_is_there() -> None:
    """A session speaks before its socket exists: what it says waits."""
    bench = Bench()
    bench.session.datagrams.append(b"first")
    await bench.turn(events.ConnectWanted())
    assert bench.heard == [events.ConnectWanted()]
    assert bench.session.datagrams
    bench.start()
    await bench.turn()
    assert bench.udp.sent == [b"first"]


async def test_close(bench: Bench) -> None:
    """What is still to be said is said; then there is silence."""
    bench.session.timer = bench.driver.now() + 0.05
    await bench.turn()
    bench.session.datagrams.append(b"farewell")
    bench.driver.wake()
    bench.driver.close()
    bench.driver.close()
    assert bench.udp.sent == [b"farewell"]
    assert bench.udp.closed == 1
    bench.session.datagrams.append(b"too late")
    bench.driver.wake()
    await asyncio.sleep(0.1)
    assert bench.udp.sent == [b"farewell"]
    assert bench.session.calls == []
