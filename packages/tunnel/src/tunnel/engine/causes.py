"""Why a connection ended, in our words, whatever the engine.

Rules:
- An application close carries a code of the error table; a transport close carries a code of RFC 9000 section 20.
- What happens before the handshake is complete is a failed handshake, unless it is more precise than that.
- `detail` is for people: one printable line, whatever the peer wrote.
"""

from enum import IntEnum, unique

from tunnel.engine.port import Closed
from tunnel.errors import Cause, cause_of_code

DETAIL_LENGTH = 200
"""Characters of a detail, ours or the peer's. CONNECTION_CLOSE has to fit into one packet of 1,200 bytes."""

CRYPTO_ERROR = 0x100
"""Above it stand TLS alerts (RFC 9001 section 4.8)."""


@unique
class TransportCode(IntEnum):
    """RFC 9000 section 20.1."""

    NO_ERROR = 0x0
    INTERNAL_ERROR = 0x1
    CONNECTION_REFUSED = 0x2
    FLOW_CONTROL_ERROR = 0x3
    STREAM_LIMIT_ERROR = 0x4
    STREAM_STATE_ERROR = 0x5
    FINAL_SIZE_ERROR = 0x6
    FRAME_ENCODING_ERROR = 0x7
    TRANSPORT_PARAMETER_ERROR = 0x8
    CONNECTION_ID_LIMIT_ERROR = 0x9
    PROTOCOL_VIOLATION = 0xA
    INVALID_TOKEN = 0xB
    APPLICATION_ERROR = 0xC
    CRYPTO_BUFFER_EXCEEDED = 0xD
    KEY_UPDATE_ERROR = 0xE
    AEAD_LIMIT_REACHED = 0xF
    NO_VIABLE_PATH = 0x10


@unique
class Alert(IntEnum):
    """RFC 8446 section 6, those that a handshake can end with."""

    unexpected_message = 10
    bad_record_mac = 20
    handshake_failure = 40
    bad_certificate = 42
    unsupported_certificate = 43
    certificate_revoked = 44
    certificate_expired = 45
    certificate_unknown = 46
    illegal_parameter = 47
    unknown_ca = 48
    access_denied = 49
    decode_error = 50
    decrypt_error = 51
    protocol_version = 70
    insufficient_security = 71
    internal_error = 80
    missing_extension = 109
    unsupported_extension = 110
    unrecognized_name = 112
    certificate_required = 116
    no_application_protocol = 120


_CERTIFICATE_ALERTS = frozenset(
    {
        Alert.bad_certificate,
        Alert.unsupported_certificate,
        Alert.certificate_revoked,
        Alert.certificate_expired,
        Alert.certificate_unknown,
        Alert.unknown_ca,
    }
)


def closed_by_application(code: int, reason: str, *, by_peer: bool) -> Closed:
    cause = Cause.NONE if code == Cause.NONE.code else cause_of_code(code, Cause.TRANSPORT_ERROR)
    number = f"code {code:#x}" if cause is Cause.TRANSPORT_ERROR else ""
    return Closed(cause, one_line(", ".join(filter(None, [reason, number])) or cause.summary), by_peer)


def closed_by_transport(code: int, reason: str, *, by_peer: bool, established: bool) -> Closed:
    """`established` says whether the handshake was complete before."""
    cause = Cause.TRANSPORT_ERROR if established else Cause.HANDSHAKE_FAILED
    if code == TransportCode.CONNECTION_REFUSED:
        cause = Cause.SERVER_BUSY
    elif code - CRYPTO_ERROR in _CERTIFICATE_ALERTS:
        cause = Cause.CERTIFICATE_REFUSED
    return Closed(cause, one_line(f"{_name(code)}: {reason or cause.summary}"), by_peer)


def closed_by_silence(*, established: bool) -> Closed:
    if not established:
        return Closed(Cause.HANDSHAKE_FAILED, "the handshake took too long", by_peer=False)
    return Closed(Cause.PEER_SILENT, "no packet came for as long as the idle timeout", by_peer=False)


def one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text[:DETAIL_LENGTH])


def _name(code: int) -> str:
    """`PROTOCOL_VIOLATION`, `TLS alert bad_certificate`, or the number."""
    try:
        if CRYPTO_ERROR <= code < CRYPTO_ERROR + 0x100:
            return f"TLS alert {Alert(code - CRYPTO_ERROR).name}"
        return TransportCode(code).name
    except ValueError:
        return f"error {code:#x}"
