"""Listening sockets from HOST:PORT: non-blocking, with both address families where the host is `::`."""

import socket


def bound_socket(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """A non-blocking socket of `kind` (SOCK_DGRAM or SOCK_STREAM) bound to the first address of `host`.

    `::` takes IPv4 as well (peers then show as ::ffff:a.b.c.d). Resolves in the calling thread: for start-up.
    Raises OSError (socket.gaierror for a host that is none) and leaves no socket behind.
    """
    infos = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    family, kind_, protocol, _, address = infos[0]
    sock = socket.socket(family, kind_, protocol)
    try:
        if kind_ == socket.SOCK_STREAM:
            # A restarted listener must not wait for the old one's connections in TIME_WAIT. For UDP the same
            # option would let a second server steal the port silently, so it stays off there.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
