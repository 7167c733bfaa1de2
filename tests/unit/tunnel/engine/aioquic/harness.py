"""What the tests of the aioquic engine share: a way inside."""

from tests.sim.pair import Side

from tunnel.engine.aioquic.connection import Connection
from tunnel.engine.aioquic.endpoint import Endpoint


def endpoint(side: Side) -> Endpoint:
    assert isinstance(side.engine, Endpoint)
    return side.engine


def quic(side: Side) -> Connection:
    """The connection inside, while it lives."""
    return endpoint(side)._links[side.connection].quic
