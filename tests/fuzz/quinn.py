"""Target: the server's datagram input with the engine quinn. Rust tells no coverage; a panic is found all the same.

Its keys are the operating system's, so that an input's bytes mean the same each time, and the server's answers do not.
"""

from tests.fuzz import server
from tests.sim.engines import native_engine

from tunnel.engine.port import Engine
from tunnel.engine.settings import EngineLimits, ServerTls


def one_input(data: bytes) -> None:
    server.run(_server, data)


def _server(tls: ServerTls, limits: EngineLimits) -> Engine:
    engine: Engine = native_engine().server_engine(tls, limits, seed=1)
    return engine
