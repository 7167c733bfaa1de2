"""What the tests of the aioquic engine share: certificates made for the run, pairs of engines, and a way inside."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import trustme
from tests.sim.network import Link
from tests.sim.pair import Pair, Side

from tunnel.engine.aioquic import client_engine, server_engine
from tunnel.engine.aioquic.connection import Connection
from tunnel.engine.aioquic.endpoint import Endpoint
from tunnel.engine.port import Address, Connected, Event
from tunnel.engine.settings import KIB, ClientTls, EngineLimits, ServerTls

NAMES = ("proxy.test", "192.0.2.2", "2001:db8::2")
CODE = 0x25

SMALL = EngineLimits(
    stream_window_floor_bytes=64 * KIB,
    stream_window_cap_bytes=64 * KIB,
    send_cap_bytes=128 * KIB,
    control_window_bytes=16 * KIB,
    max_streams=16,
    greeting_streams=4,
    greeting_credit_bytes=128 * KIB,
)
"""Windows that do not grow, small enough to be filled in no time."""


@dataclass(frozen=True)
class Certificates:
    """One authority, and a server's certificate that it has signed for NAMES."""

    server: ServerTls
    client: ClientTls


def make_certificates(directory: Path) -> Certificates:
    authority = trustme.CA()
    certificate = authority.issue_cert(*NAMES)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(directory / "certificate.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    return Certificates(
        ServerTls(directory / "certificate.pem", directory / "key.pem"),
        ClientTls(NAMES[0], ca_file=directory / "ca.pem"),
    )


@dataclass(frozen=True)
class MakePair:
    """Engines across a virtual network; not connected yet."""

    certificates: Certificates

    def __call__(
        self,
        limits: EngineLimits = SMALL,
        link: Link = Link(),  # noqa: B008
        seed: int = 1,
        client: ClientTls | None = None,
        path_mtu: Callable[[Address], int | None] = lambda address: None,
        server_limits: EngineLimits | None = None,
    ) -> Pair:
        return Pair.of(
            client_engine(client or self.certificates.client, limits, path_mtu=path_mtu),
            server_engine(self.certificates.server, server_limits or limits),
            link,
            seed,
        )


def endpoint(side: Side) -> Endpoint:
    assert isinstance(side.engine, Endpoint)
    return side.engine


def quic(side: Side) -> Connection:
    """The connection inside, while it lives."""
    return endpoint(side)._links[side.connection].quic


def assert_empty(engine: Endpoint) -> None:
    """Nothing is kept of anything (F20)."""
    assert not engine._links
    assert not engine._routes
    assert not engine._unfinished
    assert not engine._touched
    assert len(engine._timers) == 0
    assert engine.get_timer() is None


def ignore_unfinished(side: Side) -> None:
    """A server also reports the ends of connections that never were complete; `Side` knows one connection only."""
    poll_event = side.engine.poll_event

    def only_its_own() -> tuple[int, Event] | None:
        while (happened := poll_event()) is not None:
            number, event = happened
            if number == side.connection or (not side.connection and isinstance(event, Connected)):
                return happened
        return None

    side.engine.poll_event = only_its_own  # type: ignore[method-assign]


def with_limits(**changes: object) -> EngineLimits:
    return replace(SMALL, **changes)  # type: ignore[arg-type]
