"""Fixtures of the aioquic engine's tests: both sides are aioquic's."""

import pytest
from tests.sim.pair import Pair
from tests.unit.tunnel.engine.harness import Certificates, MakeRealPair


@pytest.fixture
def make_pair(certificates: Certificates) -> MakeRealPair:
    return MakeRealPair.of(certificates, "aioquic")


@pytest.fixture
def pair(make_pair: MakeRealPair) -> Pair:
    """Connected and accepted, across a clean path of 40 ms."""
    return make_pair().connect()
