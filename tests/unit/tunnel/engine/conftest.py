"""The engines that the contract of the port is checked on: each test here runs on each of them."""

from random import Random
from types import ModuleType
from typing import Protocol

import pytest
from tests.sim import engines as sim_engines
from tests.sim.engines import Engines, engines_of, make_certificate
from tests.sim.model_connection import Faults
from tests.sim.network import Link
from tests.sim.pair import Pair
from tests.unit.tunnel.engine.harness import (
    ADAPTERS,
    CLEAN,
    PAIRINGS,
    SMALL,
    Certificates,
    MakeRealPair,
    adapter_of,
    make_certificates,
)

from tunnel.engine.settings import EngineLimits, ServerTls


class MakePair(Protocol):
    """Two engines across a virtual network; not connected yet."""

    def __call__(self, limits: EngineLimits = SMALL, link: Link = CLEAN, seed: int = 1) -> Pair: ...


@pytest.fixture(scope="session")
def server_tls(tmp_path_factory: pytest.TempPathFactory) -> ServerTls:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=sim_engines.PAIRINGS)
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


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> ModuleType:
    """One engine's module."""
    return adapter_of(request.param)


@pytest.fixture(params=PAIRINGS)
def make_real_pair(request: pytest.FixtureRequest, certificates: Certificates) -> MakeRealPair:
    """For what the model of the simulation does not have: TLS, packets, addresses of strangers."""
    return MakeRealPair.of(certificates, request.param)


@pytest.fixture
def real_pair(make_real_pair: MakeRealPair) -> Pair:
    """Connected and accepted, across a clean path of 40 ms."""
    return make_real_pair().connect()
