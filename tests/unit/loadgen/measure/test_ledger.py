"""Which end was lost where. The golden cases are what proxies said after real soaks, with aioquic 1.7.0 and 1.7.2."""

from typing import Any

import pytest

from loadgen.measure.ledger import Imbalance, diagnose

UP, DOWN = "client_to_target", "target_to_client"


def count(
    received: int, forwarded: int | None = None, confirmed: int | None = None, rescued: int = 0, abandoned: int = 0
) -> dict[str, int]:
    forwarded = received if forwarded is None else forwarded
    confirmed = forwarded if confirmed is None else confirmed
    numbers = {"received": received, "forwarded": forwarded, "confirmed": confirmed}
    return numbers | {"rescued": rescued, "abandoned": abandoned}


def ends(**of_hops: dict[str, int]) -> dict[str, dict[str, dict[str, int]]]:
    """Both hops, 10 ends each way; `server_down` and the like say what is different."""
    return {
        f"proxy-{hop}": {way: of_hops.get(f"{hop}_{name}", count(10)) for name, way in (("up", UP), ("down", DOWN))}
        for hop in ("server", "client")
    }


def texts(found: tuple[Imbalance, ...]) -> list[str]:
    return [imbalance.text for imbalance in found]


def test_a_run_with_the_pinned_library_balances() -> None:
    one_way = count(1236)
    assert diagnose(ends(server_up=one_way, server_down=one_way, client_up=one_way, client_down=one_way)) == ()


def test_a_run_whose_lost_ends_were_rescued_balances() -> None:
    rescued = count(1236, rescued=14)
    one_way = count(1236)
    assert diagnose(ends(server_up=one_way, server_down=one_way, client_up=one_way, client_down=rescued)) == ()


def test_the_founding_bug() -> None:
    """1,200 answers, 7 of them without their end; the applications left after 10 s. Not open: they know."""
    up, server_down, client_down = count(1193), count(1200, 1200, 1193, abandoned=7), count(1193)
    found = diagnose(ends(server_up=up, client_up=up, server_down=server_down, client_down=client_down))
    assert not any(imbalance.is_open for imbalance in found)
    assert found == (
        Imbalance(
            direction=DOWN,
            hop="proxy-server -> proxy-client",
            from_event="forwarded",
            to_event="received",
            missing=7,
            given_up=7,
            text="7 ends of stream were lost between proxy-server and proxy-client, on the way from server to client "
            "(target_to_client); nobody waits for them any more",
        ),
    )


def test_the_founding_bug_of_proxies_that_still_wait() -> None:
    """The application did not need the end, so its stream stays: one end lost is told once, and it is open."""
    found = diagnose(ends(server_down=count(10, 10, 8), client_down=count(8)))
    assert texts(found) == [
        "2 ends of stream were lost between proxy-server and proxy-client, on the way from server to client "
        "(target_to_client)"
    ]
    assert found[0].is_open


def test_the_other_direction() -> None:
    found = diagnose(ends(client_up=count(10, 10, 9), server_up=count(9)))
    assert texts(found) == [
        "1 end of stream was lost between proxy-client and proxy-server, on the way from client to server "
        "(client_to_target)"
    ]


def test_lost_ends_of_which_some_were_given_up() -> None:
    (found,) = diagnose(ends(server_down=count(10, 10, 5, abandoned=3), client_down=count(5)))
    assert (found.missing, found.given_up, found.is_open) == (5, 3, True)
    assert found.text.endswith("; 2 are still waited for")


def test_an_end_that_arrived_and_whose_application_had_left_is_no_imbalance() -> None:
    """Forwarded and received; then the application broke before it took the end."""
    assert diagnose(ends(server_down=count(10, 10, 9, abandoned=1), client_down=count(10, 9, 9, abandoned=1))) == ()


def test_an_end_whose_stream_was_reset_before_it_could_be_forwarded_is_no_imbalance() -> None:
    assert diagnose(ends(server_down=count(10, 9, 9, abandoned=1), client_down=count(9))) == ()


def test_abandoned_before_it_was_forwarded_explains_no_end_that_was_lost_later() -> None:
    (found,) = diagnose(ends(server_down=count(10, 9, 8, abandoned=1), client_down=count(8)))
    assert (found.hop, found.missing, found.given_up) == ("proxy-server -> proxy-client", 1, 0)


@pytest.mark.parametrize(
    ("hop", "counted", "text"),
    [
        ("client_down", count(10, 8), "2 ends of stream were received and never forwarded at proxy-client"),
        ("client_down", count(10, 10, 7), "3 ends of stream were forwarded and never confirmed at proxy-client"),
        ("server_down", count(10, 10, 9), "1 end of stream was forwarded and never confirmed at proxy-server"),
        ("server_down", count(9, 10), "1 end of stream was forwarded and never received at proxy-server"),
    ],
)
def test_within_a_program(hop: str, counted: dict[str, int], text: str) -> None:
    assert texts(diagnose(ends(**{hop: counted}))) == [f"{text}, on the way from server to client (target_to_client)"]


def test_more_ends_than_were_sent() -> None:
    (found,) = diagnose(ends(client_down=count(12)))
    assert (found.missing, found.is_open) == (-2, True)
    assert found.text == f"2 ends of stream were received by proxy-client that proxy-server did not send ({DOWN})"


def test_two_things_at_once_are_told_apart() -> None:
    """3 of 10 never arrived, and of the others one was not confirmed."""
    found = diagnose(ends(server_down=count(10, 10, 6), client_down=count(7)))
    assert [(one.hop, one.missing) for one in found] == [("proxy-server -> proxy-client", 3), ("proxy-server", 1)]


@pytest.mark.parametrize("restarted", ["proxy-server", "proxy-client"])
def test_a_program_that_was_restarted_is_not_judged_nor_the_hop_next_to_it(restarted: str) -> None:
    shorter = {UP: count(4), DOWN: count(4, 4, 2)}
    assert diagnose(ends() | {restarted: shorter}, frozenset({restarted})) == ()
    assert diagnose(ends() | {restarted: shorter}) != ()


def test_the_one_that_was_not_restarted_is_judged() -> None:
    found = diagnose(ends(client_down=count(10, 9)), frozenset({"proxy-server"}))
    assert [(one.hop, one.from_event, one.to_event) for one in found] == [("proxy-client", "received", "forwarded")]


def test_a_hop_alone() -> None:
    """Somebody else's client, or only one of the metrics ports is known."""
    alone: dict[str, Any] = {"proxy-server": {UP: count(3), DOWN: count(3, 3, 2)}}
    assert [one.hop for one in diagnose(alone)] == ["proxy-server"]
    assert diagnose({}) == ()


def test_a_ledger_without_abandoned_ends() -> None:
    """A program that does not count them yet."""
    old = {"received": 10, "forwarded": 10, "confirmed": 10, "rescued": 0}
    assert diagnose({"proxy-server": {DOWN: old}, "proxy-client": {DOWN: old}}) == ()
