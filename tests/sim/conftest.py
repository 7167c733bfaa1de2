"""What every simulation needs: a certificate, and engines made with it."""

import pytest
from tests.sim.engines import make_certificate

from tunnel.engine.settings import ServerTls


@pytest.fixture(scope="session")
def server_tls(tmp_path_factory: pytest.TempPathFactory) -> ServerTls:
    return make_certificate(tmp_path_factory.mktemp("certificate"))
