"""Why a connection ended, from aioquic's words into those of `tunnel.engine.causes`."""

import re

from aioquic.quic.events import ConnectionTerminated

from tunnel.engine.causes import closed_by_application, closed_by_silence
from tunnel.engine.causes import closed_by_transport as closed_by_code
from tunnel.engine.port import Closed

_IDLE = "Idle timeout"
"""What aioquic writes where no packet came for too long: the only mark of it."""

_NAME_IN_CERTIFICATE = re.compile(r"\w+Pattern\(pattern=(?:b|\w+\()'([^']*)'\)*")
"""A name as aioquic quotes it in the reason: DNSPattern(pattern=b'proxy.test')."""


def closed_by_transport(event: ConnectionTerminated, *, by_peer: bool, established: bool) -> Closed:
    """What an aioquic event means. `established` says whether the handshake was complete before."""
    if event.frame_type is None:
        return closed_by_application(event.error_code, event.reason_phrase, by_peer=by_peer)
    if not by_peer and event.reason_phrase == _IDLE:
        return closed_by_silence(established=established)
    reason = _NAME_IN_CERTIFICATE.sub(r"\1", event.reason_phrase)
    return closed_by_code(event.error_code, reason, by_peer=by_peer, established=established)
