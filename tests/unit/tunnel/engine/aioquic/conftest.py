"""Fixtures of the aioquic engine's tests."""

import pytest
from tests.sim.pair import Pair
from tests.unit.tunnel.engine.aioquic.harness import Certificates, MakePair, make_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def make_pair(certificates: Certificates) -> MakePair:
    return MakePair(certificates)


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    """Connected and accepted, across a clean path of 40 ms."""
    return make_pair().connect()
