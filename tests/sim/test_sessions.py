"""Two proxies on virtual machines, run from seeds: whatever the network and the programs do, nothing is wrong.

`make test` runs the first 500 seeds on the model engine and some of them on each pairing of the real ones. SEEDS=20000
runs more of them, SEED=123 runs that one alone; `make sim SEED=123` is how a failure says it can be seen again.
"""

import os
from random import Random

import pytest
from tests.sim.engines import engines_of, model_engines, seeded
from tests.sim.plans import random_plan
from tests.sim.run import Run

from tunnel.engine.settings import ServerTls

REAL_PAIRINGS = {"aioquic": 100, "quinn": 200, "aioquic to quinn": 60, "quinn to aioquic": 60}
"""Client and server, and how many seeds they get unless SEEDS says otherwise."""

BATCHES = 20
"""Each is a test: a failure costs the rest of its batch only."""


def seeds(batch: int, default: int) -> list[int]:
    """Every twentieth seed of those that are asked for."""
    if (one := os.environ.get("SEED")) is not None:
        return [int(one)] if batch == 0 else []
    return list(range(batch, int(os.environ.get("SEEDS", default)), BATCHES))


def check(seed: int, run: Run) -> None:
    try:
        run.check()
    except Exception as error:
        error.add_note(f"{run.plan}\nsee it again: make sim SEED={seed}")
        raise


@pytest.mark.parametrize("batch", range(BATCHES))
def test_on_the_model_engine(batch: int) -> None:
    for seed in seeds(batch, default=500):
        plan = random_plan(seed, transactions=6)
        check(seed, Run(plan, model_engines(plan.faults)))


@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("pairing", REAL_PAIRINGS)
def test_on_a_real_engine(pairing: str, batch: int, server_tls: ServerTls) -> None:
    for seed in seeds(batch, default=REAL_PAIRINGS[pairing]):
        with seeded(Random(seed)):
            plan = random_plan(seed, transactions=4)
            check(seed, Run(plan, engines_of(pairing, server_tls, plan.faults)))
