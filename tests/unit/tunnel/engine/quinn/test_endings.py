"""How connections of quinn's end where aioquic's cannot: stateless resets, and handshakes that TLS refuses."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from aioquic.quic.packet import QuicProtocolVersion
from tests.sim.pair import CLIENT, SERVER, Pair, Side
from tests.unit.tunnel.engine.aioquic.harness import endpoint
from tests.unit.tunnel.engine.harness import (
    SMALL,
    STRANGER,
    Certificates,
    MakeRealPair,
    assert_empty,
    listen,
    make_certificates,
    transmits,
)

from tunnel.engine.aioquic.client import ClientEndpoint
from tunnel.engine.aioquic.server import ServerEndpoint
from tunnel.engine.port import Closed
from tunnel.errors import Cause

ROUND_TRIP_S = 0.04


def restart(pair: Pair, make: MakeRealPair) -> None:
    """The server's process dies without a word and comes back on the same address."""
    pair.server = Side(make.server())
    pair.world.add(SERVER, pair.server)


def a_ping(pair: Pair) -> bytes:
    """A datagram of the client's connection."""
    heard = listen(pair.world)
    pair.client.engine.ping(pair.client.connection)
    pair.run(0.001)
    (ping,) = [datagram for own, datagram in heard if own == CLIENT]
    return ping


class TestStatelessReset:
    """RFC 9000 section 10.3: the key comes from the private key, so that a server still has it after a restart."""

    @pytest.mark.parametrize("word", ["ping", "data"])
    def test_a_restarted_server_is_noticed_with_the_next_packet(
        self, make_pair: MakeRealPair, pair: Pair, word: str
    ) -> None:
        pair.run(1)
        restart(pair, make_pair)
        started = pair.world.now
        if word == "ping":
            pair.client.engine.ping(pair.client.connection)
        else:
            pair.client.write(pair.client.open(), b"x")
        pair.until(lambda: pair.client.closed is not None, 1)
        assert pair.world.now - started < 1.5 * ROUND_TRIP_S
        assert pair.client.closed == Closed(Cause.PEER_RESTARTED, Cause.PEER_RESTARTED.summary, by_peer=True)
        pair.run(5)
        assert_empty(pair.client.engine)
        assert_empty(pair.server.engine)

    def test_in_the_middle_of_a_transfer_too(self, make_pair: MakeRealPair, pair: Pair) -> None:
        pair.client.write(pair.client.open(), bytes(5_000_000))
        pair.run(0.2)
        restart(pair, make_pair)
        pair.until(lambda: pair.client.closed is not None, 2 * ROUND_TRIP_S)
        assert pair.client.closed is not None
        assert pair.client.closed.cause is Cause.PEER_RESTARTED

    def test_a_new_connection_is_there_at_once(self, make_pair: MakeRealPair, pair: Pair) -> None:
        restart(pair, make_pair)
        pair.client.engine.ping(pair.client.connection)
        pair.until(lambda: pair.client.closed is not None, 1)
        pair.client.closed, pair.client.connected, pair.client.connection = None, False, 0
        pair.connect()

    def test_with_another_key_there_is_silence(self, make_pair: MakeRealPair, pair: Pair, tmp_path: Path) -> None:
        restart(pair, replace(make_pair, certificates=make_certificates(tmp_path)))
        heard = listen(pair.world)
        pair.client.engine.ping(pair.client.connection)
        pair.run(5)
        assert pair.client.closed is None
        assert not [datagram for own, datagram in heard if own == SERVER]
        pair.run(SMALL.idle_timeout_s)
        assert pair.client.closed is not None
        assert pair.client.closed.cause is Cause.PEER_SILENT

    def test_who_guesses_at_connections_gets_no_answer(self, make_pair: MakeRealPair) -> None:
        """Connection ids of ours carry a mark: else anybody could make us send."""
        server, rng = make_pair.server(), Random(1)
        for _ in range(1000):
            guess = b"\x40" + rng.randbytes(60)
            server.receive(guess, len(guess), STRANGER, 1.0)
        assert transmits(server, 1.0) == []

    def test_resets_are_smaller_than_their_cause(self, make_pair: MakeRealPair, pair: Pair) -> None:
        """Two servers of one key must not talk for ever, and nobody must be flooded: one for each, and less of it."""
        ping, server, now = a_ping(pair), make_pair.server(), pair.world.now
        question = ping
        while question:
            server.receive(question, len(question), CLIENT, now)
            answers = transmits(server, now)
            assert len(answers) <= 1
            answer = answers[0].data if answers else b""
            assert len(answer) < len(question)
            question = bytes(answer[:1]) + ping[1 : len(answer)]  # As long as the answer, to a connection of ours.
        assert_empty(server)

    def test_many_clients_hear_of_a_restart_at_the_same_moment(self, make_pair: MakeRealPair, pair: Pair) -> None:
        ping, server, now = a_ping(pair), make_pair.server(), pair.world.now
        for number in range(100):
            server.receive(ping, len(ping), (CLIENT[0], 40_000 + number), now)
        assert len({transmit.address for transmit in transmits(server, now)}) == 100

    def test_a_reset_of_somebody_else_ends_nothing(self, make_pair: MakeRealPair, pair: Pair, tmp_path: Path) -> None:
        make_other = replace(make_pair, certificates=make_certificates(tmp_path))
        other = make_other().connect()
        restart(other, make_other)
        heard = listen(other.world)
        other.client.engine.ping(other.client.connection)
        other.run(0.1)
        reset = next(datagram for own, datagram in heard if own == SERVER)
        pair.client.engine.receive(reset, len(reset), SERVER, pair.world.now)
        pair.run(0.5)
        assert pair.client.closed is None


class TestRefusedHandshake:
    """aioquic plays the peer that wants something else."""

    def test_another_protocol_is_one_closed_at_the_server(self, certificates: Certificates) -> None:
        pair = MakeRealPair.of(certificates, "aioquic to quinn")()
        client = endpoint(pair.client)
        assert isinstance(client, ClientEndpoint)
        client._configuration = replace(client._configuration, alpn_protocols=["other/1"])
        pair.client.connect(pair.world.now)
        pair.run(10)
        for side, by_peer in ((pair.client, True), (pair.server, False)):
            (event,) = side.log
            assert isinstance(event, Closed)
            assert event.cause is Cause.HANDSHAKE_FAILED
            assert event.by_peer is by_peer
            assert "no_application_protocol" in event.detail
        assert_empty(pair.server.engine)

    def test_another_protocol_of_the_server_is_refused_by_a_client(self, certificates: Certificates) -> None:
        pair = MakeRealPair.of(certificates, "quinn to aioquic")()
        server = endpoint(pair.server)
        assert isinstance(server, ServerEndpoint)
        server._configuration = replace(server._configuration, alpn_protocols=["other/1"])
        pair.client.connect(pair.world.now)
        pair.run(10)
        (event,) = pair.client.log
        assert isinstance(event, Closed)
        assert event.cause is Cause.HANDSHAKE_FAILED
        assert_empty(pair.client.engine)

    def test_another_version_is_answered_with_those_we_speak(self, certificates: Certificates) -> None:
        pair = MakeRealPair.of(certificates, "aioquic to quinn")()
        client = endpoint(pair.client)
        assert isinstance(client, ClientEndpoint)
        client._configuration.supported_versions = [QuicProtocolVersion.VERSION_2]
        pair.client.connect(pair.world.now)
        pair.until(lambda: pair.client.closed is not None, 1)
        assert pair.client.closed is not None
        assert pair.client.closed.cause is Cause.HANDSHAKE_FAILED
        assert "version" in pair.client.closed.detail
        assert pair.server.log == []
        assert_empty(pair.server.engine)

    def test_a_token_that_we_never_gave_is_no_proof(self, certificates: Certificates) -> None:
        make = MakeRealPair.of(certificates, "aioquic to quinn")
        pair = make(server_limits=replace(SMALL, retry_above_handshakes=0))
        client = endpoint(pair.client)
        assert isinstance(client, ClientEndpoint)
        client._configuration.token = bytes(60)
        heard = listen(pair.world)
        pair.client.connect(pair.world.now)
        pair.run(0.03)
        answers = [datagram for own, datagram in heard if own == SERVER]
        assert answers
        assert all(datagram[0] & 0xF0 == 0xF0 for datagram in answers), "a Retry: the address is not proven"


def test_a_connection_that_cannot_even_begin_is_closed_in_words(make_pair: MakeRealPair) -> None:
    client = make_pair.client()
    number = client.connect(("0.0.0.0", 0), 1.0)
    happened = client.poll_event()
    assert happened is not None
    assert happened[0] == number
    assert isinstance(happened[1], Closed)
    assert happened[1].cause is Cause.HANDSHAKE_FAILED
    assert "address" in happened[1].detail
    assert client.poll_event() is None
    assert client.stats(number) is None
    assert_empty(client)


def test_a_server_does_not_connect(make_pair: MakeRealPair) -> None:
    server = make_pair.server()
    number = server.connect(CLIENT, 1.0)
    happened = server.poll_event()
    assert happened is not None
    assert happened[0] == number
    assert isinstance(happened[1], Closed)
    assert_empty(server)
