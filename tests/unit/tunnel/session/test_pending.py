"""tunnel.session.pending: what has not ended is named, by direction, state and age, and by nothing that is private."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.tunnel.session.conftest import CLIENT, SERVER, TARGET, Edge, Pair

from tunnel.errors import Cause
from tunnel.session.client import ClientSession
from tunnel.session.pending import MOST_LISTED
from tunnel.session.settings import SessionSettings

UP, DOWN = "client_to_target", "target_to_client"


def listed(edge: Edge) -> list[dict[str, Any]]:
    document = json.loads(json.dumps(edge.session.pending(edge.world.now).document()))
    assert document["count"] == len(document["streams"])
    return list(document["streams"])


def states(edge: Edge) -> dict[str, str]:
    return {one["direction"]: one["state"] for one in listed(edge)}


def test_nothing_is_open(pair: Pair) -> None:
    assert listed(pair.client) == listed(pair.server) == []


def test_an_open_stream_is_open_in_both_directions(pair: Pair) -> None:
    stream, far = pair.open()
    pair.run(3)
    for edge, number in ((pair.client, stream), (pair.server, far)):
        assert states(edge) == {UP: "open", DOWN: "open"}
        for one in listed(edge):
            assert one.keys() == {"connection", "stream", "quic_stream", "direction", "state", "age_s"}
            assert one["stream"] == number
            assert one["connection"] in edge.session._connections
            assert 3.0 <= one["age_s"] < 3.2
    assert {one["quic_stream"] for one in listed(pair.client)} == {one["quic_stream"] for one in listed(pair.server)}


def test_no_name_and_no_address_of_a_target(pair: Pair) -> None:
    pair.open()
    for edge in (pair.client, pair.server):
        text = json.dumps(listed(edge))
        assert str(TARGET.host) not in text
        assert str(TARGET.port) not in text
        assert not any(address[0] in text for address in (CLIENT, SERVER))


def test_a_direction_that_ended_and_was_confirmed_is_not_listed(pair: Pair) -> None:
    stream, far = pair.open()
    pair.client.session.finish(stream, pair.world.now)
    pair.run(1)
    assert states(pair.client) == states(pair.server) == {DOWN: "open"}
    pair.server.session.finish(far, pair.world.now)
    pair.run(1)
    assert listed(pair.client) == listed(pair.server) == []


def test_an_end_that_nobody_takes_is_listed_at_both_sides(pair: Pair) -> None:
    """The receiver holds it (`ended`), the sender waits for the receipt (`finished`); both say for how long."""
    ended = pair.client.session.ended
    pair.client.session.ended = lambda *_: None  # type: ignore[method-assign]
    stream, far = pair.open()
    pair.run(2)
    pair.server.session.finish(far, pair.world.now)
    pair.run(5)
    at_client, at_server = ({one["direction"]: one for one in listed(edge)} for edge in (pair.client, pair.server))
    assert (at_client[DOWN]["state"], at_server[DOWN]["state"]) == ("ended", "finished")
    assert at_server[DOWN]["since_end_s"] == pytest.approx(5.0, abs=0.1)
    assert at_client[DOWN]["since_end_s"] == pytest.approx(5.0, abs=0.1)
    assert at_client[DOWN]["age_s"] == pytest.approx(7.0, abs=0.2)
    assert "since_end_s" not in at_client[UP]
    ended(stream, pair.world.now)
    pair.run(1)
    assert states(pair.client) == states(pair.server) == {UP: "open"}


def overdue(edge: Edge) -> dict[tuple[str, str], int]:
    found = edge.session.overdue_ends(edge.world.now)
    assert len(found) == 4
    return {(direction.label, event): count for (direction, event), count in found.items() if count}


def test_an_end_that_hangs_is_overdue_where_it_came_last(pair: Pair) -> None:
    """Two ends: one that the client keeps, one that the server has not forwarded."""
    pair.client.hands_over = False
    (_, kept), (_, behind_bytes) = pair.open(), pair.open()
    pair.server.session.finish(kept, pair.world.now)
    pair.server.session.end_read(behind_bytes)
    pair.run(SessionSettings().stall_after_s - 0.5)
    assert overdue(pair.client) == overdue(pair.server) == {}
    pair.run(1)
    assert overdue(pair.client) == {(DOWN, "received"): 1}
    assert overdue(pair.server) == {(DOWN, "received"): 1, (DOWN, "forwarded"): 1}
    pair.server.session.reset(behind_bytes, Cause.CANCELLED, pair.world.now)
    pair.server.session.close(Cause.SHUTTING_DOWN, pair.world.now)
    pair.run(5)
    assert overdue(pair.server) == {}


def test_a_reset_that_is_not_confirmed(pair: Pair) -> None:
    stream, _ = pair.open()
    pair.network.unreachable = {CLIENT, SERVER}
    pair.client.session.reset(stream, Cause.APPLICATION_RESET, pair.world.now)
    assert states(pair.client) == {UP: "reset", DOWN: "open"}
    assert pair.run(30, lambda: not listed(pair.client))


def test_a_request_that_waits_for_a_connection(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair()
    pair.network.unreachable = {CLIENT, SERVER}
    assert isinstance(pair.client.session, ClientSession)
    pair.client.session.open(TARGET, b"", pair.world.now)
    assert {(one["connection"], one["quic_stream"]) for one in listed(pair.client)} == {(None, None)}


def test_the_oldest_come_first_and_the_list_is_bounded(pair: Pair) -> None:
    opened = [pair.open()[0] for _ in range(MOST_LISTED)]
    pending = pair.client.session.pending(pair.world.now)
    assert pending.count == 2 * MOST_LISTED
    assert [one.stream for one in pending.listed] == [stream for stream in opened[: MOST_LISTED // 2] for _ in "ud"]
    ages_s = [one.age_s for one in pending.listed]
    assert ages_s == sorted(ages_s, reverse=True)


def test_looking_changes_nothing(pair: Pair) -> None:
    """A pure read: neither the timers nor what is to be sent are touched, and time may be any."""
    pair.open()
    session = pair.client.session
    before = session.get_timer()
    first = session.pending(pair.world.now)
    assert session.pending(pair.world.now - 100).listed[0].age_s == 0.0
    assert session.pending(pair.world.now) == first
    assert session.get_timer() == before
    assert session.poll_event() is None
