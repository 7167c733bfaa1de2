"""What both engines ask of certificates, keys and names, before a connection is tried.

Rules:
- Everything that can be wrong with a file or a name is found when the engine is made, and named.
- Files are PEM. They are read here and nowhere else.
"""

import ipaddress
import re
import ssl
import warnings
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import Certificate, load_pem_x509_certificate, load_pem_x509_certificates

from tunnel.engine.settings import ClientTls, ServerTls, TlsFileError

PIN_BYTES = 32

_PEM_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def read(file: Path) -> bytes:
    """Raises TlsFileError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise TlsFileError(f"{file}: {error.strerror}") from error


def certificates(file: Path) -> list[Certificate]:
    """At least one. Raises TlsFileError."""
    pem = read(file)
    try:
        return load_pem_x509_certificates(pem)
    except ValueError as error:
        what = "no certificate that can be used" if b"-----BEGIN CERTIFICATE" in pem else "no certificate in it"
        raise TlsFileError(f"{file}: {what}: {error}") from error


def key_pair(tls: ServerTls) -> tuple[bytes, bytes]:
    """Certificate and private key, as PEM. Raises TlsFileError for what cannot be used, or does not belong together."""
    chain = certificates(tls.certificate_file)
    private_key = read(tls.private_key_file)
    try:
        key = load_pem_private_key(private_key, password=None)
    except (ValueError, TypeError) as error:
        raise TlsFileError(f"{tls.private_key_file}: no private key that can be used: {error}") from error
    if chain[0].public_key() != key.public_key():
        raise TlsFileError(f"{tls.private_key_file}: not the key of the certificate in {tls.certificate_file}")
    return read(tls.certificate_file), private_key


def check_pin(tls: ClientTls) -> None:
    """Raises ValueError for a pin that cannot be one."""
    if tls.pin_sha256 is not None and len(tls.pin_sha256) != PIN_BYTES:
        raise ValueError(f"a pin has {PIN_BYTES} bytes, not {len(tls.pin_sha256)}")


def server_name(name: str) -> str:
    """The name in the form it has in certificates; an address without brackets or scope. Raises ValueError."""
    bare = name.removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        ascii_name = name.rstrip(".").encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"{name!r} cannot be a server's name: {error}") from error
    if not ascii_name:
        raise ValueError("an empty name cannot be a server's name")
    return ascii_name


def system_authorities() -> list[Certificate]:
    """The certificates that OpenSSL was told to trust on this machine."""
    places = ssl.get_default_verify_paths()
    files = [Path(places.cafile)] if places.cafile else []
    if not files and places.capath:
        files = [file for file in sorted(Path(places.capath).iterdir()) if file.suffix in (".crt", ".pem")]
    return list({one.tbs_certificate_bytes: one for file in files for one in _readable(file)}.values())


def _readable(file: Path) -> list[Certificate]:
    """Those that can be used: the system's files may hold anything, and the others must not suffer for it."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", CryptographyDeprecationWarning
        )  # Old authorities break rules that came after them.
        for pem in _PEM_CERTIFICATE.findall(file.read_bytes() if file.is_file() else b""):
            try:
                found.append(load_pem_x509_certificate(pem))
            except ValueError:
                continue
    return found
