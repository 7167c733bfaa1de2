"""Answers that need no connection: Version Negotiation, Retry, and a close for those who are not let in.

Rules:
- Each is smaller than the datagram it answers, so nobody can be flooded through us.
- Only what RFC 8999 promises of every version is read before the version is known.
"""

import os
from dataclasses import dataclass

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.crypto import (  # type: ignore[attr-defined]
    INITIAL_CIPHER_SUITE,
    INITIAL_SALT_VERSION_1,
    INITIAL_SALT_VERSION_2,
    CryptoContext,
    CryptoError,
    CryptoPair,
)
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.retry import QuicRetryTokenHandler
from aioquic.tls import cipher_suite_hash, hkdf_expand_label, hkdf_extract

from tunnel.engine.port import Address

CONNECTION_ID_BYTES = 8
"""Length of the connection ids that we choose, and so of those in every short header that is for us."""

INITIAL_DATAGRAM_BYTES = 1200
"""RFC 9000 section 14.1: what is shorter starts no connection."""

_LONG_HEADER = 0x80
_CLOSE_FRAME_BYTES = 64


@dataclass(frozen=True, slots=True)
class Initial:
    """The first packet of a client that is not known yet."""

    version: int
    destination_id: bytes
    source_id: bytes
    token: bytes
    encrypted_from: int
    """Where in the datagram its packet number begins."""
    ends_at: int


def destination_id(datagram: bytes) -> bytes:
    """The connection id that a datagram is routed by; a wrong or short one where the datagram is garbage."""
    if datagram and datagram[0] & _LONG_HEADER and len(datagram) > 5:
        return datagram[6 : 6 + datagram[5]]
    return datagram[1 : 1 + CONNECTION_ID_BYTES]


def parse_initial(datagram: bytes, versions: list[int]) -> Initial | bytes | None:
    """What a datagram of a stranger is: an Initial packet, something to answer with these bytes, or nothing."""
    if len(datagram) < INITIAL_DATAGRAM_BYTES or not datagram[0] & _LONG_HEADER:
        return None
    version = int.from_bytes(datagram[1:5], "big")
    if version not in versions:
        return _version_negotiation(datagram, versions) if version else None
    buffer = Buffer(data=datagram)
    try:
        header = pull_quic_header(buffer, host_cid_length=CONNECTION_ID_BYTES)
    except ValueError:
        return None
    if header.packet_type != QuicPacketType.INITIAL:
        return None
    ends_at = header.packet_length
    return Initial(version, header.destination_cid, header.source_cid, header.token, buffer.tell(), ends_at)


def decrypts(datagram: bytes, initial: Initial) -> bool:
    """Whether the packet is one. Its keys follow from the id that the client chose (RFC 9001 section 5.2), so anybody
    can make one that is; but noise is told for a tenth of what a connection costs."""
    algorithm = cipher_suite_hash(INITIAL_CIPHER_SUITE)
    is_2 = initial.version == QuicProtocolVersion.VERSION_2
    secret = hkdf_extract(algorithm, INITIAL_SALT_VERSION_2 if is_2 else INITIAL_SALT_VERSION_1, initial.destination_id)
    secret = hkdf_expand_label(algorithm, secret, b"client in", b"", algorithm.digest_size)
    crypto = CryptoContext()
    crypto.setup(cipher_suite=INITIAL_CIPHER_SUITE, secret=secret, version=initial.version)
    try:
        crypto.decrypt_packet(datagram[: initial.ends_at], initial.encrypted_from, 0)
    except CryptoError:
        return False
    return True


def retry(initial: Initial, tokens: QuicRetryTokenHandler, address: Address, now: float) -> bytes:
    """Asks the client to come again with a token, which proves that it is where it says (RFC 9000 section 8.1.2)."""
    source_id = os.urandom(CONNECTION_ID_BYTES)
    token = tokens.create_token(
        address=address,
        original_destination_connection_id=initial.destination_id,
        retry_source_connection_id=source_id,
        now=now,
    )
    return encode_quic_retry(
        version=initial.version,
        source_cid=source_id,
        destination_cid=initial.source_id,
        original_destination_cid=initial.destination_id,
        retry_token=token,
    )


def refusal(initial: Initial, code: QuicErrorCode, reason: str) -> bytes:
    """An Initial packet with a CONNECTION_CLOSE. Its keys follow from the id that the client chose."""
    crypto = CryptoPair()
    crypto.setup_initial(cid=initial.destination_id, is_client=False, version=initial.version)
    builder = QuicPacketBuilder(
        host_cid=initial.destination_id,
        is_client=False,
        max_datagram_size=INITIAL_DATAGRAM_BYTES,
        peer_cid=initial.source_id,
        version=initial.version,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    text = reason.encode()
    frame = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=_CLOSE_FRAME_BYTES + len(text))
    frame.push_uint_var(code)
    frame.push_uint_var(QuicFrameType.PADDING)
    frame.push_uint_var(len(text))
    frame.push_bytes(text)
    datagrams, _ = builder.flush()
    return datagrams[0]


def _version_negotiation(datagram: bytes, versions: list[int]) -> bytes | None:
    destination_end = 6 + datagram[5]
    if destination_end >= len(datagram):
        return None
    source_start = destination_end + 1
    source_end = source_start + datagram[destination_end]
    if source_end > len(datagram):
        return None
    return encode_quic_version_negotiation(
        source_cid=datagram[6:destination_end],
        destination_cid=datagram[source_start:source_end],
        supported_versions=versions,
    )
