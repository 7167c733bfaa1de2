"""What an engine is made with: TLS and limits. Every buffer's cap stands here, with its worst case.

Worst-case memory of one connection and direction:
- at the receiver, unread: max_streams x floor, 256 MiB (and with quinn 256 KiB a stream that were read ahead of it;
  with aioquic what windows have grown by, out of one budget for all connections);
- at the sender: one send cap unsent, plus one congestion window unacknowledged.
That takes peers who open all of their streams, fill them, and do not read. The ten connections of a proxy-client can
come to 2.5 GiB; a proxy-server's to as much for each client with a token. Before its token a connection has 256 KiB.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

KIB = 1024
MIB = 1024 * KIB

ALPN = "finback/1"

CongestionControl = Literal["cubic", "bbr", "reno"]


class TlsFileError(ValueError):
    """A certificate, key or CA file cannot be used; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files: the certificate with its chain, and its private key."""

    certificate_file: Path
    private_key_file: Path


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How the server is verified: the name it must show, and one of a CA file, a pin, or (insecure) nothing.

    With neither `ca_file` nor `pin_sha256` the system's authorities are asked. A pin is the SHA-256 of the
    server's certificate in DER, and then neither name nor chain counts.
    """

    server_name: str
    ca_file: Path | None = None
    pin_sha256: bytes | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Caps and times of an endpoint; the same on both sides unless said otherwise."""

    stream_window_floor_bytes: int = 1 * MIB
    """Credit that each stream always has."""
    stream_window_cap_bytes: int = 8 * MIB
    """How far a stream's credit grows while its reader keeps up."""
    window_budget_bytes: int = 128 * MIB
    """aioquic: of all connections; limits growth above the floors only, so that nothing can freeze anything else. With
    quinn a connection has `max_streams` floors in all: as that many streams, or as fewer with larger windows."""
    send_cap_bytes: int = 1 * MIB
    """Unsent bytes a connection takes from its streams. The control stream is exempt."""
    control_window_bytes: int = 64 * KIB
    max_streams: int = 256
    """Streams a client may have open at once; the session stays below (F15)."""
    greeting_streams: int = 16
    """The same, before `accept`: together with `greeting_credit_bytes` all that a stranger can make us hold."""
    greeting_credit_bytes: int = 256 * KIB
    max_connections: int = 1024
    """Server: beyond it, handshakes are refused."""
    retry_above_handshakes: int = 64
    """Server: with more unfinished handshakes than this, addresses are validated first (RFC 9000 section 8.1.2)."""
    handshake_timeout_s: float = 5.0
    idle_timeout_s: float = 30.0
    datagram_floor_bytes: int = 1200
    """RFC 9000 section 14."""
    datagram_cap_bytes: int = 16 * KIB
    """No datagram is larger, whatever the path would carry."""
    congestion_control: CongestionControl = "cubic"
    """bbr: only the engine quinn has it; aioquic refuses it with a ValueError."""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


@dataclass(frozen=True, slots=True)
class Qlog:
    """Where each connection gets a file STARTED-ROLE-ID.sqlog: a role is client or server, an id the first one that the
    client calls the server by, and so the same at both."""

    directory: Path
    """It exists. Whatever *.sqlog is in it counts: a program that starts again and again fills no disk."""
    started: str = field(default_factory=_now)
    """When the program did, in UTC: files sort by it."""
    files_max: int = 64
    file_bytes_max: int = 64 * MIB
