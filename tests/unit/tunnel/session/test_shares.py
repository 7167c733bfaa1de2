"""tunnel.session.shares: who counts against what, and that nothing is left of who has left."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.model_engine import ModelEngine
from tests.unit.tunnel.session.conftest import TARGET, TOKEN, Edge, Pair
from tests.unit.tunnel.session.test_sessions import quiet, server_session

from tunnel.engine.port import Address
from tunnel.errors import Cause
from tunnel.session import events
from tunnel.session.client import ClientSession
from tunnel.session.connection import Connection, State
from tunnel.session.liveness import Liveness
from tunnel.session.settings import ClientLimits, SessionSettings
from tunnel.session.shares import Limit, Shares, network_of
from tunnel.wire.messages import VERSION, Hello

pytestmark = pytest.mark.failure("F26")

MakePair = Callable[..., Pair]
ONE: Address = ("192.0.2.1", 1)


def connection(number: int = 1) -> Connection:
    return Connection(number, State.GREETING, Liveness(SessionSettings(), 0.0), 0.0)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (("192.0.2.1", 7), "192.0.2.1"),
        (("::ffff:192.0.2.1", 7, 0, 0), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 7), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::", 7, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 7, 0, 2), "fe80::/64"),
    ],
)
def test_f26_what_stands_for_an_address(address: Address, network: str) -> None:
    assert network_of(address) == network


DEEDS = st.lists(
    st.tuples(st.sampled_from(["come", "greet", "open", "open", "retire", "leave"]), st.integers(0, 5)), max_size=60
)


@given(DEEDS)
def test_f26_whatever_they_do_the_count_is_what_is_there(deeds: list[tuple[str, int]]) -> None:
    """Six connections of three addresses and two tokens; each count is taken again from what is there."""
    limits = ClientLimits(
        max_connections_per_token=2,
        max_connections_per_address=1,
        max_streams_per_token=3,
        max_streams_per_address=2,
    )
    shares, here, known = Shares(limits), dict[int, Connection](), dict[int, str]()
    for deed, number in deeds:
        one = here.get(number)
        address, token = f"192.0.2.{number % 3}", f"token {number % 2}"
        if deed == "come" and one is None:
            one = connection(number)
            full = any(other % 3 == number % 3 for other in here)
            limit = shares.join_address(one, (address, 1))
            assert limit is (Limit.CONNECTIONS_OF_ADDRESS if full else None)
            if not full:
                here[number] = one
        elif one is None:
            continue
        elif deed == "greet" and number not in known:
            full = list(known.values()).count(token) == 2
            assert shares.join_token(one, token) is (Limit.CONNECTIONS_OF_TOKEN if full else None)
            if not full:
                known[number] = token
        elif deed == "open":
            shares.stream_opened(one)
            mine = sum(each.counted_streams for other, each in here.items() if known.get(other) == token)
            over = one.counted_streams > 2, number in known and mine > 3
            expected = {Limit.STREAMS_OF_ADDRESS: over[0], Limit.STREAMS_OF_TOKEN: over[1]}
            found = shares.exceeded(one)
            assert expected[found] if found else not any(over)
        elif deed == "retire" and one.counted_streams:
            shares.stream_retired(one)
        elif deed == "leave":
            shares.leave(here.pop(number))
            known.pop(number, None)
        assert sum(share.streams for share in shares if share.key[0] == "address") == sum(
            each.counted_streams for each in here.values()
        )
    for one in here.values():
        shares.leave(one)
    assert len(shares) == 0


def test_f26_connections_count_until_they_leave() -> None:
    shares = Shares(ClientLimits(max_connections_per_token=2, max_connections_per_address=3))
    several = [connection(number) for number in range(4)]
    assert [shares.join_address(one, ("2001:db8::1", n)) for n, one in enumerate(several)] == [
        *(None, None, None),
        Limit.CONNECTIONS_OF_ADDRESS,
    ]
    assert shares.join_address(connection(), ("2001:db8:0:1::1", 1)) is None, "the next network"
    assert shares.join_token(several[0], "alice") is None
    assert shares.join_token(several[1], "alice") is None
    assert shares.join_token(several[2], "alice") is Limit.CONNECTIONS_OF_TOKEN
    assert shares.join_token(several[2], "2001:db8::/64") is None, "a name may look like a network"
    shares.leave(several[0])
    assert shares.join_token(several[3], "alice") is None


def test_f26_streams_count_for_all_connections_of_a_client_together() -> None:
    shares = Shares(ClientLimits(max_streams_per_token=3, max_streams_per_address=2))
    one, other, stranger = (connection(number) for number in range(3))
    shares.join_address(one, ONE)
    shares.join_address(other, ("192.0.2.2", 1))
    shares.join_address(stranger, ONE)
    shares.stream_opened(one)  # Before its token is known.
    for greeted in (one, other):
        shares.join_token(greeted, "alice")
    shares.stream_opened(one)
    assert shares.exceeded(one) is None
    shares.stream_opened(stranger)
    assert shares.exceeded(stranger) is Limit.STREAMS_OF_ADDRESS
    shares.stream_opened(other)
    assert shares.exceeded(other) is None
    shares.stream_opened(other)
    assert shares.exceeded(other) is Limit.STREAMS_OF_TOKEN
    shares.stream_retired(other)
    shares.leave(stranger)
    assert shares.exceeded(one) is shares.exceeded(other) is None


@pytest.mark.failure("F20")
@pytest.mark.parametrize("seed", range(20))
def test_f20_nothing_is_left_of_who_has_left(seed: int) -> None:
    rng = Random(seed)
    shares = Shares(ClientLimits(5, 5, 5, 5))
    here: list[Connection] = []
    for number in range(500):
        act = rng.randrange(5)
        one = rng.choice(here) if here else None
        if act == 0 or one is None:
            here.append(connection(number))
            shares.join_address(here[-1], (f"192.0.2.{rng.randrange(3)}", 1))
        elif act == 1 and len(one.shares) < 2:
            shares.join_token(one, rng.choice("abc"))
        elif act == 2:
            shares.stream_opened(one)
        elif act == 3 and one.counted_streams:
            shares.stream_retired(one)
        elif act == 4:
            here.remove(one)
            shares.leave(one)
    assert len(shares) <= 6
    for one in here:
        shares.leave(one)
    assert len(shares) == 0


class TestAServer:
    """Its sessions, on virtual time."""

    @staticmethod
    def limit(pair: Pair, **limits: int) -> Shares:
        server_session(pair)._shares = Shares(ClientLimits(**limits))
        return server_session(pair)._shares

    @staticmethod
    def leave(pair: Pair, client: Edge) -> None:
        """At once, and for good."""
        assert isinstance(client.session, ClientSession)
        client.session.drain(pair.world.now)
        client.session.close(Cause.NONE, pair.world.now)

    def test_f26_a_request_too_many_is_answered_and_makes_no_dial(self, make_pair: MakePair) -> None:
        pair = make_pair()
        shares = self.limit(pair, max_streams_per_token=3)
        first, *_ = [pair.open() for _ in range(3)]
        assert isinstance(pair.client.session, ClientSession)
        fourth = pair.client.session.open(TARGET, b"early bytes", pair.world.now)
        assert pair.run(2, lambda: events.Replied(fourth, Cause.LIMIT_REACHED) in pair.client.log)
        assert len(pair.server.of(events.Dial)) == 3
        [reached] = pair.server.of(events.LimitReached)
        assert isinstance(reached, events.LimitReached)
        assert (reached.limit, reached.most, reached.peer_name) == (Limit.STREAMS_OF_TOKEN, 3, "tester")
        pair.run(1)
        for edge, stream in zip((pair.client, pair.server), first, strict=True):
            edge.session.finish(stream, pair.world.now)
        assert pair.run(2, lambda: len(pair.server.endings) == 1)
        pair.run(1)
        pair.open()
        for edge in (pair.client, pair.server):
            for stream in list(edge.session._streams):
                edge.session.finish(stream, pair.world.now)
        assert pair.run(5, lambda: quiet(pair))
        assert [share.streams for share in shares] == [0, 0]

    @pytest.mark.parametrize("limit", [Limit.CONNECTIONS_OF_TOKEN, Limit.CONNECTIONS_OF_ADDRESS])
    def test_f26_a_connection_too_many_is_told_so_and_comes_in_when_there_is_room(
        self, make_pair: MakePair, limit: Limit
    ) -> None:
        pair = make_pair()
        name = "max_connections_per_token" if limit is Limit.CONNECTIONS_OF_TOKEN else "max_connections_per_address"
        shares = self.limit(pair, **{name: 1})
        first, dialled = pair.open()
        before = pair.client
        self.add_client(pair)
        late = pair.client
        assert pair.run(2, lambda: bool(late.of(events.ConnectionDown)))
        [down, *_] = late.of(events.ConnectionDown)
        assert isinstance(down, events.ConnectionDown)
        assert (down.cause, down.was_up) == (Cause.TOO_MANY_CONNECTIONS, False)
        assert isinstance(late.session, ClientSession)
        waiting = late.session.open(TARGET, b"", pair.world.now)
        [reached, *_] = pair.server.of(events.LimitReached)
        assert isinstance(reached, events.LimitReached)
        assert reached.limit is limit
        assert reached.peer_name == ("tester" if limit is Limit.CONNECTIONS_OF_TOKEN else None)
        before.session.send(first, b"not disturbed", pair.world.now)
        assert pair.run(1, lambda: pair.server.received.get(dialled) == b"not disturbed")
        self.leave(pair, before)
        assert pair.run(5, lambda: events.Replied(waiting, Cause.NONE) in late.log), "it has tried again and again"
        self.leave(pair, late)
        assert pair.run(5, lambda: len(shares) == 0)

    @staticmethod
    def add_client(pair: Pair) -> None:
        """Another client at the same address, with the same token."""
        engine = ModelEngine(True, pair.limits, Random(20), pair.faults)
        session = ClientSession(engine, pair.settings, token=TOKEN, rng=Random(30), now=pair.world.now)
        pair.client = Edge(pair.world, session)
        pair.world.add(("192.0.2.1", 50_001), pair.client)

    def test_f26_a_second_hello_behind_one_that_was_refused_counts_for_nothing(
        self, make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair = make_pair()
        shares = self.limit(pair)

        def greet(self: ClientSession, connection: Connection) -> None:
            connection.state = State.GREETING
            assert self._engine.open(connection.number) == 0
            for token in (b"wrong", TOKEN):
                self._tell(connection, Hello(VERSION, 0, token))

        monkeypatch.setattr(ClientSession, "_on_connected", greet)
        assert pair.run(2, lambda: bool(pair.client.of(events.ConnectionDown)))
        assert not pair.server.of(events.ConnectionUp)
        assert len(shares) == 0

    def test_f26_what_was_sent_before_the_refusal_is_replayed(self, make_pair: MakePair) -> None:
        """A request on a connection that is one too many was not acted on: it waits for another one."""
        pair = make_pair()
        self.limit(pair, max_connections_per_token=1)
        pair.open()
        before = pair.client
        self.add_client(pair)
        late = pair.client
        assert isinstance(late.session, ClientSession)
        waiting = late.session.open(TARGET, b"kept", pair.world.now)
        assert pair.run(2, lambda: bool(late.of(events.ConnectionDown)))
        self.leave(pair, before)
        assert pair.run(5, lambda: events.Replied(waiting, Cause.NONE) in late.log)
        assert pair.run(1, lambda: b"kept" in pair.server.received.values())


def test_f26_the_token_is_in_no_event(pair: Pair) -> None:
    pair.open()
    assert TOKEN.decode() not in str(pair.server.log)
