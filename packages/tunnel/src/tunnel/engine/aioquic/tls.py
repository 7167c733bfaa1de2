"""TLS: what a QUIC configuration says about certificates, and what the engine's limits say about the transport.

Rules:
- Everything that can be wrong with a file or a name is found here, when the engine is made, and named.
- A server is verified by a CA file, by the system's authorities, or by a pin. A pin replaces name and chain, and then
  it is mandatory: `pin_matches` is asked before the connection counts as established.
"""

import hashlib
import ipaddress
import ssl
from pathlib import Path

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import load_pem_x509_certificates
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

from tunnel.engine.aioquic.recovery import CUBIC
from tunnel.engine.settings import ALPN, ClientTls, EngineLimits, ServerTls, TlsFileError

PIN_BYTES = 32

_CONGESTION_CONTROLS = {"cubic": CUBIC, "reno": "reno"}


def server_configuration(tls: ServerTls, limits: EngineLimits) -> QuicConfiguration:
    """Raises TlsFileError."""
    configuration = _configuration(limits, is_client=False)
    configuration.max_data = limits.greeting_credit_bytes
    _certificates(tls.certificate_file)
    _read(tls.private_key_file)
    try:
        configuration.load_cert_chain(tls.certificate_file, tls.private_key_file)
    except (OSError, ValueError, TypeError) as error:
        raise TlsFileError(f"{tls.private_key_file}: no private key that can be used: {error}") from error
    if configuration.certificate.public_key() != configuration.private_key.public_key():
        raise TlsFileError(f"{tls.private_key_file}: not the key of the certificate in {tls.certificate_file}")
    return configuration


def client_configuration(tls: ClientTls, limits: EngineLimits) -> QuicConfiguration:
    """Raises TlsFileError, or ValueError for a server name or a pin that cannot be one."""
    configuration = _configuration(limits, is_client=True)
    configuration.server_name = _server_name(tls.server_name)
    if tls.pin_sha256 is not None and len(tls.pin_sha256) != PIN_BYTES:
        raise ValueError(f"a pin has {PIN_BYTES} bytes, not {len(tls.pin_sha256)}")
    if tls.insecure or tls.pin_sha256 is not None:
        configuration.verify_mode = ssl.CERT_NONE
    elif tls.ca_file is not None:
        configuration.cadata = _certificates(tls.ca_file)
    else:
        # Where OpenSSL was told to look; without any, aioquic falls back to certifi's authorities.
        system = ssl.get_default_verify_paths()
        configuration.load_verify_locations(cafile=system.cafile, capath=system.capath)
    return configuration


def pin_matches(certificate: Certificate, pin_sha256: bytes) -> bool:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest() == pin_sha256


def _configuration(limits: EngineLimits, *, is_client: bool) -> QuicConfiguration:
    congestion_control = _CONGESTION_CONTROLS.get(limits.congestion_control)
    if congestion_control is None:
        raise ValueError(f"aioquic has no congestion control {limits.congestion_control}, only cubic and reno")
    return QuicConfiguration(
        alpn_protocols=[ALPN],
        congestion_control_algorithm=congestion_control,
        idle_timeout=limits.idle_timeout_s,
        is_client=is_client,
        max_datagram_size=limits.datagram_floor_bytes,
        max_stream_data=limits.stream_window_floor_bytes,
        supported_versions=[QuicProtocolVersion.VERSION_1],
    )


def _certificates(file: Path) -> bytes:
    pem = _read(file)
    try:
        found = load_pem_x509_certificates(pem)
    except ValueError as error:
        raise TlsFileError(f"{file}: no certificate that can be used: {error}") from error
    if not found:
        raise TlsFileError(f"{file}: no certificate in it")
    return pem


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TlsFileError(f"{file}: {error.strerror}") from error


def _server_name(name: str) -> str:
    """The name in the form it has in certificates; an address stays one, without brackets or scope."""
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
