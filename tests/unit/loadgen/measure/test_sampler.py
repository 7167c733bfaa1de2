"""Programs over time: the ledger adds up over restarts, and the series stay short."""

from loadgen.measure.observe import EVENTS, Ledger, Resources, Snapshot
from loadgen.measure.sampler import POINTS, Sampler
from loadgen.soak.stacks import ExternalStack
from servicekit.address import Address

NOWHERE = Address("192.0.2.1", 1080)


def sampler() -> Sampler:
    return Sampler(ExternalStack(NOWHERE, NOWHERE, NOWHERE))


def ledger(received: int, confirmed: int) -> Ledger:
    counts = dict.fromkeys(EVENTS, 0) | {"received": received, "confirmed": confirmed}
    return {"proxy-client": {"target_to_client": counts}}


def seen(received: int, confirmed: int, instance: float = 1.0) -> Snapshot:
    return Snapshot({}, ledger(received, confirmed), {"proxy-client": instance})


def total(made: Sampler) -> tuple[int, int]:
    counts = made.ends["proxy-client"]["target_to_client"]
    return counts["received"], counts["confirmed"]


def test_only_this_run_counts() -> None:
    made = sampler()
    made.take(0, seen(10, 9))
    assert total(made) == (0, 0)
    made.take(5, seen(15, 15))
    assert total(made) == (5, 6)
    assert not made.restarted
    assert not made.unjudged


def test_a_program_that_was_restarted_began_at_zero() -> None:
    made = sampler()
    made.take(0, seen(10, 10))
    made.take(5, seen(14, 14))
    made.take(10, seen(20, 19, instance=2.0))
    assert total(made) == (24, 23)
    assert made.restarted == made.unjudged == {"proxy-client"}


def test_a_program_that_does_not_answer_for_a_while() -> None:
    made = sampler()
    made.take(0, seen(10, 10))
    made.take(5, Snapshot({}, {}, {}))
    made.take(10, seen(12, 12))
    assert total(made) == (2, 2)


def test_a_program_that_misses_the_first_look_or_the_last_is_not_judged() -> None:
    """What it counted before or after is not known, and would look like ends that came from nowhere."""
    nothing = Snapshot({}, {}, {})
    for looks in ([nothing, seen(9, 9), seen(12, 12)], [seen(9, 9), seen(12, 12), nothing]):
        made = sampler()
        for look in looks:
            made.take(0, look)
        assert made.unjudged == {"proxy-client"}


def test_series_stay_short_and_even() -> None:
    made = sampler()
    for number in range(10_000):
        made.take(5.0 * number, Snapshot({"loadgen": Resources(number, 3)}, {}, {}))
    found = made.document()["loadgen"]
    assert POINTS / 2 - 1 <= len(found["at_s"]) < POINTS
    assert len(found["at_s"]) == len(found["rss_bytes"]) == len(found["fds"])
    steps = {after - before for before, after in zip(found["at_s"], found["at_s"][1:], strict=False)}
    assert len(steps) == 1


async def test_this_process_is_always_seen() -> None:
    made = sampler()
    await made.look()
    assert made.first is made.last
    assert (made.document()["loadgen"]["rss_bytes"][0] or 0) > 1_000_000
