"""proxy_server.dev_certificate: verified TLS with it works, it is made once, and its secrets stay secret."""

import os
import ssl
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy_server import dev_certificate
from proxy_server.dev_certificate import NAMES, DevCertificate, ensure


def contents(made: DevCertificate) -> list[bytes]:
    return [path.read_bytes() for path in made.files]


def shake_hands(made: DevCertificate, name: str) -> None:
    """A whole TLS handshake in memory; raises ssl.SSLError if the client does not believe the server."""
    client_context = ssl.create_default_context(cafile=made.ca)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(made.certificate, made.key)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert not waiting


@pytest.mark.parametrize("name", NAMES)
def test_clients_believe_each_name(tmp_path: Path, name: str) -> None:
    made = ensure(tmp_path)
    shake_hands(made, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(made, "elsewhere.example")


def test_the_key_is_of_an_elliptic_curve_and_the_validity_has_an_end(tmp_path: Path) -> None:
    made = ensure(tmp_path)
    key = load_pem_private_key(made.key.read_bytes(), None)
    certificate = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert certificate.public_key() == key.public_key()
    now = datetime.now(UTC)
    assert certificate.not_valid_before_utc < now < certificate.not_valid_after_utc
    assert certificate.not_valid_after_utc - now < timedelta(days=3651)


def test_it_is_made_once_with_the_directory(tmp_path: Path) -> None:
    directory = tmp_path / "to" / "come"
    before = contents(ensure(directory))
    assert contents(ensure(directory)) == before
    assert len(before[3].strip()) >= 43
    assert contents(ensure(tmp_path / "another"))[3] != before[3]


def test_secrets_are_for_their_owner_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[str, int] = {}
    original = os.open

    def note(path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = original(path, flags, mode)
        opened[Path(path).name] = stat.S_IMODE(os.fstat(descriptor).st_mode)
        return descriptor

    monkeypatch.setattr(os, "open", note)
    made = ensure(tmp_path)
    assert opened[".key.pem.new"] == opened[".token.new"] == 0o600
    modes = [stat.S_IMODE(path.stat().st_mode) for path in made.files]
    assert modes[2:] == [0o600, 0o600]
    assert modes[0] & 0o400


def test_the_directory_holds_nothing_else(tmp_path: Path) -> None:
    """No key of the CA above all."""
    ensure(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"ca.pem", "certificate.pem", "key.pem", "token", ".lock"}


@pytest.mark.parametrize("missing", ["ca.pem", "certificate.pem", "key.pem", "token"])
def test_an_incomplete_set_is_made_anew_as_a_whole(tmp_path: Path, missing: str) -> None:
    before = contents(ensure(tmp_path))
    (tmp_path / missing).unlink()
    (tmp_path / ".key.pem.new").write_text("left by one that was killed")
    made = ensure(tmp_path)
    assert all(old != new for old, new in zip(before, contents(made), strict=True))
    shake_hands(made, "localhost")


def test_one_that_is_interrupted_leaves_no_complete_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure(tmp_path)
    (tmp_path / "key.pem").unlink()
    written: list[Path] = []
    original = dev_certificate._write

    def write(path: Path, data: bytes, mode: int) -> None:
        if len(written) == 3:
            raise OSError("planted: disk full")
        written.append(path)
        original(path, data, mode)

    monkeypatch.setattr(dev_certificate, "_write", write)
    with pytest.raises(OSError, match="planted"):
        ensure(tmp_path)
    assert not DevCertificate.within(tmp_path).token.exists()
    monkeypatch.undo()
    shake_hands(ensure(tmp_path), "localhost")


def test_several_starts_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[DevCertificate] = []
    original = dev_certificate._make

    def make(files: DevCertificate) -> None:
        made.append(files)
        original(files)

    monkeypatch.setattr(dev_certificate, "_make", make)
    with ThreadPoolExecutor(8) as starts:
        seen = list(starts.map(lambda _: contents(ensure(tmp_path)), range(8)))
    assert len(made) == 1
    assert all(files == seen[0] for files in seen)


def test_a_directory_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        ensure(tmp_path / "file" / "below")
