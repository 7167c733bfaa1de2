"""Both sessions against a peer that says anything, in any pieces: nothing raises, nothing is left over, and how the
bytes were cut changes nothing that the edge hears or the peer gets."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.tunnel.session.conftest import CLIENT, SERVER, TARGET, TOKEN
from tests.unit.tunnel.session.puppet import Deeds, PuppetEngine

from tunnel.engine import port
from tunnel.errors import Cause
from tunnel.session import events
from tunnel.session.base import Session
from tunnel.session.client import ClientSession
from tunnel.session.server import ServerSession
from tunnel.session.settings import SessionSettings
from tunnel.target import Target
from tunnel.wire.codec import encode
from tunnel.wire.messages import (
    VERSION,
    Direction,
    Done,
    End,
    GoAway,
    Hello,
    Kind,
    Open,
    Outcome,
    Ping,
    Pong,
    Reply,
    Taken,
    Welcome,
)

SETTINGS = SessionSettings(max_early_ends=2)
PATIENCE_S = 1000.0
TIMERS_MAX = 2000
STREAMS = 3

HELLO = Hello(VERSION, 0, TOKEN)
WELCOME = Welcome(bytes(8), bytes(16), 256, 0)

qids = st.sampled_from([4, 8, 12])
odd_qids = st.integers(0, 9).map(lambda number: 4 * number) | st.sampled_from([1 << 61])
offsets = st.sampled_from([0, 1, 5, 17, 22])
odd_offsets = st.integers(0, (1 << 62) - 1)
eight_bytes = st.binary(min_size=8, max_size=8)
opens = st.just(Open(Kind.CONNECT, TARGET))
replies = st.builds(Reply, st.sampled_from([0, 0, 0, 1, 6, 0x26, 0x3FFF]), st.none() | st.just(Target.of("::1", 1)))
noise = st.binary(max_size=20)


def controls(direction: Direction) -> st.SearchStrategy[bytes]:
    """Messages that may be right for a peer that receives in `direction`: others end it before anything happens."""
    ends = st.builds(End, qids | odd_qids, offsets | odd_offsets)
    alone = st.one_of(
        ends,
        st.builds(Done, qids, st.just(direction), offsets, st.sampled_from([Outcome.CLOSED, Outcome.RESET])),
        st.builds(Taken, odd_qids, st.just(0)),
        st.builds(GoAway, qids | odd_qids),
        st.builds(Ping, eight_bytes),
        st.builds(Pong, eight_bytes),
    ).map(encode)
    return alone | st.lists(ends, min_size=3, max_size=5).map(lambda some: b"".join(map(encode, some)))


greetings = st.sampled_from([encode(one) for one in (HELLO, WELCOME, Hello(VERSION, 0, b"wrong"), Hello(7, 0, TOKEN))])
wrong_controls = greetings | st.one_of(
    st.builds(Done, qids | odd_qids, st.sampled_from(Direction), offsets | odd_offsets, st.sampled_from(Outcome)),
    st.builds(Taken, qids, offsets | odd_offsets),
    opens | replies,
).map(encode)


@dataclass(frozen=True)
class Piece:
    """Something that the peer does. Bytes of a stream can arrive in pieces of any size (0: in one)."""

    event: port.Event

    def cut(self, size: int) -> Iterator[port.Event]:
        match self.event:
            case port.Data(qid, data, end) if size:
                for start in range(0, len(data), size):
                    yield port.Data(qid, data[start : start + size], end and start + size >= len(data))
                if not data:
                    yield self.event
            case _:
                yield self.event


def data_of(
    qid: st.SearchStrategy[int], parts: st.SearchStrategy[bytes], ends: bool = True
) -> st.SearchStrategy[port.Event]:
    end = st.sampled_from([False, False, False, True]) if ends else st.just(False)
    return st.builds(port.Data, qid, st.lists(parts, max_size=6).map(b"".join), end)


def scripts(receives: Direction, greeting: bytes, heads: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[Piece]]:
    """A greeting, and then what a peer with manners may say, followed by what one without any says."""
    control, codes = st.just(0), st.sampled_from([0x25, 0x26, 0x21, 0x3FFF])
    right, wrong = controls(receives), wrong_controls | noise
    with_head = st.tuples(heads, noise).map(b"".join)
    well_said = st.one_of(
        data_of(control, right, ends=False),
        data_of(control, right, ends=False),
        data_of(qids, heads),
        st.builds(port.Data, qids, with_head, st.booleans()),
        st.builds(port.Reset, qids, codes) | st.builds(port.Stopped, qids, codes),
    )
    badly_said = st.one_of(
        data_of(control, st.one_of(right, wrong)),
        st.builds(port.Data, control, greetings, st.just(False)),
        data_of(qids | st.sampled_from([20, 2]), heads | noise),
        st.builds(port.Stopped, control, codes) | st.builds(port.Reset, control, codes),
    )
    hello = st.just([port.Data(0, greeting, False)])
    early, late = st.lists(data_of(qids, heads), max_size=2), st.lists(well_said, max_size=10)
    strange = st.lists(data_of(control, greetings), max_size=2)
    parts = st.tuples(early, st.one_of(hello, hello, hello, strange), late, st.lists(badly_said, max_size=3))
    return parts.map(lambda script: [Piece(event) for part in script for event in part])


@dataclass
class Edge:
    """Does what an edge does, as soon as it is let: answers dials, takes bytes and ends, has something to say."""

    session: Session
    engine: PuppetEngine
    now: float = 0.0
    log: list[events.Event] = field(default_factory=list)
    ups: set[int] = field(default_factory=set)
    downs: set[int] = field(default_factory=set)
    open_ends: set[int] = field(default_factory=set)
    """Streams that bytes may still come on."""
    left: set[int] = field(default_factory=set)
    """Streams that the edge has no part in any more: what it hears of them was said before it left."""

    def tell(self, number: int, event: port.Event) -> None:
        self.engine.happen(number, event)
        self.session.receive(b"", 0, CLIENT, self.now)

    def work(self) -> None:
        while (event := self.session.poll_event()) is not None:
            self.log.append(event)
            self.answer(event)
        self.session.poll_transmit(self.now)

    def answer(self, event: events.Event) -> None:
        session, now = self.session, self.now
        match event:
            case events.ConnectionUp(number):
                assert number not in self.ups, "a connection comes up once"
                assert number not in self.downs, "one that was put out does not come up"
                self.ups.add(number)
            case events.ConnectionDown(number):
                assert number not in self.downs, "a connection goes down once"
                self.downs.add(number)
            case events.Dial(stream):
                assert isinstance(session, ServerSession)
                self.open_ends.add(stream)
                if stream % 3:
                    session.dialled(stream, None, now)
                    session.send(stream, b"hello", now)
                else:
                    self._leave(stream)
                    session.refused(stream, Cause.CONNECTION_REFUSED, now)
            case events.Replied(stream, Cause.NONE):
                self.open_ends.add(stream)
                session.send(stream, b"hello", now)
            case events.Data(stream, data):
                assert data
                if stream in self.open_ends:
                    session.delivered(stream, len(data), now)
                else:
                    assert stream in self.left, "bytes of a stream that nobody has"
                    session.discarded(len(data))
            case events.Ended(stream) if stream not in self.left:
                self.open_ends.remove(stream)
                session.ended(stream, now)
                session.finish(stream, now)
            case events.Stopped(stream, cause):
                session.reset(stream, cause, now)
            case events.Abandoned(stream):
                self._leave(stream)
            case events.ConnectWanted():
                assert isinstance(session, ClientSession)
                session.connect([SERVER], now)
            case _:
                pass

    def _leave(self, stream: int) -> None:
        self.open_ends.discard(stream)
        self.left.add(stream)

    def grow_old(self) -> None:
        """Timers, until nothing is due any more that the peer's silence brings."""
        end = self.now + PATIENCE_S
        for _ in range(TIMERS_MAX):
            due = self.session.get_timer()
            if due is None or due > end:
                return
            self.now = max(self.now, due)
            self.session.handle_timer(self.now)
            self.work()
        raise AssertionError("it does not come to rest")

    def heard(self) -> list[events.Event]:
        """With bytes that follow each other in one. (Evidence says how much of what nobody reads had arrived.)"""
        joined = list[events.Event]()
        for event in self.log:
            last = joined[-1] if joined else None
            if isinstance(event, events.Data) and isinstance(last, events.Data) and event.stream == last.stream:
                joined[-1] = events.Data(event.stream, last.data + event.data)
            elif not isinstance(event, events.Evidence):
                joined.append(event)
        return joined

    def deeds(self) -> list[Deeds]:
        """What the peers got. What was consumed of a connection that is gone nobody can tell."""
        nobody_knows = Deeds().consumed
        deeds = self.engine.deeds.values()
        return [one if one.closed is None else replace(one, consumed=nobody_knows) for one in deeds]


def server() -> Edge:
    engine = PuppetEngine()
    session = ServerSession(
        engine, {sha256(TOKEN).digest(): "tester"}.get, SETTINGS, instance_id=bytes(16), rng=Random(1), now=0.0
    )
    engine.appear(CLIENT)
    edge = Edge(session, engine)
    edge.tell(1, port.PingAnswered())
    edge.work()
    return edge


def client() -> Edge:
    """With streams that wait for their REPLY. The first connection is 1."""
    engine = PuppetEngine()
    session = ClientSession(engine, SETTINGS, token=TOKEN, rng=Random(1), now=0.0)
    edge = Edge(session, engine)
    edge.work()
    for _ in range(STREAMS):
        session.open(TARGET, b"early", 0.0)
    edge.work()
    return edge


MAKE = {"server": server, "client": client}
SCRIPTS = {
    "server": scripts(Direction.TARGET_TO_CLIENT, encode(HELLO), opens.map(encode)),
    "client": scripts(Direction.CLIENT_TO_TARGET, encode(WELCOME), replies.map(encode)),
}


def play(edge: Edge, script: list[Piece], size: int) -> Edge:
    """The edge acts between the events of the script, never between the pieces of one: its deeds are not the peer's."""
    for piece in script:
        number = edge.engine.alive[0] if edge.engine.alive else 0
        for event in piece.cut(size):
            edge.tell(number, event)
        edge.work()
    return edge


@pytest.mark.failure("F20")
@pytest.mark.parametrize("role", ["server", "client"])
@given(st.data())
def test_whatever_the_peer_says_nothing_raises_and_nothing_is_left(role: str, data: st.DataObject) -> None:
    edge = play(MAKE[role](), data.draw(SCRIPTS[role]), data.draw(st.integers(0, 20)))
    assert len(edge.session._connections) == len(edge.engine.alive)
    for connection in edge.session._connections.values():
        assert connection.control.pending_bytes < 1024 + 16
        assert max(len(connection.early_ends), len(connection.early_dones)) <= SETTINGS.max_early_ends
    edge.grow_old()
    edge.session.close(Cause.SHUTTING_DOWN, edge.now)
    if isinstance(edge.session, ClientSession):
        edge.session.drain(edge.now)
    edge.work()
    assert edge.session.stream_count == 0
    assert edge.session.table_entries()["connections"] == 0
    assert edge.session.ledger.undelivered_bytes == 0
    assert not edge.open_ends, "a stream whose end nobody heard of"


@pytest.mark.parametrize("role", ["server", "client"])
@given(st.data())
def test_how_the_bytes_are_cut_changes_nothing(role: str, data: st.DataObject) -> None:
    script = data.draw(SCRIPTS[role])
    whole = play(MAKE[role](), script, 0)
    cut = play(MAKE[role](), script, data.draw(st.integers(1, 20)))
    assert cut.heard() == whole.heard()
    assert cut.deeds() == whole.deeds()
