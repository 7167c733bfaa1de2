"""Target: the server's datagram input with the engine aioquic."""

from tests.fuzz import server

from tunnel.engine.aioquic import server_engine


def one_input(data: bytes) -> None:
    server.run(server_engine, data)
