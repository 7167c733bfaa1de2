"""tunnel.engine.aioquic.recovery: pacing in ticks, and a window that follows what was used."""

import pytest
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.tls import Epoch
from tests.sim.network import Link
from tests.unit.tunnel.engine.harness import MakeRealPair, with_limits

from tunnel.engine.aioquic.recovery import (
    BURST_DATAGRAMS_MAX,
    BURST_DATAGRAMS_MIN,
    PACING_GAIN,
    RTT_SAMPLES,
    SLOWER_MIN_S,
    TICK_S,
    Cubic,
    Pacer,
)
from tunnel.engine.settings import MIB

SIZE = 1200
INITIAL = 10 * SIZE


def sent(number: int, now: float) -> QuicSentPacket:
    packet = QuicSentPacket(
        epoch=Epoch.ONE_RTT,
        in_flight=True,
        is_ack_eliciting=True,
        is_crypto_packet=False,
        packet_number=number,
        packet_type=QuicPacketType.ONE_RTT,
    )
    packet.sent_time = now
    packet.sent_bytes = SIZE
    return packet


class TestPacer:
    def burst(self, pacer: Pacer, now: float) -> int:
        """Datagrams that leave at once."""
        count = 0
        while pacer.next_send_time(now) is None:
            pacer.update_after_send(now)
            count += 1
        return count

    @pytest.mark.parametrize("rtt_s", [0.0005, 0.001, 0.02, 0.2])
    @pytest.mark.parametrize("window_datagrams", [2, 10, 100, 1000, 10_000])
    def test_waking_up_once_a_tick_is_enough_for_the_paced_rate(self, rtt_s: float, window_datagrams: int) -> None:
        pacer, now, count = Pacer(max_datagram_size=SIZE), 1.0, 0
        pacer.update_rate(window_datagrams * SIZE, rtt_s)
        self.burst(pacer, now)
        for _ in range(1000):
            now += TICK_S
            burst = self.burst(pacer, now)
            assert burst <= BURST_DATAGRAMS_MAX + 1
            count += burst
        paced = PACING_GAIN * window_datagrams / rtt_s  # datagrams a second
        assert count == pytest.approx(min(paced, BURST_DATAGRAMS_MAX * 1000), rel=0.02, abs=2)

    def test_the_initial_window_may_leave_at_once(self) -> None:
        pacer = Pacer(max_datagram_size=SIZE)
        pacer.update_rate(INITIAL, 0.1)
        assert self.burst(pacer, 1.0) >= BURST_DATAGRAMS_MIN

    def test_a_paced_sender_is_woken_once_a_tick_at_most(self) -> None:
        pacer = Pacer(max_datagram_size=SIZE)
        pacer.update_rate(100_000 * SIZE, 0.001)
        self.burst(pacer, 1.0)
        assert pacer.next_send_time(1.0) >= 1.0 + TICK_S

    def test_acknowledgements_do_not_run_into_debt(self) -> None:
        """They are sent whatever the pacer says; what comes behind a thousand of them must not wait for them."""
        pacer = Pacer(max_datagram_size=SIZE)
        pacer.update_rate(INITIAL, 0.22)
        for _ in range(1000):
            pacer.update_after_send(1.0)
        assert pacer.packet_time is not None
        assert pacer.next_send_time(1.0) <= 1.0 + pacer.packet_time

    def test_large_datagrams_leave_in_bursts_that_fit_a_socket_buffer(self) -> None:
        pacer = Pacer(max_datagram_size=16_384)
        pacer.update_rate(1000 * 16_384, 0.001)
        assert self.burst(pacer, 1.0) * 16_384 <= 11 * 16_384


class TestCubic:
    def test_a_window_that_is_not_used_does_not_grow(self) -> None:
        cubic, now = Cubic(SIZE), 1.0
        for number in range(1000):
            packet = sent(number, now)
            cubic.on_packet_sent(packet=packet)
            now += 0.01
            cubic.on_packet_acked(now=now, packet=packet)
        assert cubic.congestion_window == INITIAL

    def test_a_window_that_is_used_doubles_in_a_round_trip(self) -> None:
        cubic = Cubic(SIZE)
        packets = [sent(number, 1.0) for number in range(10)]
        for packet in packets:
            cubic.on_packet_sent(packet=packet)
        for packet in packets:
            cubic.on_packet_acked(now=1.1, packet=packet)
            cubic.on_packet_sent(packet=sent(100 + packet.packet_number, 1.1))
        assert cubic.congestion_window == 2 * INITIAL

    def test_a_loss_takes_a_third_of_the_window_however_little_is_in_flight(self) -> None:
        cubic = Cubic(SIZE)
        packet = sent(0, 1.0)
        cubic.on_packet_sent(packet=packet)
        cubic.on_packets_lost(now=1.1, packets=[packet])
        assert cubic.congestion_window == cubic.ssthresh == int(0.7 * INITIAL)
        assert cubic.bytes_in_flight == 0

    def test_one_reduction_a_round_trip(self) -> None:
        cubic = Cubic(SIZE)
        packets = [sent(number, 1.0) for number in range(5)]
        for packet in packets:
            cubic.on_packet_sent(packet=packet)
        for packet in packets:
            cubic.on_packets_lost(now=1.1, packets=[packet])
        assert cubic.congestion_window == int(0.7 * INITIAL)

    def test_noise_does_not_end_slow_start_and_a_queue_does(self) -> None:
        cubic, now = Cubic(SIZE), 1.0
        for sample in range(1000):
            now += 0.002
            cubic.on_rtt_measurement(now=now, rtt=0.0005 + 0.003 * (sample % 7) / 7)
        assert cubic.ssthresh is None
        for _ in range(RTT_SAMPLES):
            now += 0.002
            cubic.on_rtt_measurement(now=now, rtt=0.0005 + SLOWER_MIN_S)
        assert cubic.ssthresh == cubic.congestion_window


def test_bulk_fills_a_paced_path(make_pair: MakeRealPair) -> None:
    """40 ms round trip: slow start takes half a second to 50 Mbit/s, and nothing is in the way then."""
    limits = with_limits(stream_window_floor_bytes=1 * MIB, stream_window_cap_bytes=1 * MIB, send_cap_bytes=1 * MIB)
    pair = make_pair(limits, Link(delay_s=0.02)).connect()
    stream = pair.client.open()
    pair.client.write(stream, bytes(4 * MIB), end=True)
    started = pair.world.now
    pair.until_ended(pair.server, stream)
    assert pair.world.now - started < 1.0
    assert pair.client.engine.packets().lost == 0
