"""How a connection ended, from aioquic's words into ours.

Rules:
- An application close carries a code of the error table; a transport close carries a code of RFC 9000 section 20.
- What happens before the handshake is complete is a failed handshake, unless it is more precise than that.
- `detail` is for people: one printable line, whatever the peer wrote.
"""

import re

from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription

from tunnel.engine.port import Closed
from tunnel.errors import Cause, cause_of_code

DETAIL_LENGTH = 200
"""Characters of a detail, ours or the peer's. CONNECTION_CLOSE has to fit into one packet of 1,200 bytes."""

_IDLE = "Idle timeout"
"""What aioquic writes where no packet came for too long: the only mark of it."""

_NAME_IN_CERTIFICATE = re.compile(r"\w+Pattern\(pattern=(?:b|\w+\()'([^']*)'\)*")
"""A name as aioquic quotes it in the reason: DNSPattern(pattern=b'proxy.test')."""

_CERTIFICATE_ALERTS = frozenset(
    {
        AlertDescription.bad_certificate,
        AlertDescription.unsupported_certificate,
        AlertDescription.certificate_revoked,
        AlertDescription.certificate_expired,
        AlertDescription.certificate_unknown,
        AlertDescription.unknown_ca,
    }
)


def closed_by_application(code: int, reason: str, *, by_peer: bool) -> Closed:
    cause = Cause.NONE if code == Cause.NONE.code else cause_of_code(code, Cause.TRANSPORT_ERROR)
    number = f"code {code:#x}" if cause is Cause.TRANSPORT_ERROR else ""
    return Closed(cause, one_line(", ".join(filter(None, [reason, number])) or cause.summary), by_peer)


def closed_by_transport(event: ConnectionTerminated, *, by_peer: bool, established: bool) -> Closed:
    """What an aioquic event means. `established` says whether the handshake was complete before."""
    if event.frame_type is None:
        return closed_by_application(event.error_code, event.reason_phrase, by_peer=by_peer)
    if not by_peer and event.reason_phrase == _IDLE:
        cause = Cause.PEER_SILENT if established else Cause.HANDSHAKE_FAILED
        return Closed(cause, "no packet came for as long as the idle timeout", by_peer)
    cause = Cause.TRANSPORT_ERROR if established else Cause.HANDSHAKE_FAILED
    if event.error_code == QuicErrorCode.CONNECTION_REFUSED:
        cause = Cause.SERVER_BUSY
    elif event.error_code - QuicErrorCode.CRYPTO_ERROR in _CERTIFICATE_ALERTS:
        cause = Cause.CERTIFICATE_REFUSED
    reason = _NAME_IN_CERTIFICATE.sub(r"\1", event.reason_phrase) or cause.summary
    return Closed(cause, one_line(f"{_name(event.error_code)}: {reason}"), by_peer)


def one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text[:DETAIL_LENGTH])


def _name(code: int) -> str:
    """`PROTOCOL_VIOLATION`, `TLS alert bad_certificate`, or the number."""
    try:
        if QuicErrorCode.CRYPTO_ERROR <= code < QuicErrorCode.CRYPTO_ERROR + 0x100:
            return f"TLS alert {AlertDescription(code - QuicErrorCode.CRYPTO_ERROR).name}"
        return QuicErrorCode(code).name
    except ValueError:
        return f"error {code:#x}"
