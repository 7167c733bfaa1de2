"""The engines that are tested: how a pair of each kind is made.

Rules:
- The model engine's randomness is the seed's. aioquic's is its own here (connection ids, keys): nothing that it
  decides depends on them, and sizes and times, which do matter, are the same each time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.sim.model_connection import Faults
from tests.sim.model_engine import ModelEngine

from tunnel.engine import aioquic
from tunnel.engine.port import Engine
from tunnel.engine.settings import ClientTls, EngineLimits, ServerTls

SERVER_NAME = "proxy.test"


@dataclass(frozen=True, slots=True)
class Engines:
    """How engines of one kind are made, each call a new endpoint. The server is made anew after a restart."""

    name: str
    client: Callable[[EngineLimits, Random], Engine]
    server: Callable[[EngineLimits, Random], Engine]


def model_engines(faults: Faults) -> Engines:
    return Engines(
        "model",
        lambda limits, rng: ModelEngine(True, limits, Random(rng.random()), faults),
        lambda limits, rng: ModelEngine(False, limits, Random(rng.random()), faults),
    )


def aioquic_engines(server_tls: ServerTls) -> Engines:
    client_tls = ClientTls(SERVER_NAME, ca_file=server_tls.certificate_file)
    return Engines(
        "aioquic",
        lambda limits, rng: aioquic.client_engine(client_tls, limits),
        lambda limits, rng: aioquic.server_engine(server_tls, limits),
    )


def make_certificate(directory: Path) -> ServerTls:
    """A self-signed certificate for SERVER_NAME, its own authority. Ed25519, because that is the quickest to verify."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
    )
    tls = ServerTls(directory / "certificate.pem", directory / "key.pem")
    tls.certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    tls.private_key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return tls
