"""A server's name with several addresses: rolling restarts, addresses that are dead, instances that fall silent."""

import pytest
from tests.unit.tunnel.session.conftest import OTHER, SERVER, TARGET, Edge, Pair

from tunnel.errors import Cause
from tunnel.session import events
from tunnel.session.client import ClientSession
from tunnel.session.server import ServerSession

AT_ONCE_S = 0.3
"""Some round trips, and no timer of the client's."""


def open_stream(pair: Pair) -> int:
    assert isinstance(pair.client.session, ClientSession)
    return pair.client.session.open(TARGET, b"", pair.world.now)


def drain(pair: Pair, server: Edge) -> None:
    assert isinstance(server.session, ServerSession)
    server.session.drain(pair.world.now)


def answered(pair: Pair, stream: int) -> bool:
    return events.Replied(stream, Cause.NONE) in pair.client.log


def peers(pair: Pair) -> list[object]:
    """Addresses of the connections that came up, in that order."""
    return [event.address for event in pair.client.of(events.ConnectionUp)]  # type: ignore[union-attr]


def failures(pair: Pair) -> list[events.Event]:
    return [event for event in pair.client.of(events.ConnectionDown) if not event.was_up]  # type: ignore[union-attr]


def test_a_draining_server_is_left_for_another_address_though_it_is_the_first(pair: Pair) -> None:
    """The resolver still has both; whoever drains is not asked again."""
    stream, far = pair.open()
    other = pair.add_server(OTHER)
    drain(pair, pair.server)
    assert pair.run(AT_ONCE_S, lambda: peers(pair) == [SERVER, OTHER])
    fresh = open_stream(pair)
    assert pair.run(AT_ONCE_S, lambda: answered(pair, fresh))
    assert other.of(events.Dial)
    assert failures(pair) == []
    for session, number in ((pair.server.session, far), (pair.client.session, stream)):
        session.finish(number, pair.world.now)  # The old stream is where it was, and ends as ever.
    assert pair.run(5, lambda: pair.server.session.connection_count == 0)
    assert pair.client.endings[stream][0] is events.Ending.EOF


def test_rolling_restarts_go_there_and_back_again(pair: Pair) -> None:
    """That a server drained at an address is no reason not to go there when another one does."""
    servers = {SERVER: pair.server, OTHER: pair.add_server(OTHER)}
    pair.run(2)
    for here, there in [(SERVER, OTHER), (OTHER, SERVER)] * 2:
        drain(pair, servers[here])
        assert pair.run(AT_ONCE_S, lambda there=there: peers(pair)[-1] == there)  # type: ignore[misc]
        servers[here] = Edge(pair.world, pair.make_server())
        pair.world.add(here, servers[here])
        pair.run(2)
    assert failures(pair) == []


def test_a_refusal_makes_room_for_the_next_address_at_once(pair: Pair) -> None:
    """A client that starts while the first address drains does not wait for a back-off."""
    drain(pair, pair.server)
    pair.run(2)
    pair.add_server(OTHER)
    stream = open_stream(pair)
    assert pair.run(AT_ONCE_S + pair.settings.reconnect_cap_s, lambda: answered(pair, stream))


@pytest.mark.parametrize("dead", [1, 2])
def test_a_dead_address_costs_its_share_and_no_handshake_timeout(pair: Pair, dead: int) -> None:
    pair.client.addresses = [("192.0.2.99", number) for number in range(dead)]
    pair.add_server(OTHER)
    drain(pair, pair.server)
    began = pair.world.now
    stream = open_stream(pair)
    assert pair.run(5, lambda: answered(pair, stream))
    assert pair.world.now - began < dead * pair.settings.next_address_s + AT_ONCE_S
    pair.run(10)
    assert pair.client.session.connection_count == 1, "the attempts at the dead ones are over"
    assert {event.cause for event in failures(pair)} == {Cause.NONE}  # type: ignore[union-attr]


def test_the_addresses_of_one_try_are_bounded_and_the_others_have_their_turn(pair: Pair) -> None:
    many = pair.settings.max_addresses
    pair.client.addresses = [("192.0.2.99", number) for number in range(many + 1)]
    pair.add_server(OTHER)
    drain(pair, pair.server)
    wanted = len(pair.client.of(events.ConnectWanted))
    pair.run(1)
    assert pair.run(30, lambda: OTHER in peers(pair))
    assert len(pair.client.of(events.ConnectWanted)) > wanted + 1
    assert len(failures(pair)) >= many


def test_a_pause_loses_nothing_while_another_instance_takes_the_new_streams(pair: Pair) -> None:
    """Another instance at another address does not prove that the first one has restarted."""
    stream, far = pair.open()
    other = pair.add_server(OTHER)
    pair.server.alive = False
    assert pair.run(5, lambda: bool(pair.client.of(events.ConnectionSuspect)))
    fresh = open_stream(pair)
    assert pair.run(1, lambda: answered(pair, fresh))
    assert other.of(events.Dial)
    pair.run(4)
    pair.server.alive = True
    pair.run(2)
    assert stream not in pair.client.endings
    for session, number in ((pair.server.session, far), (pair.client.session, stream)):
        session.finish(number, pair.world.now)
    assert pair.run(5, lambda: stream in pair.client.endings)
    assert pair.client.endings[stream][0] is events.Ending.EOF
