"""Listening sockets, with errors for people."""

import os
import socket

from servicekit.address import Address
from servicekit.errors import CannotStartError

# The kernel cuts it down to net.core.somaxconn (4096 by default since Linux 5.4): a burst waits, it is not refused.
BACKLOG = 4096


def listen_tcp(address: Address, backlog: int = BACKLOG) -> socket.socket:
    """A non-blocking listening TCP socket. Resolves names, blocking. Raises CannotStartError."""
    try:
        family, kind, protocol, _, name = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(name)
            listener.listen(backlog)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise CannotStartError(f"cannot listen on {address}: {reason}") from error
    return listener
