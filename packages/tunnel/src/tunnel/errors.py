"""The error table: one row for each way something can end badly.

Rules:
- An error is parsed once, at the edge where it happens, and travels as a `Cause` from there on.
- A cause's `code` goes on the wire: as the status of a REPLY, as the code of RESET_STREAM and STOP_SENDING,
  and as the code of CONNECTION_CLOSE. Numbers are never reused (PROTOCOL.md lists them).
- A cause's `label` goes into metrics and logs, its `reply` to the SOCKS client, its `summary` to people.
"""

import errno
from dataclasses import dataclass
from enum import Enum, IntEnum, unique


@unique
class Reply(IntEnum):
    """Reply field of a SOCKS5 reply (RFC 1928 section 6)."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: the number on the wire, the SOCKS reply, and what to tell people."""

    code: int
    reply: Reply
    summary: str


@unique
class Cause(Enum):
    """Why something ended. The member's name in lower case is its metric label."""

    # Nothing went wrong.
    NONE = Row(0x00, Reply.SUCCEEDED, "no error")

    # The target could not be reached: REPLY statuses.
    CONNECTION_REFUSED = Row(0x01, Reply.CONNECTION_REFUSED, "the target refused the connection")
    HOST_UNREACHABLE = Row(0x02, Reply.HOST_UNREACHABLE, "there is no route to the target's host")
    NETWORK_UNREACHABLE = Row(0x03, Reply.NETWORK_UNREACHABLE, "there is no route to the target's network")
    NAME_NOT_FOUND = Row(0x04, Reply.HOST_UNREACHABLE, "the target's name does not resolve")
    # 6 is what Tor, Dante and microsocks answer too when a dial times out.
    DIAL_TIMEOUT = Row(0x05, Reply.TTL_EXPIRED, "the target did not answer in time")
    POLICY_DENIED = Row(0x06, Reply.NOT_ALLOWED, "the egress policy does not allow the target's address")
    DIAL_FAILED = Row(0x07, Reply.GENERAL_FAILURE, "the target could not be dialled")
    LIMIT_REACHED = Row(0x08, Reply.GENERAL_FAILURE, "a limit of the server is reached")
    NAME_LOOKUP_FAILED = Row(0x09, Reply.HOST_UNREACHABLE, "the target's name could not be looked up for now")

    # What the SOCKS client asked for cannot be done. Local to proxy-client, but numbered like the rest.
    COMMAND_NOT_SUPPORTED = Row(0x10, Reply.COMMAND_NOT_SUPPORTED, "only CONNECT is supported")
    ADDRESS_TYPE_NOT_SUPPORTED = Row(
        0x11, Reply.ADDRESS_TYPE_NOT_SUPPORTED, "the address type is none of IPv4, IPv6 and name"
    )
    BAD_REQUEST = Row(0x12, Reply.GENERAL_FAILURE, "the SOCKS request is malformed")
    SOCKS_VERSION = Row(0x13, Reply.GENERAL_FAILURE, "the client does not speak SOCKS version 5")
    NO_ACCEPTABLE_METHOD = Row(
        0x14, Reply.GENERAL_FAILURE, "the client offers no authentication method that is accepted here"
    )
    BAD_CREDENTIALS = Row(0x15, Reply.GENERAL_FAILURE, "user name or password is wrong")
    SOCKS_TIMEOUT = Row(0x16, Reply.GENERAL_FAILURE, "the SOCKS handshake took too long")
    SOCKS_TRUNCATED = Row(0x17, Reply.GENERAL_FAILURE, "the client left in the middle of the SOCKS handshake")
    TUNNEL_DOWN = Row(0x18, Reply.GENERAL_FAILURE, "there is no connection to the proxy server")
    OPEN_TIMEOUT = Row(0x19, Reply.GENERAL_FAILURE, "the proxy server did not answer the request in time")

    # A stream ended before its time: codes of RESET_STREAM and STOP_SENDING.
    TARGET_RESET = Row(0x20, Reply.GENERAL_FAILURE, "the target reset the connection")
    APPLICATION_RESET = Row(0x21, Reply.GENERAL_FAILURE, "the application reset the connection")
    SOCKET_FAILED = Row(0x22, Reply.GENERAL_FAILURE, "the socket failed")
    HALF_CLOSED_TIMEOUT = Row(
        0x23, Reply.GENERAL_FAILURE, "one direction ended and the other made no progress for too long"
    )
    IDLE_TIMEOUT = Row(0x24, Reply.GENERAL_FAILURE, "neither direction made progress for too long")
    CANCELLED = Row(0x25, Reply.GENERAL_FAILURE, "the receiver takes no more")
    RETRY_ELSEWHERE = Row(0x26, Reply.GENERAL_FAILURE, "the server is draining and did not process the stream")
    RESCUED = Row(0x27, Reply.GENERAL_FAILURE, "the end arrived by END, the stream's own is no longer needed")
    SHUTTING_DOWN = Row(0x28, Reply.GENERAL_FAILURE, "the program was stopped")
    REFUSED = Row(0x29, Reply.GENERAL_FAILURE, "the request was refused; the REPLY says why")

    # A connection ended: codes of CONNECTION_CLOSE.
    PROTOCOL_VIOLATION = Row(0x40, Reply.GENERAL_FAILURE, "the peer broke the protocol")
    VERSION_UNSUPPORTED = Row(0x41, Reply.GENERAL_FAILURE, "the peer speaks another version of the protocol")
    TOKEN_REFUSED = Row(0x42, Reply.GENERAL_FAILURE, "the server does not know the token")
    HELLO_TIMEOUT = Row(0x43, Reply.GENERAL_FAILURE, "the peer did not introduce itself in time")
    SERVER_BUSY = Row(0x44, Reply.GENERAL_FAILURE, "the server has as many connections as it takes")
    INTERNAL = Row(0x45, Reply.GENERAL_FAILURE, "a fault of finback itself")
    TOO_MANY_CONNECTIONS = Row(
        0x46, Reply.GENERAL_FAILURE, "the client has as many connections as the server allows it"
    )

    # A connection was lost; nobody sends these.
    TUNNEL_LOST = Row(0x60, Reply.GENERAL_FAILURE, "the connection between the proxies was lost")
    HANDSHAKE_FAILED = Row(0x61, Reply.GENERAL_FAILURE, "the QUIC handshake failed")
    CERTIFICATE_REFUSED = Row(0x62, Reply.GENERAL_FAILURE, "the server's certificate cannot be verified")
    PEER_SILENT = Row(0x63, Reply.GENERAL_FAILURE, "the peer did not answer any more")
    PEER_RESTARTED = Row(0x64, Reply.GENERAL_FAILURE, "the peer restarted and has forgotten the connection")
    TRANSPORT_ERROR = Row(0x65, Reply.GENERAL_FAILURE, "QUIC closed the connection with an error")

    @property
    def code(self) -> int:
        return self.value.code

    @property
    def reply(self) -> Reply:
        return self.value.reply

    @property
    def summary(self) -> str:
        return self.value.summary

    @property
    def label(self) -> str:
        return self.name.lower()


_BY_CODE = {cause.code: cause for cause in Cause}


def cause_of_code(code: int, default: Cause) -> Cause:
    """The cause behind a number from the wire; `default` where the number is not ours or says "no error"."""
    return _BY_CODE.get(code, default) if code else default


_DIAL_ERRNO = {
    errno.ECONNREFUSED: Cause.CONNECTION_REFUSED,
    errno.ECONNRESET: Cause.CONNECTION_REFUSED,  # It had accepted, and its program ended before we heard of that.
    errno.EHOSTUNREACH: Cause.HOST_UNREACHABLE,
    errno.EHOSTDOWN: Cause.HOST_UNREACHABLE,
    errno.ENETUNREACH: Cause.NETWORK_UNREACHABLE,
    errno.ENETDOWN: Cause.NETWORK_UNREACHABLE,
    errno.EADDRNOTAVAIL: Cause.NETWORK_UNREACHABLE,
    errno.ETIMEDOUT: Cause.DIAL_TIMEOUT,
    errno.EMFILE: Cause.LIMIT_REACHED,
    errno.ENFILE: Cause.LIMIT_REACHED,
}


def cause_of_dial_error(error: OSError) -> Cause:
    """Parses what `connect` raised. Name errors are told apart by their type before this is asked."""
    return _DIAL_ERRNO.get(error.errno or 0, Cause.DIAL_FAILED)


def cause_of_socket_error(error: OSError, on_reset: Cause) -> Cause:
    """Parses what `recv` or `send` raised on a connected socket; `on_reset` names whose socket it is."""
    return on_reset if error.errno in (errno.ECONNRESET, errno.EPIPE) else Cause.SOCKET_FAILED
