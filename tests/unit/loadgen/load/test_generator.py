"""The generator: an open loop, with a cap that drops and counts."""

import asyncio
from itertools import islice
from time import monotonic

import pytest
from tests.unit.loadgen.conftest import NOWHERE, Bench, Peers

from loadgen.load.generator import Generator
from loadgen.load.mix import read
from loadgen.load.schedule import arrivals
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.route import Route
from loadgen.transaction.transaction import Arrival, Transaction
from servicekit.address import Address

MIX = read("default").only(["close_delimited"])


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def generator(bench: Bench, proxy: Address, max_in_flight: int = 100) -> Generator:
    made = Generator(Route(proxy, NOWHERE, NOWHERE), bench.limits, bench.tally, bench.watchdog, max_in_flight)
    bench.generators.append(made)
    return made


async def test_a_hanging_proxy_does_not_slow_the_load_down(bench: Bench, peers: Peers) -> None:
    load = generator(bench, await peers.serve(silent))
    began_s = monotonic()
    await load.offer(arrivals(MIX, rate_per_s=200, seed=1), duration_s=0.2)
    assert monotonic() - began_s >= 0.2
    count = bench.tally.scenarios["close_delimited"]
    assert (count.scheduled, count.started, count.in_flight) == (40, 40, 40)
    assert await load.abort() == 40


async def test_what_comes_on_top_of_the_cap_is_dropped_and_counted(bench: Bench, peers: Peers) -> None:
    load = generator(bench, await peers.serve(silent), max_in_flight=5)
    await load.offer(arrivals(MIX, rate_per_s=1000, seed=1), duration_s=0.02)
    count = bench.tally.scenarios["close_delimited"]
    assert (count.scheduled, count.started, count.dropped) == (20, 5, 15)
    assert bench.sample("soak_transactions_dropped_total", scenario="close_delimited") == 15
    assert bench.sample("soak_transactions_in_flight", scenario="close_delimited") == 5


async def test_a_late_start_is_lag_and_latency_counts_from_the_schedule(bench: Bench, peers: Peers) -> None:
    """A generator that was held up starts what is due at once; none of the delay disappears from the figures."""
    load = generator(bench, await peers.serve(lambda reader, writer: asyncio.sleep(0)))
    arrival = next(arrivals(MIX, rate_per_s=1, seed=1))
    assert load.start(arrival, due_s=monotonic() - 2) is not None
    await load.settle(within_s=10)
    assert await load.abort() == 0
    assert bench.tally.lag_max_s == pytest.approx(2, abs=0.1)
    assert (bench.tally.latencies.max_s or 0) >= 2 * 0.99
    assert bench.sample("soak_schedule_lag_seconds_sum") == pytest.approx(2, abs=0.1)


async def test_a_generator_that_cannot_keep_up_does_not_make_the_load_longer(bench: Bench) -> None:
    count = bench.tally.scenarios["close_delimited"]
    route = Route(NOWHERE, NOWHERE, NOWHERE)
    # Each start takes 0.8 s here, five are due in 0.5 s, and 1 s after that it is too late.
    load = Generator(route, bench.limits, bench.tally, bench.watchdog, 100, clock=lambda: 0.8 * count.scheduled)
    await load.offer(arrivals(MIX, rate_per_s=10, seed=1), duration_s=0.5)
    assert (count.scheduled, count.started, count.dropped) == (5, 2, 3)
    await load.abort()


async def test_settle_waits_and_abort_tells_what_is_left(bench: Bench, peers: Peers) -> None:
    load = generator(bench, await peers.serve(silent))
    for arrival in islice(arrivals(MIX, rate_per_s=1, seed=1), 3):
        load.start(arrival, due_s=monotonic())
    await load.settle(within_s=0.01)
    assert await load.abort() == 3
    assert bench.tally.outcomes[Outcome.ABORTED] == 3
    await load.settle(within_s=10)
    assert await load.abort() == 0


async def test_a_bug_in_a_scenario_ends_the_run(bench: Bench, peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(transaction: Transaction, route: Route) -> None:
        raise ZeroDivisionError("a bug")

    class Broken:
        run = staticmethod(fails)

    monkeypatch.setattr("loadgen.load.generator.SCENARIOS", {"close_delimited": Broken})
    load = generator(bench, NOWHERE)
    load.start(Arrival(0, 0.0, "close_delimited", 1, 1), due_s=monotonic())
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(load.crashed(), 5)
    assert bench.tally.outcomes[Outcome.ABORTED] == 1


async def test_a_transaction_is_watched_from_its_start_and_ends_even_if_it_never_ran(bench: Bench) -> None:
    """What a fault touches is what is watched; a task that is cancelled before its first step runs no line of its."""
    load = generator(bench, NOWHERE)
    transaction = load.start(next(arrivals(MIX, rate_per_s=1, seed=1)), due_s=monotonic())
    assert list(bench.watchdog.watched) == [transaction]
    assert await load.abort() == 1
    await load.settle(within_s=10)
    assert list(bench.watchdog.watched) == []
    assert bench.tally.outcomes[Outcome.ABORTED] == 1
    assert bench.tally.in_flight == 0
