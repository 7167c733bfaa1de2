"""The reference engine: aioquic, pure Python, behind the port of `tunnel.engine.port`."""

from tunnel.engine.aioquic.client import ClientEndpoint, PathMtu
from tunnel.engine.aioquic.credit import WindowBudget
from tunnel.engine.aioquic.server import ServerEndpoint
from tunnel.engine.port import Engine
from tunnel.engine.settings import ClientTls, EngineLimits, Qlog, ServerTls, TlsFileError

__all__ = ["PathMtu", "TlsFileError", "WindowBudget", "client_engine", "server_engine"]


def client_engine(
    tls: ClientTls,
    limits: EngineLimits,
    *,
    path_mtu: PathMtu = lambda address: None,
    budget: WindowBudget | None = None,
    qlog: Qlog | None = None,
) -> Engine:
    """An endpoint that connects.

    `path_mtu` gives the bytes of the largest IP packet that the way to an address carries; without an answer datagrams
    have the smallest size. `budget` is shared by all engines of a process; without one it is this engine's alone.
    `qlog` asks for a file of each connection. Raises TlsFileError for a CA file that cannot be used, ValueError for an
    impossible server name or pin, or bbr.
    """
    return ClientEndpoint(tls, limits, budget or WindowBudget(limits.window_budget_bytes), path_mtu, qlog)


def server_engine(
    tls: ServerTls, limits: EngineLimits, *, budget: WindowBudget | None = None, qlog: Qlog | None = None
) -> Engine:
    """An endpoint that is connected to. Raises TlsFileError for a certificate or key that cannot be used."""
    return ServerEndpoint(tls, limits, budget or WindowBudget(limits.window_budget_bytes), qlog)
