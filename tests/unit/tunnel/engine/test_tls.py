"""Who is trusted, and what people are told when somebody is not: by every pairing of engines."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from tests.sim.pair import Pair, Side
from tests.unit.tunnel.engine.harness import (
    SMALL,
    Certificates,
    Crowd,
    MakeRealPair,
    issued_by,
    make_certificates,
    make_self_signed,
    with_limits,
)

from tunnel.engine.credentials import key_pair
from tunnel.engine.port import Closed, Data
from tunnel.engine.settings import ClientTls, ServerTls, TlsFileError
from tunnel.errors import Cause

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC), datetime(2002, 1, 1, tzinfo=UTC)
SOME_DAY = datetime(2090, 1, 1, tzinfo=UTC), datetime(2091, 1, 1, tzinfo=UTC)


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
def test_a_name_or_an_address_that_the_certificate_shows_is_fine(make_real_pair: MakeRealPair, name: str) -> None:
    make_real_pair(client=replace(make_real_pair.certificates.client, server_name=name)).connect()


@pytest.mark.parametrize("name", ["other.test", "192.0.2.3"])
def test_any_other_name_is_refused_and_named(make_real_pair: MakeRealPair, name: str) -> None:
    client, server = end_of(make_real_pair(client=replace(make_real_pair.certificates.client, server_name=name)))
    assert client.cause is server.cause is Cause.CERTIFICATE_REFUSED
    assert name in client.detail
    assert "proxy.test" in client.detail, "what it is the certificate of"
    assert not client.by_peer
    assert server.by_peer


def test_another_authority_is_refused(make_real_pair: MakeRealPair, tmp_path: Path) -> None:
    client, server = end_of(make_real_pair(client=make_certificates(tmp_path).client))
    assert client.cause is server.cause is Cause.CERTIFICATE_REFUSED
    assert "issuer" in client.detail.lower()


def test_the_systems_authorities_do_not_know_a_test_certificate(make_real_pair: MakeRealPair) -> None:
    client, _ = end_of(make_real_pair(client=ClientTls("proxy.test")))
    assert client.cause is Cause.CERTIFICATE_REFUSED


class TestValidity:
    """Certificates are judged by the system's clock: the time that engines are told begins anywhere."""

    def test_one_that_an_authority_signed_is_refused_when_it_has_expired(
        self, make_real_pair: MakeRealPair, tmp_path: Path
    ) -> None:
        certificates = issued_by(trustme.CA(), tmp_path, not_after=LONG_AGO[1])
        client, server = end_of(replace(make_real_pair, certificates=certificates)())
        assert client.cause is server.cause is Cause.CERTIFICATE_REFUSED
        assert "expired" in client.detail or "no longer valid" in client.detail

    @pytest.mark.parametrize("when", [LONG_AGO, SOME_DAY])
    @pytest.mark.parametrize("authority", [True, False])
    def test_one_that_signed_itself_is_refused_outside_of_its_time(
        self, make_real_pair: MakeRealPair, tmp_path: Path, when: tuple[datetime, datetime], authority: bool
    ) -> None:
        certificates = make_self_signed(tmp_path, *when, authority=authority)
        client, server = end_of(replace(make_real_pair, certificates=certificates)())
        assert client.cause is server.cause is Cause.CERTIFICATE_REFUSED
        assert "valid" in client.detail or "expired" in client.detail


class TestSelfSigned:
    """`openssl req -x509` makes them, CA:TRUE and all; whoever puts one into the CA file means that server."""

    @pytest.mark.parametrize("authority", [True, False])
    def test_in_the_ca_file_it_is_trusted(self, make_real_pair: MakeRealPair, tmp_path: Path, authority: bool) -> None:
        certificates = make_self_signed(tmp_path, authority=authority)
        replace(make_real_pair, certificates=certificates)().connect()

    def test_for_its_name_only(self, make_real_pair: MakeRealPair, tmp_path: Path) -> None:
        certificates = make_self_signed(tmp_path)
        tls = replace(certificates.client, server_name="other.test")
        client, server = end_of(replace(make_real_pair, certificates=certificates)(client=tls))
        assert client.cause is server.cause is Cause.CERTIFICATE_REFUSED
        assert "other.test" in client.detail

    def test_another_one_of_the_same_name_is_refused(self, make_real_pair: MakeRealPair, tmp_path: Path) -> None:
        (tmp_path / "theirs").mkdir()
        (tmp_path / "ours").mkdir()
        theirs, ours = make_self_signed(tmp_path / "theirs"), make_self_signed(tmp_path / "ours")
        client, server = end_of(replace(make_real_pair, certificates=theirs)(client=ours.client))
        assert client.cause is server.cause is Cause.CERTIFICATE_REFUSED

    def test_a_ca_file_may_hold_several(
        self, make_real_pair: MakeRealPair, certificates: Certificates, tmp_path: Path
    ) -> None:
        mine = make_self_signed(tmp_path)
        assert certificates.client.ca_file is not None
        both = tmp_path / "both.pem"
        both.write_bytes(certificates.client.ca_file.read_bytes() + mine.server.certificate_file.read_bytes())
        for server in (mine, certificates):
            replace(make_real_pair, certificates=server)(client=ClientTls("proxy.test", ca_file=both)).connect()


def test_a_pin_replaces_name_and_chain(make_real_pair: MakeRealPair) -> None:
    make_real_pair(client=ClientTls("other.test", pin_sha256=pin_of(make_real_pair.certificates))).connect()


def test_a_wrong_pin_is_refused_before_anything_is_reported(make_real_pair: MakeRealPair) -> None:
    client, server = end_of(make_real_pair(client=ClientTls("proxy.test", pin_sha256=bytes(32))))
    assert client.cause is server.cause is Cause.CERTIFICATE_REFUSED
    assert "the server's certificate is not the pinned one" in client.detail
    assert not client.by_peer


def test_insecure_takes_anything(make_real_pair: MakeRealPair, tmp_path: Path) -> None:
    authority = make_certificates(tmp_path).client.ca_file
    make_real_pair(client=ClientTls("other.test", ca_file=authority, pin_sha256=bytes(32), insecure=True)).connect()


class TestFiles:
    def test_a_missing_ca_file_is_named(self, adapter: ModuleType, tmp_path: Path) -> None:
        with pytest.raises(TlsFileError, match=r"nowhere\.pem"):
            adapter.client_engine(ClientTls("proxy.test", ca_file=tmp_path / "nowhere.pem"), SMALL)

    @pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"])
    def test_a_ca_file_without_a_certificate_is_named(self, adapter: ModuleType, tmp_path: Path, content: str) -> None:
        (tmp_path / "ca.pem").write_text(content)
        with pytest.raises(TlsFileError, match=r"ca\.pem"):
            adapter.client_engine(ClientTls("proxy.test", ca_file=tmp_path / "ca.pem"), SMALL)

    def test_a_server_without_files_is_told_which(self, adapter: ModuleType, tmp_path: Path) -> None:
        with pytest.raises(TlsFileError, match=r"certificate\.pem"):
            adapter.server_engine(ServerTls(tmp_path / "certificate.pem", tmp_path / "key.pem"), SMALL)

    def test_a_key_of_another_certificate_is_found_at_the_start(
        self, adapter: ModuleType, certificates: Certificates, tmp_path: Path
    ) -> None:
        other = trustme.CA().issue_cert("proxy.test")
        other.private_key_pem.write_to_path(tmp_path / "key.pem")
        with pytest.raises(TlsFileError, match="not the key"):
            adapter.server_engine(ServerTls(certificates.server.certificate_file, tmp_path / "key.pem"), SMALL)

    def test_a_file_that_is_no_key_is_named(self, adapter: ModuleType, certificates: Certificates) -> None:
        file = certificates.server.certificate_file
        with pytest.raises(TlsFileError, match=r"certificate\.pem"):
            adapter.server_engine(ServerTls(file, file), SMALL)


@pytest.mark.parametrize("name", ["", "a" * 300, "\udcff"])
def test_a_name_that_cannot_be_one_is_found_at_the_start(adapter: ModuleType, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        adapter.client_engine(ClientTls(name, insecure=True), SMALL)


def test_a_pin_has_32_bytes(adapter: ModuleType) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        adapter.client_engine(ClientTls("proxy.test", pin_sha256=b"short"), SMALL)


class TestAnotherCertificate:
    """A server that goes on with one: every pairing of engines."""

    @staticmethod
    def joins(crowd: Crowd, side: Side) -> bool:
        side.connect(crowd.world.now)
        assert crowd.world.run(5, lambda: side.connected or side.closed is not None)
        return side.connected

    def test_new_handshakes_show_it_and_those_who_are_in_stay(
        self, make_real_pair: MakeRealPair, tmp_path: Path
    ) -> None:
        renewed = make_certificates(tmp_path)
        crowd = Crowd(make_real_pair, SMALL, 3)
        before, trusts_old, trusts_new = crowd.clients
        trusts_new.engine = make_real_pair.client(tls=renewed.client)
        assert self.joins(crowd, before)
        crowd.server.engine.use_certificate(*key_pair(renewed.server))
        assert self.joins(crowd, trusts_new)
        assert not self.joins(crowd, trusts_old)
        assert trusts_old.closed is not None
        assert trusts_old.closed.cause is Cause.CERTIFICATE_REFUSED
        before.write(before.open(), bytes(5000), end=True)
        assert crowd.world.run(2, lambda: bool(crowd.server.events(Data)))

    def test_who_was_asked_to_prove_its_address_before_gets_through(
        self, make_real_pair: MakeRealPair, tmp_path: Path
    ) -> None:
        authority = trustme.CA()
        first, second = tmp_path / "first", tmp_path / "second"
        for directory in (first, second):
            directory.mkdir()
        made, renewed = issued_by(authority, first), issued_by(authority, second)
        crowd = Crowd(replace(make_real_pair, certificates=made), with_limits(retry_above_handshakes=0), 1)
        (side,) = crowd.clients
        side.connect(crowd.world.now)
        assert crowd.world.run(1, lambda: crowd.server.engine.packets().retries == 1)
        crowd.server.engine.use_certificate(*key_pair(renewed.server))
        assert crowd.world.run(2, lambda: side.connected)

    @pytest.mark.parametrize("broken", ["certificate", "key", "both"])
    def test_one_that_cannot_be_used_changes_nothing(
        self, make_real_pair: MakeRealPair, tmp_path: Path, broken: str
    ) -> None:
        certificate, key = key_pair(make_certificates(tmp_path).server)
        crowd = Crowd(make_real_pair, SMALL, 1)
        nonsense = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        with pytest.raises(ValueError, match=r".+"):
            crowd.server.engine.use_certificate(
                certificate if broken == "key" else nonsense, key if broken == "certificate" else b"no key"
            )
        assert self.joins(crowd, crowd.clients[0])
