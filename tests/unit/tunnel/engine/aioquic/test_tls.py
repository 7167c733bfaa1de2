"""What of TLS is aioquic's own; the rest is in tests/unit/tunnel/engine/test_tls.py."""

from dataclasses import replace

from aioquic.quic.configuration import QuicConfiguration
from tests.unit.tunnel.engine.aioquic.harness import endpoint
from tests.unit.tunnel.engine.harness import SMALL, Certificates, MakeRealPair

from tunnel.engine.aioquic import client_engine
from tunnel.engine.aioquic.client import ClientEndpoint
from tunnel.errors import Cause


def test_the_names_that_a_certificate_has_are_told(make_pair: MakeRealPair) -> None:
    pair = make_pair(client=replace(make_pair.certificates.client, server_name="other.test"))
    pair.client.connect(pair.world.now)
    pair.until(lambda: pair.client.closed is not None)
    assert pair.client.closed is not None
    assert (
        "hostname 'other.test' doesn't match either of proxy.test, 192.0.2.2, 2001:db8::2" in pair.client.closed.detail
    )


def test_another_protocol_is_refused_in_words(make_pair: MakeRealPair) -> None:
    pair = make_pair()
    client = endpoint(pair.client)
    assert isinstance(client, ClientEndpoint)
    client._configuration = replace(client._configuration, alpn_protocols=["other/1"])
    pair.client.connect(pair.world.now)
    pair.until(lambda: pair.client.closed is not None and pair.server.closed is not None)
    assert pair.client.closed is not None
    assert pair.server.closed is not None
    assert pair.client.closed.cause is pair.server.closed.cause is Cause.HANDSHAKE_FAILED
    assert pair.client.closed.by_peer
    assert "ALPN" in pair.client.closed.detail
    assert not pair.server.connected


def test_only_version_1_is_spoken(certificates: Certificates) -> None:
    engine = client_engine(certificates.client, SMALL)
    assert isinstance(engine, ClientEndpoint)
    configuration: QuicConfiguration = engine._configuration
    assert configuration.supported_versions == [1]
