"""Fixtures of the native engine's tests: both sides are quinn's. Without its wheel they are skipped."""

import pytest
from tests.sim.pair import Pair
from tests.unit.tunnel.engine.harness import Certificates, MakeRealPair


@pytest.fixture
def make_pair(certificates: Certificates) -> MakeRealPair:
    return MakeRealPair.of(certificates, "quinn")


@pytest.fixture
def pair(make_pair: MakeRealPair) -> Pair:
    """Connected and accepted, across a clean path of 40 ms."""
    return make_pair().connect()
