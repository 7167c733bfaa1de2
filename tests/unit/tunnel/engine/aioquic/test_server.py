"""What a server of aioquic's does in its own way; the rest is in tests/unit/tunnel/engine/test_server.py."""

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from tests.sim.pair import SERVER, Pair
from tests.unit.tunnel.engine.aioquic.harness import endpoint, quic
from tests.unit.tunnel.engine.harness import MakeRealPair, assert_empty, with_limits

from tunnel.engine.aioquic import server
from tunnel.engine.aioquic.client import ClientEndpoint
from tunnel.engine.aioquic.stateless import destination_id
from tunnel.engine.port import Address
from tunnel.errors import Cause

STRANGER: Address = ("198.51.100.7", 9)


def test_beyond_the_limit_clients_are_refused_in_words(make_pair: MakeRealPair) -> None:
    pair = make_pair(with_limits(max_connections=0))
    pair.client.connect(pair.world.now)
    pair.until(lambda: pair.client.closed is not None, 1)
    assert pair.client.closed is not None
    assert "as many connections" in pair.client.closed.detail


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


@pytest.mark.failure("F26")
def test_f26_noise_costs_no_connection_and_has_no_answer(
    make_pair: MakeRealPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a real one would be refused or sent away: noise does not make us talk to anybody."""
    noise = b"\xc0\0\0\0\1\x08" + bytes(8) + b"\x08" + bytes(8) + b"\0\x44\x90" + bytes(range(256)) * 5
    monkeypatch.setattr(server, "Connection", None)
    for limits in (with_limits(), with_limits(max_connections=0), with_limits(retry_above_handshakes=0)):
        quic_server = make_pair.server(limits)
        quic_server.receive(noise[:1200], 1200, STRANGER, 1.0)
        assert quic_server.poll_transmit(1.0) is None
        assert_empty(quic_server)


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


class TestClosing:
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


def test_a_configuration_is_not_shared_between_connections(make_pair: MakeRealPair) -> None:
    pair = make_pair().connect()
    mine: QuicConfiguration = quic(pair.client).configuration
    client = endpoint(pair.client)
    assert isinstance(client, ClientEndpoint)
    assert mine is not client._configuration
