"""What is trusted where nobody says whom to trust. (Files and names: test_tls.py.)"""

import ssl
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import Certificate, load_pem_x509_certificate

from tunnel.engine.credentials import system_authorities

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
