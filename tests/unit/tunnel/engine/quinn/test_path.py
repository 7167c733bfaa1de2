"""The path of a connection of quinn's: its size, its address, and keys that change on the way."""

from random import Random

import pytest
from aioquic.tls import Epoch
from tests.sim.network import Link
from tests.sim.pair import CLIENT, Pair
from tests.unit.tunnel.engine.aioquic.harness import quic
from tests.unit.tunnel.engine.harness import Certificates, MakeRealPair, listen, payload, transmits

from tunnel.engine.port import Address, Stats, Transmit
from tunnel.engine.settings import MIB

BODY = payload(2 * MIB)


def stats_of(pair: Pair) -> tuple[Stats, Stats]:
    client = pair.client.engine.stats(pair.client.connection)
    server = pair.server.engine.stats(pair.server.connection)
    assert client is not None
    assert server is not None
    return client, server


def download(pair: Pair, within_s: float = 60) -> None:
    stream = pair.client.open()
    pair.client.write(stream, b"GET", end=True)
    pair.until_ended(pair.server, stream)
    pair.server.write(stream, BODY, end=True)
    assert pair.until_ended(pair.client, stream, within_s) == BODY


class TestSize:
    @pytest.mark.parametrize("carried", [1200, 1252, 1472, 8972, 16_384, 65_000])
    def test_it_grows_to_what_the_path_carries(self, make_pair: MakeRealPair, carried: int) -> None:
        """From 1,200, by probes whose loss costs nothing; to within 40 bytes, where quinn stops looking."""
        pair = make_pair(link=Link(mtu_bytes=carried)).connect()
        download(pair)
        pair.run(5)
        largest = min(carried, 16_384)
        for stats in stats_of(pair):
            assert max(1200, largest - 40) <= stats.datagram_bytes <= largest

    def test_a_probe_that_is_lost_is_no_sign_of_congestion(self, make_pair: MakeRealPair) -> None:
        pair = make_pair(link=Link(mtu_bytes=1472)).connect()
        before = stats_of(pair)[0].congestion_window_bytes
        pair.run(10)
        client, _ = stats_of(pair)
        assert client.datagram_bytes >= 1452
        assert client.congestion_window_bytes >= before

    @pytest.mark.parametrize(("before", "after"), [(9000, 1472), (16_384, 1300), (1472, 1200)])
    def test_a_path_that_carries_less_all_at_once_is_survived(
        self, make_pair: MakeRealPair, before: int, after: int
    ) -> None:
        """As when a route changes to one with a tunnel in it."""
        pair = make_pair(link=Link(mtu_bytes=before)).connect()
        download(pair)
        pair.run(2)
        assert stats_of(pair)[1].datagram_bytes > after
        pair.world.network.link = Link(mtu_bytes=after)
        download(pair)
        assert stats_of(pair)[1].datagram_bytes <= after

    def test_ipv6_has_longer_headers(self, make_pair: MakeRealPair) -> None:
        server: Address = ("2001:db8::2", 4433)
        client: Address = ("2001:db8::1", 50_000)
        connecting, answering = make_pair.client(path_mtu=lambda address: 1500), make_pair.server()
        now, longest = 1.0, 0
        number = connecting.connect(server, now)
        for _ in range(200):
            for source, to, address in ((connecting, answering, client), (answering, connecting, server)):
                for transmit in transmits(source, now):
                    longest = max(longest, transmit.segment_size if source is connecting else 0)
                    to.receive(transmit.data, transmit.segment_size, address, now)
            now += 0.02
            for engine in (connecting, answering):
                engine.handle_timer(now)
                while engine.poll_event() is not None:
                    pass
        assert connecting.stats(number) is not None
        assert 1452 - 40 <= longest <= 1452


class TestMigration:
    def test_a_client_that_moves_again_and_again_loses_nothing(self, pair: Pair) -> None:
        stream = pair.client.open()
        pair.client.write(stream, BODY, end=True)
        moves = 0
        while stream not in pair.server.ended:
            moves += 1
            pair.world.network.rebind(CLIENT, ("203.0.113.9", 40_000 + moves))
            pair.run(0.15)
            assert moves < 500
        assert pair.server.received[stream] == BODY
        assert moves > 2
        pair.server.write(stream, BODY, end=True)
        assert pair.until_ended(pair.client, stream) == BODY

    def test_a_new_address_has_to_answer_before_much_is_sent_there(self, pair: Pair) -> None:
        """RFC 9000 section 9.3: else a client could have us flood somebody."""
        stream = pair.client.open()
        pair.client.write(stream, b"GET")
        pair.until_received(pair.server, stream, 3)
        pair.run(0.5)
        victim: Address = ("203.0.113.66", 6666)
        pair.world.network.rebind(CLIENT, victim)
        pair.world.network.unreachable.add(CLIENT)
        pair.client.write(stream, b"a word from there")
        sent = 0
        send = pair.world.network.send

        def count(transmit: Transmit, own: Address, now: float) -> None:
            nonlocal sent
            sent += len(transmit.data) * (transmit.address == victim)
            send(transmit, own, now)

        pair.world.network.send = count  # type: ignore[method-assign]
        pair.until_received(pair.server, stream, 20)
        pair.server.write(stream, BODY)
        pair.run(0.3)
        # quinn finishes the datagram that goes beyond three times what came, and that may be a large one.
        assert 0 < sent < 20_000

    def test_packets_that_somebody_else_repeats_move_nothing(self, pair: Pair) -> None:
        heard = listen(pair.world)
        stream = pair.client.open()
        rng = Random(1)
        pair.client.write(stream, BODY, end=True)
        while stream not in pair.server.ended:
            ours = [datagram for own, datagram in heard if own == CLIENT]
            if ours:
                again = rng.choice(ours)
                pair.server.receive(again, len(again), ("203.0.113.66", 6666), pair.world.now)
            pair.run(0.01)
        assert pair.server.received[stream] == BODY
        pair.server.write(stream, BODY, end=True)
        assert pair.until_ended(pair.client, stream) == BODY


class TestKeyUpdate:
    """quinn changes keys after 2^23 packets: too many for a test. So aioquic begins, and quinn has to follow."""

    @pytest.mark.parametrize("pairing", ["aioquic to quinn", "quinn to aioquic"])
    def test_keys_that_the_peer_changes_again_and_again_are_followed(
        self, certificates: Certificates, pairing: str
    ) -> None:
        pair = MakeRealPair.of(certificates, pairing)().connect()
        peer = pair.client if pairing.startswith("aioquic") else pair.server
        stream = pair.client.open()
        sent = b""
        phases = []
        for turn in range(6):
            part = payload(30_000, turn)
            pair.client.write(stream, part)
            sent += part
            pair.until_received(pair.server, stream, len(sent))
            pair.server.write(stream, part)
            pair.run(0.5)
            phases.append(quic(peer)._cryptos[Epoch.ONE_RTT].key_phase)
            quic(peer).request_key_update()
        pair.client.finish(stream)
        assert pair.until_ended(pair.server, stream) == sent
        pair.server.finish(stream)
        assert pair.until_ended(pair.client, stream) == sent
        assert phases == [0, 1, 0, 1, 0, 1]
