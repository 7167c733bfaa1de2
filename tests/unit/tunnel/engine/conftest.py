"""The engines that the contract of the port is checked on: each test here runs on each of them."""

from random import Random
from typing import Protocol

import pytest
from tests.sim.engines import PAIRINGS, Engines, engines_of, make_certificate
from tests.sim.model_connection import Faults
from tests.sim.network import Link
from tests.sim.pair import Pair

from tunnel.engine.settings import KIB, EngineLimits, ServerTls

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


CLEAN = Link()


class MakePair(Protocol):
    """Two engines across a virtual network; not connected yet."""

    def __call__(self, limits: EngineLimits = SMALL, link: Link = CLEAN, seed: int = 1) -> Pair: ...


@pytest.fixture(scope="session")
def server_tls(tmp_path_factory: pytest.TempPathFactory) -> ServerTls:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=PAIRINGS)
def engines(request: pytest.FixtureRequest, server_tls: ServerTls) -> Engines:
    return engines_of(request.param, server_tls, Faults())


@pytest.fixture
def make_pair(engines: Engines) -> MakePair:
    def make(limits: EngineLimits = SMALL, link: Link = CLEAN, seed: int = 1) -> Pair:
        rng = Random(seed)
        return Pair.of(engines.client(limits, rng), engines.server(limits, rng), link, seed)

    return make


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    """Connected and accepted, across a clean path of 40 ms."""
    return make_pair().connect()
