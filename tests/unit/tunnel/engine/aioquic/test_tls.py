"""Who is trusted, and what people are told when somebody is not."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from aioquic.quic.configuration import QuicConfiguration
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from tests.sim.pair import Pair
from tests.unit.tunnel.engine.aioquic.harness import SMALL, Certificates, MakePair, endpoint, make_certificates

from tunnel.engine.aioquic import TlsFileError, client_engine, server_engine
from tunnel.engine.aioquic.client import ClientEndpoint
from tunnel.engine.port import Closed
from tunnel.engine.settings import ClientTls, ServerTls
from tunnel.errors import Cause


def pin_of(certificates: Certificates) -> bytes:
    certificate = load_pem_x509_certificate(certificates.server.certificate_file.read_bytes())
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


def end_of(pair: Pair) -> tuple[Closed, Closed]:
    """How a handshake that must fail ends, at the client and at the server."""
    pair.client.connect(pair.world.now)
    pair.until(lambda: pair.client.closed is not None and pair.server.closed is not None)
    assert not pair.client.connected
    assert not pair.server.connected
    assert pair.client.closed is not None
    assert pair.server.closed is not None
    return pair.client.closed, pair.server.closed


@pytest.mark.parametrize(
    "name", ["proxy.test", "192.0.2.2", "2001:db8::2", "[2001:db8::2]", "PROXY.test", "proxy.test."]
)
def test_a_name_or_an_address_that_the_certificate_shows_is_fine(make_pair: MakePair, name: str) -> None:
    make_pair(client=replace(make_pair.certificates.client, server_name=name)).connect()


@pytest.mark.parametrize("name", ["other.test", "192.0.2.3"])
def test_any_other_name_is_refused_and_named(make_pair: MakePair, name: str) -> None:
    client, server = end_of(make_pair(client=replace(make_pair.certificates.client, server_name=name)))
    assert client.cause is server.cause is Cause.CERTIFICATE_REFUSED
    assert f"hostname '{name}' doesn't match either of proxy.test, 192.0.2.2, 2001:db8::2" in client.detail
    assert server.by_peer


def test_another_authority_is_refused(make_pair: MakePair, tmp_path: Path) -> None:
    client, server = end_of(make_pair(client=make_certificates(tmp_path).client))
    assert client.cause is server.cause is Cause.CERTIFICATE_REFUSED
    assert "issuer" in client.detail


def test_the_systems_authorities_do_not_know_a_test_certificate(make_pair: MakePair) -> None:
    client, _ = end_of(make_pair(client=ClientTls("proxy.test")))
    assert client.cause is Cause.CERTIFICATE_REFUSED


def test_an_expired_certificate_is_refused(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioquic.tls.utcnow", lambda: datetime(4000, 1, 1, tzinfo=UTC))
    client, _ = end_of(make_pair())
    assert client.cause is Cause.CERTIFICATE_REFUSED
    assert "no longer valid" in client.detail


def test_a_pin_replaces_name_and_chain(make_pair: MakePair) -> None:
    make_pair(client=ClientTls("other.test", pin_sha256=pin_of(make_pair.certificates))).connect()


def test_a_wrong_pin_is_refused_before_anything_is_reported(make_pair: MakePair) -> None:
    client, server = end_of(make_pair(client=ClientTls("proxy.test", pin_sha256=bytes(32))))
    assert client == Closed(Cause.CERTIFICATE_REFUSED, "the server's certificate is not the pinned one", by_peer=False)
    assert server.cause is Cause.CERTIFICATE_REFUSED


def test_insecure_takes_anything(make_pair: MakePair, tmp_path: Path) -> None:
    authority = make_certificates(tmp_path).client.ca_file
    make_pair(client=ClientTls("other.test", ca_file=authority, pin_sha256=bytes(32), insecure=True)).connect()


def test_another_protocol_is_refused_in_words(make_pair: MakePair) -> None:
    pair = make_pair()
    client_side = endpoint(pair.client)
    assert isinstance(client_side, ClientEndpoint)
    client_side._configuration = replace(client_side._configuration, alpn_protocols=["other/1"])
    client, server = end_of(pair)
    assert client.cause is server.cause is Cause.HANDSHAKE_FAILED
    assert client.by_peer
    assert "ALPN" in client.detail


class TestFiles:
    def test_a_missing_ca_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(TlsFileError, match=r"nowhere\.pem"):
            client_engine(ClientTls("proxy.test", ca_file=tmp_path / "nowhere.pem"), SMALL)

    @pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"])
    def test_a_ca_file_without_a_certificate_is_named(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "ca.pem").write_text(content)
        with pytest.raises(TlsFileError, match=r"ca\.pem"):
            client_engine(ClientTls("proxy.test", ca_file=tmp_path / "ca.pem"), SMALL)

    def test_a_server_without_files_is_told_which(self, tmp_path: Path) -> None:
        with pytest.raises(TlsFileError, match=r"certificate\.pem"):
            server_engine(ServerTls(tmp_path / "certificate.pem", tmp_path / "key.pem"), SMALL)

    def test_a_key_of_another_certificate_is_found_at_the_start(
        self, certificates: Certificates, tmp_path: Path
    ) -> None:
        other = trustme.CA().issue_cert("proxy.test")
        other.private_key_pem.write_to_path(tmp_path / "key.pem")
        with pytest.raises(TlsFileError, match="not the key"):
            server_engine(ServerTls(certificates.server.certificate_file, tmp_path / "key.pem"), SMALL)

    def test_a_file_that_is_no_key_is_named(self, certificates: Certificates) -> None:
        file = certificates.server.certificate_file
        with pytest.raises(TlsFileError, match=r"certificate\.pem"):
            server_engine(ServerTls(file, file), SMALL)


@pytest.mark.parametrize("name", ["", "a" * 300, "\udcff"])
def test_a_name_that_cannot_be_one_is_found_at_the_start(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        client_engine(ClientTls(name, insecure=True), SMALL)


def test_a_pin_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        client_engine(ClientTls("proxy.test", pin_sha256=b"short"), SMALL)


def test_only_version_1_is_spoken(certificates: Certificates) -> None:
    engine = client_engine(certificates.client, SMALL)
    assert isinstance(engine, ClientEndpoint)
    configuration: QuicConfiguration = engine._configuration
    assert configuration.supported_versions == [1]
