"""Who is let in, who is not, and that nothing is kept of either afterwards: every pairing of engines."""

from dataclasses import replace

import pytest
from tests.sim.network import Link
from tests.sim.pair import CLIENT, SERVER, Pair
from tests.unit.tunnel.engine.harness import (
    SMALL,
    STRANGER,
    Crowd,
    MakeRealPair,
    Server,
    assert_empty,
    datagrams,
    first_flight,
    listen,
    transmits,
    with_limits,
)

from tunnel.engine.port import Address, Closed, Connected, Data, Event
from tunnel.errors import Cause

INITIAL_BYTES = 1200
"""The least that the datagram of a first packet has (RFC 9000 section 14.1)."""
MAX_ANSWERS = 1024
"""To strangers, that wait for the socket."""


def is_retry(datagram: bytes) -> bool:
    """RFC 9000 section 17.2.5, version 1."""
    return datagram[0] & 0xF0 == 0xF0 and datagram[1:5] == b"\0\0\0\1"


@pytest.mark.failure("F26")
def test_beyond_the_limit_clients_are_refused_and_the_others_are_served(make_real_pair: MakeRealPair) -> None:
    crowd = Crowd(make_real_pair, with_limits(max_connections=3), 10)
    crowd.connect()
    assert crowd.world.run(2, lambda: all(side.connected or side.closed for side in crowd.clients))
    refused = [side.closed for side in crowd.clients if side.closed]
    assert len(crowd.connected()) == 3
    assert {closed.cause for closed in refused} == {Cause.SERVER_BUSY}
    assert all(closed.by_peer and closed.detail for closed in refused)
    for side in crowd.connected():
        side.close(0, "")
    crowd.world.run(5)
    again = crowd.clients[0]
    again.closed = None
    again.connected = False
    again.connection = 0
    again.connect(crowd.world.now)
    assert crowd.world.run(2, lambda: again.connected), "those who left have made room"


@pytest.mark.failure("F26")
def test_many_unfinished_handshakes_have_to_prove_their_address_first(make_real_pair: MakeRealPair) -> None:
    crowd = Crowd(make_real_pair, with_limits(retry_above_handshakes=2, max_connections=50), 20)
    heard = listen(crowd.world)
    crowd.connect()
    assert crowd.world.run(5, lambda: len(crowd.connected()) == 20)
    crowd.world.run(1)
    assert sum(is_retry(datagram) for own, datagram in heard if own == SERVER) == 18
    assert crowd.server.engine.packets().retries == 18
    assert len(crowd.server.events(Connected)) == 20


@pytest.mark.failure("F26")
def test_while_few_handshakes_are_unfinished_nobody_is_asked(make_real_pair: MakeRealPair) -> None:
    crowd = Crowd(make_real_pair, with_limits(retry_above_handshakes=2, max_connections=50), 2)
    heard = listen(crowd.world)
    for side in crowd.clients * 10:
        side.connection = 0
        side.connect(crowd.world.now)
        assert crowd.world.run(1, lambda side=side: side.connected)  # type: ignore[misc]
        side.close(0, "")
        crowd.world.run(5)
        side.connected, side.closed = False, None
    assert not [datagram for own, datagram in heard if is_retry(datagram)]


@pytest.mark.failure("F26")
@pytest.mark.failure("F20")
def test_a_flood_of_handshakes_that_never_finish_leaves_nothing_and_stops_nobody(make_real_pair: MakeRealPair) -> None:
    limits = with_limits(max_connections=200, retry_above_handshakes=50)
    crowd = Crowd(make_real_pair, limits, 1)
    server, now = crowd.server.engine, crowd.world.now
    asked = 0
    for number in range(100):
        first = first_flight(make_real_pair.client(), now)
        server.receive(first, len(first), ("198.51.100.7", 10_000 + number), now)
        asked += sum(is_retry(datagram) for transmit in transmits(server, now) for datagram in datagrams(transmit))
    assert asked == 50, "the others were let in without proof"
    crowd.connect()
    assert crowd.world.run(1, lambda: len(crowd.connected()) == 1)
    crowd.clients[0].close(0, "")
    crowd.world.run(10)
    assert len(crowd.server.events(Closed)) == 50 + 1
    assert_empty(server)


@pytest.mark.failure("F26")
def test_a_flood_from_forged_addresses_that_nobody_answers_leaves_a_bounded_queue(make_real_pair: MakeRealPair) -> None:
    """While the socket takes nothing. Who asked in earnest asks again."""
    server, now = make_real_pair.server(with_limits(retry_above_handshakes=0)), 1.0
    first = first_flight(make_real_pair.client(), now)
    for number in range(3 * MAX_ANSWERS):
        server.receive(first, len(first), (f"198.51.{100 + number % 100}.7", 10_000 + number), now)
    assert server.packets().retries == MAX_ANSWERS
    waiting = transmits(server, now)
    assert len(waiting) == MAX_ANSWERS
    assert all(is_retry(transmit.data) for transmit in waiting)
    assert_empty(server)


@pytest.mark.failure("F26")
def test_a_proof_of_an_address_is_good_for_that_one_only(make_real_pair: MakeRealPair) -> None:
    client, server, now = make_real_pair.client(), make_real_pair.server(with_limits(retry_above_handshakes=0)), 1.0
    first = first_flight(client, now)
    server.receive(first, len(first), CLIENT, now)
    [asked] = transmits(server, now)
    client.receive(asked.data, asked.segment_size, SERVER, now)
    [proving] = transmits(client, now)
    server.receive(proving.data, proving.segment_size, STRANGER, now)
    assert sum(len(transmit.data) for transmit in transmits(server, now)) < INITIAL_BYTES / 4, "it is let in"
    assert_empty(server)
    server.receive(proving.data, proving.segment_size, CLIENT, now)
    assert sum(len(transmit.data) for transmit in transmits(server, now)) > INITIAL_BYTES / 4
    assert server.get_timer() is not None


def test_a_handshake_that_stops_half_way_is_given_up(make_real_pair: MakeRealPair) -> None:
    pair = make_real_pair(with_limits(handshake_timeout_s=2.0))
    first = first_flight(make_real_pair.client(), pair.world.now)
    pair.server.receive(first, len(first), STRANGER, pair.world.now)
    started = pair.world.now
    pair.until(lambda: pair.server.closed is not None)
    assert pair.server.closed == Closed(Cause.HANDSHAKE_FAILED, "the handshake took too long", by_peer=False)
    assert pair.world.now == pytest.approx(started + 2.0, abs=0.01)
    pair.run(5)
    assert_empty(pair.server.engine)


def test_a_client_gives_up_and_says_why(make_real_pair: MakeRealPair) -> None:
    pair = make_real_pair(with_limits(handshake_timeout_s=2.0), Link(loss=1.0))
    started = pair.world.now
    pair.client.connect(started)
    pair.until(lambda: pair.client.closed is not None)
    assert pair.client.closed == Closed(Cause.HANDSHAKE_FAILED, "the handshake took too long", by_peer=False)
    assert pair.world.now == pytest.approx(started + 2.0, abs=0.05)
    pair.run(5)
    assert_empty(pair.client.engine)


@pytest.mark.parametrize("away", [CLIENT, SERVER])
def test_a_first_packet_that_got_lost_is_repeated_soon(make_real_pair: MakeRealPair, away: Address) -> None:
    """In time for several tries before the handshake is given up."""
    pair = make_real_pair()
    pair.world.network.unreachable.add(away)
    pair.world.after(0.05, pair.world.network.unreachable.clear)
    started = pair.world.now
    pair.client.connect(started)
    pair.until(lambda: pair.client.connected)
    assert pair.world.now - started < 0.5


def test_a_handshake_that_is_complete_is_not_given_up_because_its_process_slept(make_real_pair: MakeRealPair) -> None:
    """Whoever wakes up late may hand in datagrams and run timers before asking what happened."""
    client, server, now = make_real_pair.client(), make_real_pair.server(), 1.0
    client.connect(SERVER, now)
    for _ in range(10):
        for source, to, address in ((client, server, CLIENT), (server, client, SERVER)):
            for transmit in transmits(source, now):
                to.receive(transmit.data, transmit.segment_size, address, now)
    for engine in (client, server):
        engine.handle_timer(now + 2 * SMALL.handshake_timeout_s)
        events = [happened[1] for happened in iter(engine.poll_event, None)]
        assert [type(event) for event in events] == [Connected]


def test_an_unknown_version_is_answered_by_what_all_versions_share(make_real_pair: MakeRealPair) -> None:
    """RFC 8999 section 6. quinn adds versions of its drafts, and one that nobody speaks (RFC 9000 section 15)."""
    pair = make_real_pair()
    destination, source = bytes(range(20)), bytes(range(100, 105))
    packet = b"\xc0" + b"\x1a\x2a\x3a\x4b" + bytes([20]) + destination + bytes([5]) + source
    pair.server.receive(packet.ljust(INITIAL_BYTES, b"\xff"), 1200, STRANGER, pair.world.now)
    answer = pair.server.poll_transmit(pair.world.now)
    assert answer is not None
    assert answer.address == STRANGER
    ids = bytes([5]) + source + bytes([20]) + destination
    assert answer.data[0] & 0x80
    assert answer.data[1:].startswith(bytes(4) + ids)
    versions = answer.data[1 + 4 + len(ids) :]
    assert b"\0\0\0\1" in [versions[at : at + 4] for at in range(0, len(versions), 4)]
    assert_empty(pair.server.engine)


@pytest.mark.parametrize("length", [INITIAL_BYTES - 1, INITIAL_BYTES])
def test_a_short_initial_starts_nothing(make_real_pair: MakeRealPair, length: int) -> None:
    """RFC 9000 section 14.1. The whole datagram counts."""
    server = make_real_pair.server()
    first = first_flight(make_real_pair.client(), 1.0)
    server.receive(first[:length], length, STRANGER, 1.0)
    assert bool(transmits(server, 1.0)) == (length >= INITIAL_BYTES)
    assert (server.get_timer() is not None) == (length >= INITIAL_BYTES)


def test_an_initial_that_does_not_decrypt_leaves_nothing_behind(make_real_pair: MakeRealPair) -> None:
    server = make_real_pair.server()
    first = first_flight(make_real_pair.client(), 1.0)
    damaged = first[:100] + bytes([first[100] ^ 1]) + first[101:]
    server.receive(damaged, len(damaged), STRANGER, 1.0)
    assert server.poll_transmit(1.0) is None
    assert server.poll_event() is None
    assert_empty(server)


def test_answers_to_strangers_are_smaller_than_the_questions(make_real_pair: MakeRealPair) -> None:
    for limits in (with_limits(max_connections=0), with_limits(retry_above_handshakes=0)):
        server = make_real_pair.server(limits)
        first = first_flight(make_real_pair.client(), 1.0)
        server.receive(first, len(first), STRANGER, 1.0)
        answer = server.poll_transmit(1.0)
        assert answer is not None
        assert len(answer.data) < len(first) / 4


def test_who_does_not_prove_its_address_gets_three_times_what_it_sent_at_most(make_real_pair: MakeRealPair) -> None:
    """RFC 9000 section 8.1: else a forged address would be flooded by us. (quinn finishes the last datagram.)"""
    server, now = make_real_pair.server(), 1.0
    first = first_flight(make_real_pair.client(), now)
    server.receive(first, len(first), STRANGER, now)
    sent = 0
    while now < 1.0 + SMALL.handshake_timeout_s:
        sent += sum(len(transmit.data) for transmit in transmits(server, now))
        server.handle_timer(now)
        now += 0.05
    assert 0 < sent < 3 * len(first) + INITIAL_BYTES


def test_a_server_with_nobody_there_asks_for_nothing(make_real_pair: MakeRealPair) -> None:
    engine = make_real_pair.server()
    assert engine.poll_transmit(1.0) is None
    assert engine.poll_event() is None
    engine.handle_timer(1.0)
    assert_empty(engine)


class TestConnections:
    def test_several_share_a_clients_socket(self, make_real_pair: MakeRealPair) -> None:
        client, server, now = make_real_pair.client(), make_real_pair.server(), 1.0
        numbers = [client.connect(SERVER, now) for _ in range(5)]
        events: list[tuple[int, Event]] = []
        for _ in range(10):
            for source, to, address in ((client, server, CLIENT), (server, client, SERVER)):
                for transmit in transmits(source, now):
                    to.receive(transmit.data, transmit.segment_size, address, now)
            while (happened := client.poll_event()) is not None:
                events.append(happened)
        assert sorted(events, key=lambda entry: entry[0]) == [(number, Connected(SERVER)) for number in numbers]

    def test_numbers_are_never_used_again(self, make_real_pair: MakeRealPair) -> None:
        pair = make_real_pair().connect()
        before = pair.client.connection
        server = Server(pair.server.engine)
        pair.world.add(SERVER, server)
        pair.client.close(0, "")
        pair.run(5)
        for _ in range(3):
            pair.client.connection, pair.client.closed = 0, None
            pair.client.connect(pair.world.now)
            assert pair.client.connection > before
            before = pair.client.connection
            pair.run(0.2)
            pair.client.close(0, "")
            pair.run(5)
        numbers = [number for number, event in server.log if isinstance(event, Connected)]
        assert len(set(numbers)) == 3
        assert min(numbers) > pair.server.connection

    @pytest.mark.failure("F20")
    def test_hundreds_one_after_the_other_leave_nothing(self, make_real_pair: MakeRealPair) -> None:
        crowd = Crowd(make_real_pair, SMALL, 1, Link(delay_s=0.001))
        (side,) = crowd.clients
        for _ in range(200):
            side.connection, side.connected, side.closed = 0, False, None
            side.connect(crowd.world.now)
            crowd.world.run(1, lambda: side.connected)
            side.write(side.open(), bytes(2000), end=True)
            crowd.world.run(0.01)
            side.close(0, "")
            crowd.world.run(0.01)
        crowd.world.run(10)
        assert len(crowd.server.events(Closed)) == 200
        assert sum(len(event.data) for event in crowd.server.events(Data) if isinstance(event, Data)) == 200 * 2000
        assert_empty(crowd.server.engine)
        assert_empty(side.engine)

    def test_an_ipv6_address_with_nothing_to_say_about_scope_is_the_short_one(
        self, make_real_pair: MakeRealPair
    ) -> None:
        """Kernels give four fields, people two."""
        client, server = make_real_pair.client(), make_real_pair.server()
        client.connect(("2001:db8::2", 4433, 0, 0), 1.0)
        for _ in range(10):
            for transmit in transmits(client, 1.0):
                assert transmit.address == ("2001:db8::2", 4433)
                server.receive(transmit.data, transmit.segment_size, ("2001:db8::1", 1, 0, 0), 1.0)
            for transmit in transmits(server, 1.0):
                client.receive(transmit.data, transmit.segment_size, ("2001:db8::2", 4433, 0, 0), 1.0)
        happened = client.poll_event()
        assert happened is not None
        assert happened[1] == Connected(("2001:db8::2", 4433))


class TestClosing:
    @pytest.mark.failure("F19")
    def test_a_close_that_got_lost_is_repeated_when_the_peer_knocks(self, real_pair: Pair) -> None:
        pair = real_pair
        pair.world.network.unreachable.add(SERVER)
        pair.client.close(0x42, "go away")
        pair.run(0.001)
        pair.world.network.unreachable.clear()
        assert pair.server.closed is None
        pair.server.engine.ping(pair.server.connection)
        pair.until(lambda: pair.server.closed is not None, 0.3)
        assert pair.server.closed == Closed(Cause.TOKEN_REFUSED, "go away", by_peer=True)

    def test_without_a_knock_it_is_said_once(self, real_pair: Pair) -> None:
        heard = listen(real_pair.world)
        real_pair.world.network.unreachable |= {CLIENT, SERVER}
        real_pair.client.close(0, "")
        real_pair.run(5)
        assert_empty(real_pair.client.engine)
        assert len([own for own, _ in heard if own == CLIENT]) == 1

    def test_it_does_not_wait_behind_data(self, make_real_pair: MakeRealPair) -> None:
        """With the congestion window full of bytes that nobody acknowledges any more."""
        pair = make_real_pair(with_limits(max_streams=64, greeting_streams=64, send_cap_bytes=1 << 20)).connect()
        pair.world.network.unreachable.add(CLIENT)
        for _ in range(20):
            pair.client.write(pair.client.open(), bytes(64_000))
        pair.run(0.1)
        pair.client.close(0x42, "go away")
        pair.until(lambda: pair.server.closed is not None, 0.1)
        assert pair.server.closed is not None
        assert pair.server.closed.cause is Cause.TOKEN_REFUSED

    @pytest.mark.failure("F20")
    def test_nothing_is_left_after_the_draining_period(self, real_pair: Pair) -> None:
        pair = real_pair
        for _ in range(5):
            pair.client.write(pair.client.open(), bytes(10_000))
        pair.run(0.5)
        pair.server.close(0x45, "")
        pair.run(5)
        assert_empty(pair.client.engine)
        assert_empty(pair.server.engine)

    def test_a_long_reason_is_cut_to_fit_a_packet(self, real_pair: Pair) -> None:
        pair = real_pair
        pair.client.close(0x45, "because\n" * 1000)
        pair.until(lambda: pair.server.closed is not None, 1)
        assert pair.server.closed is not None
        assert pair.server.closed.cause is Cause.INTERNAL
        assert pair.server.closed.detail.startswith("because because")
        assert len(pair.server.closed.detail) <= 200

    @pytest.mark.parametrize("when", ["connecting", "connected"])
    def test_what_nobody_has_polled_yet_is_not_reported_after_close(
        self, make_real_pair: MakeRealPair, when: str
    ) -> None:
        pair = make_real_pair(replace(SMALL, handshake_timeout_s=10))
        if when == "connected":
            pair.connect()
            for _ in range(2):
                pair.client.write(pair.client.open(), b"x")
            pair.run(0.2)
            side, other = pair.server, pair.client
        else:
            pair.client.connect(pair.world.now)
            side, other = pair.client, pair.server
        side.work = lambda now: None  # type: ignore[method-assign]
        if when == "connected":
            other.write(0, b"y")
            other.write(4, b"y", end=True)
            other.write(other.open(), b"z")
            other.reset(4, 1)
        pair.run(0.2)
        side.close(0, "")
        happened = side.engine.poll_event()
        assert happened is not None
        assert isinstance(happened[1], Closed)
        assert side.engine.poll_event() is None
        pair.run(5)
        assert side.engine.poll_event() is None
