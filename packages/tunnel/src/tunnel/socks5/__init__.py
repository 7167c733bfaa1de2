"""SOCKS version 5, the server's side (RFC 1928, RFC 1929), sans-IO: bytes in, events out."""

from tunnel.socks5.handshake import EARLY_BYTES_MAX, HANDSHAKE_BYTES_MAX, Handshake, State
from tunnel.socks5.messages import Close, Event, Request, Write, reply

__all__ = [
    "EARLY_BYTES_MAX",
    "HANDSHAKE_BYTES_MAX",
    "Close",
    "Event",
    "Handshake",
    "Request",
    "State",
    "Write",
    "reply",
]
