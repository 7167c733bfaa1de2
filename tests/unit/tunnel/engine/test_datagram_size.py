"""Datagrams are as large as the path carries, and one that carries less than was thought loses nothing: every pairing.

aioquic finds the size out in the handshake (aioquic/test_datagram_size.py), quinn afterwards (quinn/test_path.py).
"""

import pytest
from tests.sim.network import Link
from tests.sim.pair import CLIENT, SERVER, Pair
from tests.unit.tunnel.engine.harness import SMALL, MakeRealPair, assert_empty, listen, payload, with_limits

from tunnel.engine.port import Address

HEADERS_BYTES = 28
"""Of IPv4 and UDP."""

BODY = payload(300_000)


def carries(pair: Pair) -> None:
    up, down = pair.client.open(), pair.client.open()
    pair.client.write(up, BODY, end=True)
    pair.client.write(down, b"GET", end=True)
    assert pair.until_ended(pair.server, up) == BODY
    pair.until_ended(pair.server, down)
    pair.server.write(down, BODY, end=True)
    assert pair.until_ended(pair.client, down) == BODY


def sizes(pair: Pair) -> list[int]:
    """Of the datagrams that each side sends at most."""
    stats = [side.engine.stats(side.connection) for side in (pair.client, pair.server)]
    return [one.datagram_bytes for one in stats if one is not None]


@pytest.mark.parametrize("mtu", [1000, 1228, 1280, 1450, 1500, 9000, 65_536, None])
def test_a_client_sends_nothing_that_is_longer_than_the_path_is_said_to_carry(
    make_real_pair: MakeRealPair, mtu: int | None
) -> None:
    pair = make_real_pair(path_mtu=lambda address: mtu)
    heard = listen(pair.world)
    pair.connect()
    carries(pair)
    longest = max(len(datagram) for own, datagram in heard if own == CLIENT)
    assert 1200 <= longest <= SMALL.datagram_cap_bytes
    if mtu is not None:
        assert longest <= max(1200, mtu - HEADERS_BYTES)


def test_the_path_asked_for_is_the_one_to_the_server(make_real_pair: MakeRealPair) -> None:
    asked: list[Address] = []

    def path_mtu(address: Address) -> int:
        asked.append(address)
        return 1500

    make_real_pair(path_mtu=path_mtu).connect()
    assert asked == [SERVER]


@pytest.mark.parametrize("carried", [1472, 1471, 1300, 1200])
def test_where_the_path_carries_less_it_connects_and_carries_all_the_same(
    make_real_pair: MakeRealPair, carried: int
) -> None:
    pair = make_real_pair(path_mtu=lambda address: 1500, link=Link(mtu_bytes=carried))
    pair.server.ignores_unfinished = True
    started = pair.world.now
    pair.connect()
    assert pair.world.now - started < 2
    carries(pair)
    assert all(1200 <= size <= carried for size in sizes(pair))
    pair.client.close(0, "")
    pair.run(10)
    assert_empty(pair.client.engine)
    assert_empty(pair.server.engine)


def test_a_server_sends_nothing_that_is_longer_than_its_own_cap(make_real_pair: MakeRealPair) -> None:
    limits = with_limits(datagram_cap_bytes=4096)
    pair = make_real_pair(path_mtu=lambda address: 9000, server_limits=limits)
    heard = listen(pair.world)
    pair.connect()
    carries(pair)
    assert max(len(datagram) for own, datagram in heard if own == SERVER) <= 4096


@pytest.mark.parametrize("carried", [1471, 1300, 1200])
def test_a_path_that_becomes_narrower_is_noticed_and_nothing_hangs(make_real_pair: MakeRealPair, carried: int) -> None:
    """Pings are short and get through: without a look at what gets lost, the connection would seem to live."""
    pair = make_real_pair(path_mtu=lambda address: 1500).connect()
    carries(pair)
    pair.world.network.link = Link(mtu_bytes=carried)
    carries(pair)
    assert all(1200 <= size <= carried for size in sizes(pair))
    assert pair.client.closed is None


@pytest.mark.parametrize("seed", range(3))
def test_a_path_that_loses_every_tenth_datagram_is_not_taken_for_a_narrow_one(
    make_real_pair: MakeRealPair, seed: int
) -> None:
    pair = make_real_pair(path_mtu=lambda address: 1500, link=Link(loss=0.1), seed=seed).connect()
    before = sizes(pair)
    for _ in range(3):
        carries(pair)
    assert all(now >= then for now, then in zip(sizes(pair), before, strict=True))
