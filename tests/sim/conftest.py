"""What every simulation needs: engines, and the seeds that are asked for."""

import pytest
from tests.sim.engines import Engines, aioquic_engines, make_certificate


@pytest.fixture(scope="session")
def aioquic(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    return aioquic_engines(make_certificate(tmp_path_factory.mktemp("certificate")))
