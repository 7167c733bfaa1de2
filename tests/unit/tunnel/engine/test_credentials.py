"""What is trusted where nobody says whom to trust. (Files and names: test_tls.py.)"""

import ssl
import warnings
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
import trustme
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import Certificate, load_pem_x509_certificate
from hypothesis import given
from hypothesis import strategies as st

from tunnel.engine.credentials import certificates, key_pair, server_name, system_authorities
from tunnel.engine.settings import ServerTls, TlsFileError

NONSENSE = b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"


def make_authority() -> tuple[bytes, Certificate]:
    pem = trustme.CA().cert_pem.bytes()
    return pem, load_pem_x509_certificate(pem)


def trust(monkeypatch: pytest.MonkeyPatch, cafile: Path | None, capath: Path | None) -> None:
    places = SimpleNamespace(cafile=cafile, capath=capath)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: places)


def test_one_that_cannot_be_read_does_not_cost_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (first_pem, first), (second_pem, second) = make_authority(), make_authority()
    (tmp_path / "all.pem").write_bytes(b"# ours\n" + first_pem + NONSENSE + second_pem + first_pem)
    trust(monkeypatch, tmp_path / "all.pem", None)
    assert system_authorities() == [first, second]


def test_a_directory_may_hold_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pem, authority = make_authority()
    (tmp_path / "a.pem").write_bytes(pem)
    (tmp_path / "b.pem").write_bytes(bytes(range(256)))
    (tmp_path / "c.crt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "d.pem").mkdir()
    (tmp_path / "README").write_bytes(make_authority()[0])
    trust(monkeypatch, None, tmp_path)
    assert system_authorities() == [authority]


def test_old_authorities_are_no_reason_to_complain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Some of those that systems trust have serial numbers that nobody may have any more."""
    pem, _ = make_authority()
    (tmp_path / "all.pem").write_bytes(pem)
    trust(monkeypatch, tmp_path / "all.pem", None)

    def complain(pem: bytes) -> Certificate:
        warnings.warn("it is old", CryptographyDeprecationWarning, stacklevel=1)
        return load_pem_x509_certificate(pem)

    monkeypatch.setattr("tunnel.engine.credentials.load_pem_x509_certificate", complain)
    assert len(system_authorities()) == 1


def test_without_any_nobody_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch, None, None)
    assert system_authorities() == []


@given(st.text(max_size=80))
def test_any_text_is_a_servers_name_or_a_value_error(text: str) -> None:
    try:
        name = server_name(text)
    except ValueError:
        return
    assert name.isascii()
    assert server_name(name) == name


SOUND = trustme.CA().issue_cert("proxy.test")
PEMS = [SOUND.cert_chain_pems[0].bytes(), SOUND.private_key_pem.bytes(), NONSENSE]


@st.composite
def bent_pems(draw: st.DrawFn) -> bytes:
    """Certificate, key, or neither, with something changed, or cut off."""
    pem = bytearray(draw(st.sampled_from(PEMS)) + draw(st.sampled_from([b"", *PEMS])))
    for _ in range(draw(st.integers(0, 3))):
        pem[draw(st.integers(0, len(pem) - 1))] = draw(st.integers(0, 255))
    return bytes(pem[: draw(st.integers(0, len(pem)))])


@given(bent_pems() | st.binary(max_size=100), bent_pems() | st.binary(max_size=100))
def test_any_files_are_a_key_pair_or_refused(certificate: bytes, key: bytes) -> None:
    with TemporaryDirectory() as directory:
        files = Path(directory) / "cert.pem", Path(directory) / "key.pem"
        for file, content in zip(files, (certificate, key), strict=True):
            file.write_bytes(content)
        for read in (lambda: key_pair(ServerTls(*files)), lambda: certificates(files[0])):
            with suppress(TlsFileError):
                assert read()
