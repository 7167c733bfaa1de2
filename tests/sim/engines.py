"""The engines that are tested: how a pair of each kind is made.

Rules:
- All randomness is the seed's. aioquic asks the operating system for it, so that `seeded` answers in its place: then
  connection ids, keys and so every byte on the wire are the same each time.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from random import Random
from types import ModuleType
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.pairings import need_quinn
from tests.sim.model_connection import Faults
from tests.sim.model_engine import ModelEngine

from tunnel.engine import aioquic
from tunnel.engine.port import Address, Engine
from tunnel.engine.settings import ClientTls, EngineLimits, ServerTls

SERVER_NAME = "proxy.test"
PATH_MTU_BYTES = 1500
"""What the client's kernel says of the path, whatever it carries."""


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
        lambda limits, rng: aioquic.client_engine(client_tls, limits, path_mtu=_path_mtu),
        lambda limits, rng: aioquic.server_engine(server_tls, limits),
    )


def _path_mtu(address: Address) -> int:
    return PATH_MTU_BYTES


def native_engine() -> ModuleType:
    """Skips the test where its wheel is not installed; one that cannot be loaded is an error."""
    need_quinn()
    return import_module("tunnel.engine.quinn")


def quinn_engines(server_tls: ServerTls) -> Engines:
    """Its keys are the operating system's, so that bytes on the wire differ; what depends on chance is the seed's."""
    quinn = native_engine()
    client_tls = ClientTls(SERVER_NAME, ca_file=server_tls.certificate_file)
    return Engines(
        "quinn",
        lambda limits, rng: quinn.client_engine(client_tls, limits, path_mtu=_path_mtu, seed=rng.getrandbits(64)),
        lambda limits, rng: quinn.server_engine(server_tls, limits, seed=rng.getrandbits(64)),
    )


PAIRINGS = ("model", "aioquic", "quinn", "aioquic to quinn", "quinn to aioquic")
"""Client and server; one name where they are of one kind."""


def engines_of(pairing: str, server_tls: ServerTls, faults: Faults) -> Engines:
    """One of PAIRINGS. `faults` are the model's."""
    client, _, server = pairing.partition(" to ")
    ends = [_engines(kind, server_tls, faults) for kind in (client, server or client)]
    return Engines(pairing, ends[0].client, ends[1].server)


def _engines(kind: str, server_tls: ServerTls, faults: Faults) -> Engines:
    match kind:
        case "model":
            return model_engines(faults)
        case "aioquic":
            return aioquic_engines(server_tls)
        case _:
            return quinn_engines(server_tls)


@contextmanager
def seeded(rng: Random) -> Iterator[None]:
    """All that aioquic takes at random comes from `rng` meanwhile."""

    def ec_key(curve: ec.EllipticCurve, backend: object = None) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(rng.getrandbits(curve.key_size - 1) or 1, curve)

    def x25519_key() -> x25519.X25519PrivateKey:
        return x25519.X25519PrivateKey.from_private_bytes(rng.randbytes(32))

    def x448_key() -> x448.X448PrivateKey:
        return x448.X448PrivateKey.from_private_bytes(rng.randbytes(56))

    with ExitStack() as stack:
        stack.enter_context(patch("os.urandom", rng.randbytes))
        stack.enter_context(patch.object(ec, "generate_private_key", ec_key))
        stack.enter_context(patch.object(x25519.X25519PrivateKey, "generate", x25519_key))
        stack.enter_context(patch.object(x448.X448PrivateKey, "generate", x448_key))
        yield


def make_certificate(directory: Path) -> ServerTls:
    """A self-signed certificate for SERVER_NAME, the same each time. Ed25519, because that is quick to verify."""
    key = Ed25519PrivateKey.from_private_bytes(b"a key that everybody may know...")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
    )
    tls = ServerTls(directory / "certificate.pem", directory / "key.pem")
    tls.certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    tls.private_key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return tls
