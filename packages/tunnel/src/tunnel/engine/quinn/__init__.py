"""The native engine: quinn's sans-IO core (packages/quinn-engine), which has the methods of `tunnel.engine.port`.

Here is only what Python does better: files, names, and which cause an ending has. ImportError without the wheel, and
with one of another revision: what it lacks would show when somebody asks for it, or never.
"""

from collections.abc import Callable

import quinn_engine
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate
from quinn_engine import Endpoint

from tunnel.engine import causes, port
from tunnel.engine.credentials import certificates, check_pin, key_pair, server_name, system_authorities
from tunnel.engine.port import Address, Closed, Engine
from tunnel.engine.settings import ClientTls, EngineLimits, Qlog, ServerTls, TlsFileError
from tunnel.errors import Cause

__all__ = ["TlsFileError", "client_engine", "server_engine"]

API = 2
"""Rises with each change of what the wheel and `tunnel.engine` say to each other, in the crate's src/lib.rs as here."""

if (_of_wheel := getattr(quinn_engine, "API", 0)) != API:
    raise ImportError(f"its wheel is of another revision (API {_of_wheel}, not {API}); `make native` builds it anew")


def client_engine(
    tls: ClientTls,
    limits: EngineLimits,
    *,
    path_mtu: Callable[[Address], int | None] | None = None,
    seed: int | None = None,
    qlog: Qlog | None = None,
) -> Engine:
    """An endpoint that connects.

    `path_mtu` gives the bytes of the largest IP packet that the way to an address carries: no larger datagrams are
    probed. `seed` is for simulations. `qlog` asks for a file of each connection. Raises TlsFileError for a CA file that
    cannot be used, ValueError for an impossible server name or pin.
    """
    check_pin(tls)
    pin = None if tls.insecure else tls.pin_sha256
    authorities = None
    if not tls.insecure and pin is None:
        found = system_authorities() if tls.ca_file is None else certificates(tls.ca_file)
        authorities = [_authority(certificate) for certificate in found]
    return Endpoint.client(
        port,
        _closed,
        limits,
        server_name(tls.server_name),
        authorities=authorities,
        pin_sha256=pin,
        path_mtu=path_mtu,
        seed=seed,
        qlog=qlog,
    )


def server_engine(tls: ServerTls, limits: EngineLimits, *, seed: int | None = None, qlog: Qlog | None = None) -> Engine:
    """An endpoint that is connected to. Raises TlsFileError for a certificate or key that cannot be used."""
    certificate, private_key = key_pair(tls)
    try:
        return Endpoint.server(port, _closed, limits, certificate, private_key, seed=seed, qlog=qlog)
    except ValueError as error:
        raise TlsFileError(f"{tls.certificate_file}, {tls.private_key_file}: cannot be used: {error}") from error


def _authority(certificate: Certificate) -> tuple[bytes, int, int]:
    """DER, and the seconds since 1970 between which it is valid."""
    valid_from, valid_until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    der = certificate.public_bytes(Encoding.DER)
    return der, max(0, int(valid_from.timestamp())), max(0, int(valid_until.timestamp()))


def _closed(kind: str, code: int, reason: str, by_peer: bool, established: bool) -> Closed:
    match kind:
        case "application":
            return causes.closed_by_application(code, reason, by_peer=by_peer)
        case "timed_out":
            return causes.closed_by_silence(established=established)
        case "forgotten":
            return Closed(Cause.PEER_RESTARTED, Cause.PEER_RESTARTED.summary, by_peer)
        case _:
            return causes.closed_by_transport(code, reason, by_peer=by_peer, established=established)
