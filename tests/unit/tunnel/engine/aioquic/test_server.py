"""Who is let in, who is not, and that nothing is kept of either afterwards."""

from random import Random

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from tests.sim.network import Link, Network
from tests.sim.pair import CLIENT, SERVER, Pair, Side
from tests.sim.world import World
from tests.unit.tunnel.engine.aioquic.harness import endpoint, quic
from tests.unit.tunnel.engine.harness import SMALL, MakeRealPair, assert_empty, with_limits

from tunnel.engine.aioquic import client_engine, server_engine
from tunnel.engine.aioquic.client import ClientEndpoint
from tunnel.engine.aioquic.endpoint import Endpoint
from tunnel.engine.aioquic.stateless import INITIAL_DATAGRAM_BYTES, destination_id
from tunnel.engine.port import Address, Closed, Connected, Event, Transmit
from tunnel.engine.settings import EngineLimits
from tunnel.errors import Cause

STRANGER: Address = ("198.51.100.7", 9)


class Server:
    """A server's engine that many clients talk to, as a party."""

    def __init__(self, make_pair: MakeRealPair, limits: EngineLimits) -> None:
        self.engine = server_engine(make_pair.certificates.server, limits)
        self.log: list[tuple[int, Event]] = []
        self.receive = self.engine.receive
        self.get_timer = self.engine.get_timer
        self.handle_timer = self.engine.handle_timer
        self.poll_transmit = self.engine.poll_transmit

    def work(self, now: float) -> None:
        while (happened := self.engine.poll_event()) is not None:
            self.log.append(happened)
            if isinstance(happened[1], Connected):
                self.engine.accept(happened[0])

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for _, event in self.log)


class Crowd:
    """One server and many clients, each on an address of its own."""

    def __init__(self, make_pair: MakeRealPair, limits: EngineLimits, clients: int, link: Link = Link()) -> None:  # noqa: B008
        self.world = World(Network(Random(1), link))
        self.server = Server(make_pair, limits)
        self.world.add(SERVER, self.server)
        self.clients = [Side(client_engine(make_pair.certificates.client, SMALL)) for _ in range(clients)]
        for number, side in enumerate(self.clients):
            self.world.add(("192.0.2.1", 50_000 + number), side)

    def connect(self) -> None:
        for side in self.clients:
            side.connect(self.world.now)

    def connected(self) -> list[Side]:
        return [side for side in self.clients if side.connected]


@pytest.mark.failure("F26")
def test_beyond_the_limit_clients_are_refused_in_words_and_the_others_are_served(make_pair: MakeRealPair) -> None:
    crowd = Crowd(make_pair, with_limits(max_connections=3), 10)
    crowd.connect()
    assert crowd.world.run(2, lambda: all(side.connected or side.closed for side in crowd.clients))
    refused = [side.closed for side in crowd.clients if side.closed]
    assert len(crowd.connected()) == 3
    assert {closed.cause for closed in refused} == {Cause.SERVER_BUSY}
    assert all(closed.by_peer and "as many connections" in closed.detail for closed in refused)
    for side in crowd.connected():
        side.close(0, "")
    crowd.world.run(5)
    again = crowd.clients[0]
    again.closed = None
    again.connected = False
    again.connect(crowd.world.now)
    assert crowd.world.run(2, lambda: again.connected), "those who left have made room"


@pytest.mark.failure("F26")
def test_many_unfinished_handshakes_have_to_prove_their_address_first(make_pair: MakeRealPair) -> None:
    crowd = Crowd(make_pair, with_limits(retry_above_handshakes=2, max_connections=50), 20)
    crowd.connect()
    assert crowd.world.run(5, lambda: len(crowd.connected()) == 20)
    retried = [side for side in crowd.clients if quic(side)._retry_count]
    assert len(retried) == 18


def test_a_token_of_somebody_else_is_refused(make_pair: MakeRealPair) -> None:
    pair = make_pair()
    client = endpoint(pair.client)
    assert isinstance(client, ClientEndpoint)
    client._configuration.token = bytes(60)
    pair.client.connect(pair.world.now)
    pair.until(lambda: pair.client.closed is not None, 1)
    assert pair.client.closed is not None
    assert pair.client.closed.cause is Cause.HANDSHAKE_FAILED
    assert "INVALID_TOKEN" in pair.client.closed.detail


@pytest.mark.failure("F26")
@pytest.mark.failure("F20")
def test_a_flood_of_handshakes_that_never_finish_leaves_nothing_and_stops_nobody(make_pair: MakeRealPair) -> None:
    crowd = Crowd(make_pair, with_limits(max_connections=200, retry_above_handshakes=50), 1)
    server = crowd.server.engine
    assert isinstance(server, Endpoint)
    for number in range(100):
        flood = client_engine(make_pair.certificates.client, SMALL)
        flood.connect(SERVER, crowd.world.now)
        first = flood.poll_transmit(crowd.world.now)
        assert first is not None
        server.receive(first.data, first.segment_size, ("198.51.100.7", 10_000 + number), crowd.world.now)
    assert len(server._unfinished) == 50, "the others were asked for their address"
    crowd.connect()
    assert crowd.world.run(1, lambda: len(crowd.connected()) == 1)
    crowd.clients[0].close(0, "")
    crowd.world.run(10)
    assert crowd.server.count(Closed) == 50 + 1
    assert_empty(server)


def test_a_handshake_that_stops_half_way_is_given_up(make_pair: MakeRealPair) -> None:
    pair = make_pair(with_limits(handshake_timeout_s=2.0))
    client = client_engine(make_pair.certificates.client, SMALL)
    client.connect(SERVER, pair.world.now)
    first = client.poll_transmit(pair.world.now)
    assert first is not None
    pair.server.receive(first.data, first.segment_size, STRANGER, pair.world.now)
    started = pair.world.now
    pair.until(lambda: pair.server.closed is not None)
    assert pair.server.closed == Closed(Cause.HANDSHAKE_FAILED, "the handshake took too long", by_peer=False)
    assert pair.world.now == pytest.approx(started + 2.0, abs=0.01)
    pair.run(5)
    assert_empty(endpoint(pair.server))


def test_another_version_is_answered_with_those_we_speak(make_pair: MakeRealPair) -> None:
    pair = make_pair()
    client = endpoint(pair.client)
    assert isinstance(client, ClientEndpoint)
    client._configuration.supported_versions = [QuicProtocolVersion.VERSION_2]
    pair.client.connect(pair.world.now)
    pair.until(lambda: pair.client.closed is not None, 1)
    assert pair.client.closed is not None
    assert pair.client.closed.cause is Cause.HANDSHAKE_FAILED
    assert "version" in pair.client.closed.detail


def test_an_unknown_version_is_answered_by_what_all_versions_share(make_pair: MakeRealPair) -> None:
    pair = make_pair()
    destination, source = bytes(range(20)), bytes(range(100, 105))
    packet = b"\xc0" + b"\x1a\x2a\x3a\x4a" + bytes([20]) + destination + bytes([5]) + source
    pair.server.receive(packet.ljust(INITIAL_DATAGRAM_BYTES, b"\xff"), 1200, STRANGER, pair.world.now)
    answer = pair.server.poll_transmit(pair.world.now)
    assert answer is not None
    assert answer.address == STRANGER
    assert answer.data[1:] == bytes(4) + bytes([5]) + source + bytes([20]) + destination + b"\0\0\0\1"
    assert_empty(endpoint(pair.server))


@pytest.mark.parametrize("length", [INITIAL_DATAGRAM_BYTES - 1, INITIAL_DATAGRAM_BYTES])
def test_a_short_initial_starts_nothing(make_pair: MakeRealPair, length: int) -> None:
    """RFC 9000 section 14.1. The whole datagram counts."""
    pair = make_pair()
    client = client_engine(make_pair.certificates.client, SMALL)
    client.connect(SERVER, pair.world.now)
    first = client.poll_transmit(pair.world.now)
    assert first is not None
    pair.server.receive(first.data[:length], length, STRANGER, pair.world.now)
    assert bool(endpoint(pair.server)._unfinished) == (length >= INITIAL_DATAGRAM_BYTES)


def test_an_initial_that_does_not_decrypt_leaves_nothing_behind(make_pair: MakeRealPair) -> None:
    pair = make_pair()
    client = client_engine(make_pair.certificates.client, SMALL)
    client.connect(SERVER, pair.world.now)
    first = client.poll_transmit(pair.world.now)
    assert first is not None
    damaged = first.data[:100] + bytes([first.data[100] ^ 1]) + first.data[101:]
    pair.server.receive(damaged, len(damaged), STRANGER, pair.world.now)
    assert pair.server.poll_transmit(pair.world.now) is None
    assert_empty(endpoint(pair.server))


def test_answers_to_strangers_are_smaller_than_the_questions(make_pair: MakeRealPair) -> None:
    for limits in (with_limits(max_connections=0), with_limits(retry_above_handshakes=0)):
        server = server_engine(make_pair.certificates.server, limits)
        client = client_engine(make_pair.certificates.client, SMALL)
        client.connect(SERVER, 1.0)
        first = client.poll_transmit(1.0)
        assert first is not None
        server.receive(first.data, first.segment_size, STRANGER, 1.0)
        answer = server.poll_transmit(1.0)
        assert answer is not None
        assert len(answer.data) < len(first.data) / 4


class TestRouting:
    @pytest.mark.parametrize(
        ("datagram", "expected"),
        [
            (b"", b""),
            (b"\x40", b""),
            (b"\x40" + bytes(range(20)), bytes(range(8))),
            (b"\x80", b""),
            (b"\xc0\0\0\0\1\x03abcdef", b"abc"),
            (b"\xc0\0\0\0\1\xffabcdef", b"abcdef"),
        ],
    )
    def test_the_id_of_a_datagram(self, datagram: bytes, expected: bytes) -> None:
        assert destination_id(datagram) == expected

    def test_several_connections_share_a_clients_socket(self, make_pair: MakeRealPair) -> None:
        pair = make_pair()
        client, server = endpoint(pair.client), endpoint(pair.server)
        now = pair.world.now
        numbers = [client.connect(SERVER, now) for _ in range(5)]
        events: list[tuple[int, Event]] = []
        for _ in range(10):
            for source, to, address in ((client, server, CLIENT), (server, client, SERVER)):
                while (transmit := source.poll_transmit(now)) is not None:
                    to.receive(transmit.data, transmit.segment_size, address, now)
            while (happened := client.poll_event()) is not None:
                events.append(happened)
        assert sorted(events, key=lambda entry: entry[0]) == [(number, Connected(SERVER)) for number in numbers]

    def test_numbers_are_never_used_again(self, make_pair: MakeRealPair) -> None:
        pair = make_pair().connect()
        first = pair.client.connection
        pair.client.close(0, "")
        pair.run(3)
        assert endpoint(pair.client).connect(SERVER, pair.world.now) > first

    @pytest.mark.failure("F20")
    def test_connection_ids_come_and_go(self, make_pair: MakeRealPair) -> None:
        pair = make_pair().connect()
        server = endpoint(pair.server)
        before = set(server._routes)
        for _ in range(20):
            quic(pair.client).change_connection_id()
            pair.client.engine.ping(pair.client.connection)
            pair.run(0.3)
        assert len(server._routes) <= len(before) + 1
        assert not set(server._routes) & before - {quic(pair.server).original_destination_connection_id}
        assert {bytes(connection.cid) for connection in quic(pair.server)._host_cids} <= set(server._routes)
        pair.client.close(0, "")
        pair.run(5)
        assert_empty(server)
        assert_empty(endpoint(pair.client))

    def test_an_ipv6_address_with_nothing_to_say_about_scope_is_the_short_one(self, make_pair: MakeRealPair) -> None:
        """Kernels give four fields, people two; aioquic compares them as they are."""
        client = client_engine(make_pair.certificates.client, SMALL)
        server = server_engine(make_pair.certificates.server, SMALL)
        client.connect(("2001:db8::2", 4433, 0, 0), 1.0)
        for _ in range(10):
            while (transmit := client.poll_transmit(1.0)) is not None:
                assert transmit.address == ("2001:db8::2", 4433)
                server.receive(transmit.data, transmit.segment_size, ("2001:db8::1", 1, 0, 0), 1.0)
            while (transmit := server.poll_transmit(1.0)) is not None:
                client.receive(transmit.data, transmit.segment_size, ("2001:db8::2", 4433, 0, 0), 1.0)
        happened = client.poll_event()
        assert happened is not None
        assert happened[1] == Connected(("2001:db8::2", 4433))


class TestClosing:
    @pytest.mark.failure("F19")
    def test_a_close_that_got_lost_is_repeated_when_the_peer_knocks(self, pair: Pair) -> None:
        pair.world.network.unreachable.add(SERVER)
        pair.client.close(0x42, "go away")
        pair.run(0.001)
        pair.world.network.unreachable.clear()
        assert pair.server.closed is None
        pair.server.engine.ping(pair.server.connection)
        pair.until(lambda: pair.server.closed is not None, 0.3)
        assert pair.server.closed == Closed(Cause.TOKEN_REFUSED, "go away", by_peer=True)

    def test_knocks_are_answered_less_and_less(self, pair: Pair) -> None:
        client = endpoint(pair.client)
        link = client._links[pair.client.connection]
        pair.client.close(0, "")
        while client.poll_transmit(pair.world.now):
            pass
        answers = 0
        for _ in range(100):
            client.receive(b"\x40" + link.quic.host_cid + bytes(30), 39, SERVER, pair.world.now)
            while client.poll_transmit(pair.world.now):
                answers += 1
        assert answers == 7  # the 1st, 2nd, 4th, ... 64th

    def test_without_a_knock_it_is_said_once(self, pair: Pair) -> None:
        sent: list[Transmit] = []
        pair.world.network.send = lambda transmit, own, now: sent.append(transmit)  # type: ignore[method-assign]
        pair.client.close(0, "")
        pair.run(5)
        assert_empty(endpoint(pair.client))
        assert len([transmit for transmit in sent if transmit.address == SERVER]) == 1

    @pytest.mark.failure("F20")
    def test_nothing_is_left_after_the_draining_period(self, pair: Pair) -> None:
        for _ in range(5):
            pair.client.write(pair.client.open(), bytes(10_000))
        pair.run(0.5)
        pair.server.close(0x45, "")
        pair.run(5)
        assert_empty(endpoint(pair.client))
        assert_empty(endpoint(pair.server))

    def test_a_long_reason_is_cut_to_fit_a_packet(self, pair: Pair) -> None:
        pair.client.close(0x45, "because\n" * 1000)
        pair.until(lambda: pair.server.closed is not None, 1)
        assert pair.server.closed is not None
        assert pair.server.closed.cause is Cause.INTERNAL
        assert pair.server.closed.detail.startswith("because because")
        assert len(pair.server.closed.detail) <= 200

    def test_what_nobody_has_polled_yet_is_not_reported_after_close(self, pair: Pair) -> None:
        pair.client.write(pair.client.open(), b"x")
        pair.run(0.2)
        server = endpoint(pair.server)
        pair.server.work = lambda now: None  # type: ignore[method-assign]
        pair.client.write(pair.client.open(), b"y")
        pair.run(0.2)
        server.close(pair.server.connection, 0, "")
        happened = server.poll_event()
        assert happened is not None
        assert isinstance(happened[1], Closed)
        assert server.poll_event() is None


def test_a_configuration_is_not_shared_between_connections(make_pair: MakeRealPair) -> None:
    pair = make_pair().connect()
    mine: QuicConfiguration = quic(pair.client).configuration
    client = endpoint(pair.client)
    assert isinstance(client, ClientEndpoint)
    assert mine is not client._configuration
