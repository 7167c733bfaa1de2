"""How a transaction ends, and the one place where an error becomes an outcome.

Rules
- A transaction has exactly one outcome. Stall and slow are attributes of a transaction, not outcomes.
- Errors are parsed at the edge, once: from there on there is `Failed` with an outcome and a detail for people.
- A failure of the generator's own (no descriptor, no port left) is `aborted`: the proxy is not to blame.
"""

import errno
import socket
from enum import StrEnum, unique


@unique
class Outcome(StrEnum):
    """The value is the metric label."""

    OK = "ok"
    EOF_MISSING = "eof_missing"
    """every expected byte arrived, and then no end of stream within the timeout of eof_wait"""
    EOF_PREMATURE = "eof_premature"
    """the end of stream came before the last expected byte, in either direction"""
    TIMEOUT = "timeout"
    """any other phase reached its timeout"""
    RESET = "reset"
    """the connection was reset or refused"""
    CORRUPT = "corrupt"
    """bytes differ from what was expected, or are not the protocol"""
    EXCESS = "excess"
    """bytes behind the expected end"""
    SOCKS_REJECTED = "socks_rejected"
    """the proxy said no, in the words of RFC 1928"""
    HTTP_ERROR = "http_error"
    """a status other than the expected one"""
    ABORTED = "aborted"
    """ended by the generator before it had an outcome"""


class Failed(Exception):
    """Ends a transaction with an outcome other than ok."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(f"{outcome}: {detail}")
        self.outcome = outcome
        self.detail = detail


_OWN = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})


def of_os_error(error: OSError) -> Failed:
    """The outcome of what the kernel says about a socket."""
    detail = error.strerror or str(error) or type(error).__name__
    if isinstance(error, socket.gaierror):
        return Failed(Outcome.ABORTED, f"the proxy's name does not resolve: {detail}")
    if error.errno in _OWN:
        return Failed(Outcome.ABORTED, f"the generator has run out: {detail}")
    if error.errno == errno.ETIMEDOUT:
        return Failed(Outcome.TIMEOUT, detail)
    return Failed(Outcome.RESET, detail)
