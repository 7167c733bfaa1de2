"""Two proxies on virtual machines, run from seeds: whatever the network and the programs do, nothing is wrong.

These are the first seeds, in less than three minutes. `make sim SEEDS=1000000` plays more of them (see `__main__`), and
`make sim SEED=123` is how a failure says it can be seen again.
"""

import pytest
from tests.sim.seeds import MODEL, REAL, play

from tunnel.engine.settings import ServerTls

MODEL_SEEDS = 2000
REAL_SEEDS = 200

BATCHES = 20
"""Each is a test: a failure costs the rest of its batch only."""


@pytest.mark.parametrize("batch", range(BATCHES))
def test_on_the_model_engine(batch: int, server_tls: ServerTls) -> None:
    for seed in range(batch, MODEL_SEEDS, BATCHES):
        play(MODEL, seed, server_tls)


@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("pairing", REAL)
def test_on_a_real_engine(pairing: str, batch: int, server_tls: ServerTls) -> None:
    for seed in range(batch, REAL_SEEDS, BATCHES):
        play(pairing, seed, server_tls)
