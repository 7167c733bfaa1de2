"""The handshake finds out how large datagrams can be, in both directions (docs/adr/0001)."""

import pytest
from tests.sim.network import Link
from tests.sim.pair import SERVER, Pair
from tests.unit.tunnel.engine.aioquic.harness import endpoint, quic
from tests.unit.tunnel.engine.harness import MakeRealPair, assert_empty, with_limits

from tunnel.engine.aioquic.client import ClientEndpoint
from tunnel.engine.port import Address, Connected, Transmit
from tunnel.errors import Cause

BODY = bytes(range(256)) * 1000


def sizes(pair: Pair) -> tuple[int, int]:
    """Of the client's and of the server's datagrams."""
    return quic(pair.client).datagram_bytes, quic(pair.server).datagram_bytes


def assert_carries(pair: Pair) -> None:
    up, down = pair.client.open(), pair.client.open()
    pair.client.write(up, BODY, end=True)
    pair.client.write(down, b"GET", end=True)
    assert pair.until_ended(pair.server, up) == BODY
    pair.server.write(down, BODY, end=True)
    assert pair.until_ended(pair.client, down) == BODY
    assert pair.client.engine.stats(pair.client.connection) is not None


@pytest.mark.parametrize(
    ("mtu", "expected"),
    [
        (1500, 1472),
        (1450, 1422),
        (9000, 8972),
        (65_536, 16_384),
        (1228, 1200),
        (1280, 1252),
        (1000, 1200),
        (None, 1200),
    ],
)
def test_datagrams_are_as_large_as_the_path_within_the_bounds(
    make_pair: MakeRealPair, mtu: int | None, expected: int
) -> None:
    pair = make_pair(path_mtu=lambda address: mtu).connect()
    assert sizes(pair) == (expected, expected)
    assert_carries(pair)


def test_datagrams_are_no_larger_than_aioquic_can_write(make_pair: MakeRealPair) -> None:
    """With more, a STREAM frame's length did not fit its field, and the first bulk transfer ended the connection."""
    pair = make_pair(with_limits(datagram_cap_bytes=60_000), path_mtu=lambda address: 65_536).connect()
    assert sizes(pair) == (16_384, 16_384)
    assert_carries(pair)


def test_ipv6_has_longer_headers(make_pair: MakeRealPair) -> None:
    client = endpoint(make_pair(path_mtu=lambda address: 1500).client)
    assert isinstance(client, ClientEndpoint)
    assert client._datagram_bytes(("2001:db8::1", 4433, 0, 0)) == 1452


@pytest.mark.parametrize("carried", [1472, 1471, 1300, 1200])
def test_where_the_path_loses_large_datagrams_the_handshake_starts_over_small(
    make_pair: MakeRealPair, carried: int
) -> None:
    pair = make_pair(path_mtu=lambda address: 1500, link=Link(mtu_bytes=carried))
    pair.server.ignores_unfinished = True
    started = pair.world.now
    pair.connect()
    expected = 1472 if carried >= 1472 else 1200
    assert sizes(pair) == (expected, expected)
    assert pair.client.events(Connected) == [Connected(SERVER)]
    connected_after_s = pair.world.now - started
    assert connected_after_s < (0.5 if expected == 1472 else 1.8)
    assert_carries(pair)
    pair.client.close(0, "")
    pair.run(10)
    assert_empty(endpoint(pair.client))
    assert_empty(endpoint(pair.server))


def test_where_only_the_way_back_is_narrow_it_starts_over_too(make_pair: MakeRealPair) -> None:
    pair = make_pair(path_mtu=lambda address: 9000)
    send = pair.world.network.send

    def narrow_way_back(transmit: Transmit, own: Address, now: float) -> None:
        pair.world.network.link = Link(mtu_bytes=1300 if own == SERVER else 65_535)
        send(transmit, own, now)

    pair.world.network.send = narrow_way_back  # type: ignore[method-assign]
    pair.server.ignores_unfinished = True
    started = pair.world.now
    pair.connect()
    assert pair.world.now - started < 1.35, "small answers say that the server is there: no need to ask"
    pair.run(6)
    assert sizes(pair) == (1200, 1200)
    assert len(endpoint(pair.server)._links) == 1, "what the first attempts have left half-made was given up"
    assert_carries(pair)


def test_the_server_takes_no_more_than_its_own_cap(make_pair: MakeRealPair) -> None:
    pair = make_pair(path_mtu=lambda address: 9000, server_limits=with_limits(datagram_cap_bytes=4096)).connect()
    assert sizes(pair) == (8972, 4096)
    assert_carries(pair)


@pytest.mark.parametrize("back_after_s", [0.5, 1.1, 1.7, 2.5, 3.5])
def test_a_server_that_was_only_away_gets_large_datagrams(make_pair: MakeRealPair, back_after_s: float) -> None:
    """A client that starts before its server must not stay small for it."""
    pair = make_pair(with_limits(handshake_timeout_s=10), path_mtu=lambda address: 1500)
    pair.world.network.unreachable.add(SERVER)
    pair.world.after(back_after_s, pair.world.network.unreachable.clear)
    pair.connect()
    assert sizes(pair) == (1472, 1472)


def test_a_server_that_is_away_is_given_up_in_time_all_the_same(make_pair: MakeRealPair) -> None:
    pair = make_pair(path_mtu=lambda address: 1500)
    pair.world.network.unreachable.add(SERVER)
    started = pair.world.now
    pair.client.connect(started)
    pair.until(lambda: pair.client.closed is not None)
    assert pair.client.closed is not None
    assert pair.client.closed.cause is Cause.HANDSHAKE_FAILED
    assert pair.world.now - started == pytest.approx(5.0, abs=0.05)
    pair.run(5)
    assert_empty(endpoint(pair.client))


def test_a_slow_path_that_carries_large_datagrams_connects_all_the_same(make_pair: MakeRealPair) -> None:
    """A round trip longer than the probe's patience."""
    pair = make_pair(path_mtu=lambda address: 1500, link=Link(delay_s=0.55)).connect()
    assert sizes(pair)[0] == 1472


def test_loss_alone_does_not_make_datagrams_small(make_pair: MakeRealPair) -> None:
    small = 0
    for seed in range(30):
        pair = make_pair(path_mtu=lambda address: 1500, link=Link(loss=0.1), seed=seed).connect()
        small += sizes(pair)[0] == 1200
    assert small <= 1
