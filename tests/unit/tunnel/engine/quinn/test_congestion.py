"""What waits for the congestion window, and what does not: pings, and the first word after a silence."""

import pytest
from tests.sim.network import Link
from tests.sim.pair import CLIENT, SERVER, Pair
from tests.unit.tunnel.engine.harness import MakeRealPair, listen, payload, with_limits

from tunnel.engine.port import CONTROL_STREAM
from tunnel.engine.settings import MIB

DELAY_S = 0.1
ROUND_TRIP_S = 2 * DELAY_S
ACK_DELAY_S = 0.03
"""How long an acknowledgement may wait for company, and a little."""

WIDE = with_limits(stream_window_floor_bytes=1 * MIB, stream_window_cap_bytes=1 * MIB, send_cap_bytes=1 * MIB)


@pytest.fixture
def full(make_pair: MakeRealPair) -> Pair:
    """The client has just filled its first congestion window, and has much more to send."""
    pair = make_pair(WIDE, Link(delay_s=DELAY_S)).connect()
    pair.run(3)  # Datagrams have found their size.
    pair.client.write(pair.client.open(), payload(4 * MIB))
    pair.run(0.001)
    stats = pair.client.engine.stats(pair.client.connection)
    assert stats is not None
    assert stats.buffered_send_bytes > stats.congestion_window_bytes
    return pair


class TestPing:
    def test_it_is_answered_in_one_round_trip_although_the_window_is_full(self, full: Pair) -> None:
        full.client.engine.ping(full.client.connection)
        full.until(lambda: full.client.pings_answered == 1, ROUND_TRIP_S + ACK_DELAY_S)

    def test_behind_a_hole_too(self, full: Pair) -> None:
        """All that was in flight is lost, and probes have backed off to seconds."""
        full.world.network.unreachable |= {CLIENT, SERVER}
        full.run(6)
        full.world.network.unreachable.clear()
        full.client.engine.ping(full.client.connection)
        full.until(lambda: full.client.pings_answered == 1, ROUND_TRIP_S + ACK_DELAY_S)

    def test_an_acknowledgement_from_before_is_no_answer(self, full: Pair) -> None:
        asked_at = full.world.now
        full.client.engine.ping(full.client.connection)
        full.until(lambda: full.client.pings_answered == 1, 1)
        assert full.world.now - asked_at >= ROUND_TRIP_S * 0.9

    def test_many_at_once_are_answered_once(self, full: Pair) -> None:
        for _ in range(5):
            full.client.engine.ping(full.client.connection)
        full.run(2)
        assert full.client.pings_answered == 1


class TestMute:
    """quinn holds even acknowledgements back while data waits for the congestion window."""

    def test_who_was_mute_answers_the_first_that_it_hears(self, full: Pair) -> None:
        full.world.network.unreachable |= {CLIENT, SERVER}
        full.run(4)
        heard = listen(full.world)
        full.run(1)
        assert not [own for own, _ in heard if own == CLIENT], "its probes have backed off"
        full.world.network.unreachable.clear()
        full.server.engine.ping(full.server.connection)
        full.until(lambda: full.server.pings_answered == 1, ROUND_TRIP_S + ACK_DELAY_S)

    def test_the_window_is_respected_all_the_same(self, full: Pair) -> None:
        """One datagram passes for each ping, not everything that waits."""
        heard = listen(full.world)
        for _ in range(10):
            full.client.engine.ping(full.client.connection)
            full.run(0.001)
        sent = sum(len(datagram) for own, datagram in heard if own == CLIENT)
        stats = full.client.engine.stats(full.client.connection)
        assert stats is not None
        assert len([own for own, _ in heard if own == CLIENT]) <= 10
        assert sent <= 10 * stats.datagram_bytes


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("control", ["cubic", "bbr", "reno"])
def test_every_congestion_control_carries_data_across_a_lossy_link(
    make_pair: MakeRealPair, control: str, seed: int
) -> None:
    link = Link(delay_s=0.01, jitter_s=0.005, loss=0.05, reorder=0.05, duplicate=0.01)
    pair = make_pair(with_limits(congestion_control=control), link, seed).connect()
    up, down = pair.client.open(), pair.client.open()
    pair.client.write(up, payload(300_000, 1), end=True)
    pair.client.write(down, b"GET", end=True)
    pair.until_ended(pair.server, down, 60)
    pair.server.write(down, payload(300_000, 2), end=True)
    assert pair.until_ended(pair.server, up, 120) == payload(300_000, 1)
    assert pair.until_ended(pair.client, down, 120) == payload(300_000, 2)
    assert pair.client.engine.packets().lost > 0


def test_bbr_keeps_its_window_where_loss_is_not_congestion(make_pair: MakeRealPair) -> None:
    """What it is for; the others take each loss for a full queue."""
    windows = {}
    for control in ("cubic", "bbr"):
        pair = make_pair(
            with_limits(
                congestion_control=control,
                stream_window_floor_bytes=1 * MIB,
                stream_window_cap_bytes=1 * MIB,
                send_cap_bytes=1 * MIB,
            ),
            Link(delay_s=0.01, loss=0.02, mtu_bytes=1472),
        ).connect()
        assert pair.client.open() == CONTROL_STREAM
        started = pair.world.now
        stream = pair.client.open()
        pair.client.write(stream, payload(2 * MIB), end=True)
        pair.until_ended(pair.server, stream, 120)
        windows[control] = pair.world.now - started
    assert windows["bbr"] < windows["cubic"]


def test_an_unknown_congestion_control_is_refused_by_name(make_pair: MakeRealPair) -> None:
    with pytest.raises(ValueError, match="vegas"):
        make_pair.server(with_limits(congestion_control="vegas"))
