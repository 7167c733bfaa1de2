"""When each transaction is due and what it is: an endless, seeded stream of arrivals. No clock.

Rules
- Open loop: arrivals do not depend on what became of earlier ones.
- The same mix, rate and seed give the same arrivals, however long the load lasts.
- The scenarios with a weight are one stream, each one with a rate of its own is another; streams are merged by time.
- What is sent does not depend on when: the n-th transaction of a stream is the same with constant and with Poisson
  arrivals, with and without a ramp.
- Constant: the n-th arrival of a stream (from 0) is due when the integral of its rate reaches n. Poisson: when the
  integral reaches the sum of n + 1 exponential steps of mean 1. So either can ramp.
- Payload seeds are random 48-bit numbers: no two transactions that are in flight together carry the same bytes, so
  that bytes which end up in another connection are found.
"""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from random import Random
from typing import assert_never

from loadgen.load.mix import Mix, Share, Spacing, Span
from loadgen.load.rate import Rate
from loadgen.transaction.transaction import Arrival

_SEED_BITS = 48


def arrivals(mix: Mix, *, rate_per_s: float, seed: int, arrivals: Spacing | None = None) -> Iterator[Arrival]:
    """All arrivals of a load, in the order of their times.

    `rate_per_s` replaces the mix's: its ramp, and the rates that scenarios have of their own, grow or shrink with it.
    `arrivals` replaces the mix's.
    """
    spacing = arrivals or mix.arrivals
    streams = []
    for stream in mix.streams():
        stream_per_s = rate_per_s * stream.part
        rate = Rate([stretch.times(stream_per_s / mix.rate_per_s) for stretch in mix.ramp], stream_per_s)
        times_s = map(rate.due_s, _reached(spacing, Random(f"{seed} times {stream.name}")))
        streams.append(_stream(stream.scenarios, times_s, Random(f"{seed} {stream.name}" if stream.name else seed)))
    merged = heapq.merge(*streams, key=lambda arrival: arrival.due_s)
    return (replace(arrival, number=number) for number, arrival in enumerate(merged))


def _reached(spacing: Spacing, random: Random) -> Iterator[float]:
    """What the integral of the rate has to reach, one arrival after the other."""
    match spacing:
        case Spacing.CONSTANT:
            yield from count()
        case Spacing.POISSON:
            reached = 0.0
            while True:
                reached += random.expovariate(1.0)
                yield reached
        case _:
            assert_never(spacing)


def _stream(scenarios: Mapping[str, Share], times_s: Iterator[float], random: Random) -> Iterator[Arrival]:
    names = list(scenarios)
    weights = [scenarios[name].weight or 1 for name in names]  # One without a weight is alone in its stream.
    for due_s in times_s:
        name = random.choices(names, weights)[0]
        share = scenarios[name]
        yield Arrival(
            number=0,
            due_s=due_s,
            scenario=name,
            seed=random.getrandbits(_SEED_BITS),
            size_bytes=random.choice(share.sizes_bytes),
            requests=share.requests,
            think_s=_think_ms(share, random) / 1000,
        )


def _think_ms(share: Share, random: Random) -> float:
    match share.think_ms:
        case Span(from_ms=from_ms, to_ms=to_ms):
            return random.uniform(from_ms, to_ms)
        case (only,):
            return only
        case several:
            return random.choice(several)
