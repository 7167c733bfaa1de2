"""TLS: what a QUIC configuration says about certificates, and what the engine's limits say about the transport.

Rules:
- A server is verified by a CA file, by the system's authorities, or by a pin. A pin replaces name and chain, and then
  it is mandatory: `pin_matches` is asked before the connection counts as established.
"""

import hashlib
import ssl

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import load_pem_private_key, load_pem_x509_certificates
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

from tunnel.engine.aioquic.recovery import CUBIC
from tunnel.engine.credentials import certificates, check_pin, key_pair, read, server_name
from tunnel.engine.settings import ALPN, ClientTls, EngineLimits, ServerTls

_CONGESTION_CONTROLS = {"cubic": CUBIC, "reno": "reno"}


def server_configuration(tls: ServerTls, limits: EngineLimits) -> QuicConfiguration:
    """Raises TlsFileError."""
    configuration = _configuration(limits, is_client=False)
    configuration.max_data = limits.greeting_credit_bytes
    show_certificate(configuration, *key_pair(tls))
    return configuration


def show_certificate(configuration: QuicConfiguration, certificate: bytes, private_key: bytes) -> None:
    """Raises ValueError, and then nothing has changed."""
    chain, key = load_pem_x509_certificates(certificate), load_pem_private_key(private_key)
    configuration.certificate, *configuration.certificate_chain = chain
    configuration.private_key = key


def client_configuration(tls: ClientTls, limits: EngineLimits) -> QuicConfiguration:
    """Raises TlsFileError, or ValueError for a server name or a pin that cannot be one."""
    configuration = _configuration(limits, is_client=True)
    configuration.server_name = server_name(tls.server_name)
    check_pin(tls)
    if tls.insecure or tls.pin_sha256 is not None:
        configuration.verify_mode = ssl.CERT_NONE
    elif tls.ca_file is not None:
        certificates(tls.ca_file)
        configuration.cadata = read(tls.ca_file)
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
