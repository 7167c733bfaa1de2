"""When each transaction is due and what it is: an endless, seeded stream of arrivals. No clock.

Rules
- Open loop: arrivals do not depend on what became of earlier ones.
- The same mix, rate and seed give the same arrivals, however long the load lasts.
- Payload seeds are random 48-bit numbers: no two transactions that are in flight together carry the same bytes, so
  that bytes which end up in another connection are found.
"""

from collections.abc import Iterator
from random import Random

from loadgen.load.mix import Mix
from loadgen.transaction.transaction import Arrival

_SEED_BITS = 48


def constant(mix: Mix, rate_per_s: float, seed: int) -> Iterator[Arrival]:
    """Arrivals at a constant rate; the first is due at 0."""
    random = Random(seed)
    names = list(mix.scenarios)
    weights = [mix.scenarios[name].weight for name in names]
    number = 0
    while True:
        name = random.choices(names, weights)[0]
        share = mix.scenarios[name]
        yield Arrival(
            number=number,
            due_s=number / rate_per_s,
            scenario=name,
            seed=random.getrandbits(_SEED_BITS),
            size_bytes=random.choice(share.sizes_bytes),
            requests=share.requests,
            think_s=share.think_ms / 1000,
        )
        number += 1
