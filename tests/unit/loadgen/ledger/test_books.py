"""loadgen.ledger: a planted fault at each hop is named after that hop."""

from typing import Any

import pytest
from rich.console import Console

from loadgen.ledger import command, reading
from loadgen.ledger.books import Books
from loadgen.ledger.table import show
from loadgen.measure.observe import ENDS
from loadgen.measure.scrape import Labels

UP, DOWN = "client_to_target", "target_to_client"


def count(
    received: int, forwarded: int | None = None, confirmed: int | None = None, abandoned: int = 0
) -> dict[str, int]:
    forwarded = received if forwarded is None else forwarded
    confirmed = forwarded if confirmed is None else confirmed
    return {
        "received": received,
        "forwarded": forwarded,
        "confirmed": confirmed,
        "rescued": 0,
        "abandoned": abandoned,
    }


def books(server: dict[str, int], client: dict[str, int], **rest: Any) -> Books:
    well = count(10)
    ends = {"proxy-server": {UP: well, DOWN: server}, "proxy-client": {UP: well, DOWN: client}}
    known: dict[str, Any] = {"target": {"sent": 10, "received": 10}, "missed": 0}
    return Books(ends, **known | rest)


def hanging(direction: str, **proxies: tuple[int, int]) -> Books:
    """By proxy: ends that hang there after they were received, and after they were forwarded."""
    said = {
        f"proxy-{side}": {direction: {"received": received, "forwarded": forwarded}}
        for side, (received, forwarded) in proxies.items()
    }
    return Books(books(count(10), count(10)).ends, said)


def hops(found: Books) -> list[str]:
    return [imbalance.hop for imbalance in found.imbalances()]


def test_all_is_well() -> None:
    assert hops(books(count(10), count(10))) == []


@pytest.mark.parametrize(("direction", "sender", "receiver"), [(DOWN, "server", "client"), (UP, "client", "server")])
def test_an_end_hangs_where_it_came_last(direction: str, sender: str, receiver: str) -> None:
    here, there = f"proxy-{sender}", f"proxy-{receiver}"
    assert hops(hanging(direction, **{sender: (2, 0)})) == [here]
    assert hops(hanging(direction, **{sender: (0, 2)})) == [f"{here} -> {there}"]
    assert hops(hanging(direction, **{sender: (0, 2), receiver: (2, 0)})) == [there]
    assert hops(hanging(direction, **{sender: (0, 2), receiver: (0, 2)})) == [there]
    assert hops(hanging(direction, **{sender: (0, 3), receiver: (2, 0)})) == [f"{here} -> {there}", there]


def test_what_is_on_its_way_is_no_imbalance() -> None:
    """The counts of a moment, with the client read before the server and after it."""
    assert hops(books(count(10, 9, 8), count(7, 6, 5))) == []
    assert hops(books(count(10, 9, 8), count(12, 11, 10))) == []


def test_ends_that_the_server_never_read() -> None:
    assert hops(books(count(7), count(7), missed=3)) == ["http-target -> proxy-server"]


def test_ends_that_were_given_up_later() -> None:
    """Their applications have left, and nothing hangs any more."""
    kept_by_client = books(count(10, 10, 7, abandoned=3), count(10, 7, abandoned=3), missed=3)
    kept_by_server = books(count(10, 7, abandoned=3), count(7), missed=3)
    lost_between = books(count(10, 10, 7, abandoned=3), count(7), missed=3)
    assert hops(kept_by_client) == ["proxy-client"]
    assert hops(kept_by_server) == ["proxy-server"]
    assert hops(lost_between) == ["proxy-server -> proxy-client"]


def test_ends_that_the_client_says_it_handed_over() -> None:
    assert hops(books(count(10), count(10), missed=3)) == ["proxy-client -> application"]


def test_two_hops_that_could_be_it_are_both_named() -> None:
    """A target may send ends that nobody reads any more: their applications have left."""
    found = books(count(7), count(7, 4), missed=3)
    assert hops(found) == ["http-target -> proxy-server", "proxy-client"]
    assert all("perhaps" in imbalance.text for imbalance in found.imbalances())


def test_two_hops_that_lose_a_part_each_are_both_named() -> None:
    assert hops(books(count(8), count(8, 7), missed=3)) == ["http-target -> proxy-server", "proxy-client"]


def test_between_programs_that_are_read_at_different_times_nothing_is_sure() -> None:
    """Within one it is."""
    between = ["http-target -> proxy-server", "proxy-server -> proxy-client"]
    assert hops(books(count(10), count(10), missed=3, unsure=5)) == between
    assert hops(books(count(10, 7), count(7), missed=3, unsure=5)) == [between[0], "proxy-server", between[1]]


def test_an_application_that_misses_nothing_blames_nobody() -> None:
    assert hops(books(count(7), count(7), missed=0)) == []
    assert hops(books(count(7), count(7), missed=None)) == []


def test_who_was_restarted_is_not_compared() -> None:
    assert hops(books(count(3), count(10, 7), missed=3, restarted=frozenset({"proxy-server"}))) == ["proxy-client"]
    assert hops(books(count(7), count(7, 4), missed=3, restarted=frozenset({"http-target"}))) == ["proxy-client"]
    assert hops(books(count(7), count(7), missed=3, restarted=frozenset({"loadgen"}))) == []


def test_who_began_later_has_been_restarted() -> None:
    """The generator may come any time."""
    began = {"proxy-server": 1000.0, "http-target": 1010.0, "proxy-client": 5000.0}
    assert reading.began_anew(began | {"loadgen": 1020.0}) == {"proxy-client"}
    assert reading.began_anew(began | {"loadgen": 900.0}) == {"proxy-client"}
    assert reading.began_anew(began | {"loadgen": 6000.0}) == set()
    assert reading.began_anew(began | {"loadgen": 900.0}, since=1005.0) == {"http-target", "proxy-client"}


def test_sums_over_instances() -> None:
    def series(instance: str, value: float) -> dict[tuple[tuple[str, str], ...], float]:
        labels = {"role": "client", "direction": DOWN, "instance": instance}
        return {tuple(sorted({**labels, "event": event}.items())): value for event in ("received", "confirmed")}

    found = reading.books({ENDS: series("a", 3) | series("b", 4)})
    assert found.ends["proxy-client"][DOWN]["received"] == 7
    assert found.target is None
    assert found.missed is None


def test_misses_are_ends_that_did_not_come_and_those_that_are_waited_for() -> None:
    outcomes: dict[Labels, float] = {
        (("outcome", "eof_missing"), ("scenario", "a")): 2.0,
        (("outcome", "eof_missing"), ("scenario", "b")): 1.0,
        (("outcome", "ok"), ("scenario", "a")): 100.0,
    }
    stalled: dict[Labels, float] = {(("phase", "eof_wait"),): 4.0, (("phase", "body"),): 8.0}
    assert reading.books({reading.OUTCOMES: outcomes, reading.STALLED: stalled}).missed == 7


def looks(*answers: Books) -> command.Read:
    """One after the other, and the last one from then on."""
    left = list(answers)

    async def read() -> Books:
        return left.pop(0) if len(left) > 1 else left[0]

    return read


async def test_a_look_without_an_imbalance_is_enough() -> None:
    found = await command.settled(looks(hanging(DOWN, client=(1, 0)), hanging(DOWN), hanging(DOWN, client=(1, 0))), 5.0)
    assert found[1] == ()


async def test_only_what_every_look_has_seen_is_told() -> None:
    _, found = await command.settled(
        looks(hanging(DOWN, server=(1, 0), client=(2, 0)), hanging(DOWN, client=(1, 0))), 0.1
    )
    assert [one.hop for one in found] == ["proxy-client"]


async def test_what_every_look_names_otherwise_is_an_imbalance_too() -> None:
    first, then = books(count(7), count(7), missed=3), books(count(10, 7), count(7), missed=3)
    _, found = await command.settled(looks(first, then), 0.1)
    assert [one.hop for one in found] == ["proxy-server"]


async def test_what_stays_is_told() -> None:
    _, found = await command.settled(looks(hanging(DOWN, client=(1, 0))), 0.0)
    assert [one.hop for one in found] == ["proxy-client"]


def test_every_hop_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    seen = books(count(10), count(10), missed=3, silent=("link",))
    show(seen, seen.imbalances(), Console(width=120))
    lines = capsys.readouterr().out.splitlines()
    named = [line.split("  ")[1].strip() for line in lines if line.startswith("  ")]
    down = ["http-target", "proxy-server", "proxy-client", "application: 3 missed"]
    assert named == ["proxy-client", "proxy-server", "http-target", *down]
    assert "link does not answer" in lines
    assert lines[-1].startswith("IMBALANCE at proxy-client -> application: 3 ends of stream were handed over")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "either --metrics-of"),
        (["--metrics-of", "a=http://x/", "--prometheus", "http://y"], "either --metrics-of"),
        (["--metrics-of", "a=http://x/", "--over", "5m"], "--over needs --prometheus"),
    ],
)
def test_usage(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == command.EXIT_USAGE
    assert reason in capsys.readouterr().err


def test_a_program_that_does_not_answer_is_no_balance(capsys: pytest.CaptureFixture[str]) -> None:
    url = "proxy-client=http://127.0.0.1:9/metrics"
    assert command.main(["--metrics-of", url]) == command.EXIT_INCONCLUSIVE
    assert "proxy-client does not answer" in capsys.readouterr().out


def test_a_prometheus_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--prometheus", "http://127.0.0.1:9"]) == command.EXIT_INCONCLUSIVE
    assert "does not answer as a Prometheus does" in capsys.readouterr().err
