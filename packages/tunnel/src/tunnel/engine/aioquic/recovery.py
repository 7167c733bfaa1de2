"""Pacing and congestion control, where aioquic's own do not fit a process that wakes up once a millisecond.

Rules:
- Pacing works in ticks. aioquic's bucket holds 16 datagrams, counted in time; where the round trip is short it holds
  one or two, and each wake-up of the event loop sends no more than that: some 20 Mbit/s on a local network.
- The congestion window follows RFC 9002 section 7 and RFC 9438 where aioquic departs from them: it does not grow while
  it is not used (section 7.8), a loss takes it down from what it was, not from what happened to be in flight, and slow
  start ends when round trips grow by 4 ms or more (RFC 9406), not by a quarter of a millisecond of scheduling noise.
- A path that has become too narrow loses every large datagram and no small one (RFC 8899 section 4.4). Pings get
  through, so that the connection seems to live, while nothing moves: three times in a row mean that.
"""

import math
from collections import deque
from collections.abc import Iterable
from typing import cast

from aioquic.quic.congestion.base import K_MINIMUM_WINDOW, register_congestion_control
from aioquic.quic.congestion.cubic import K_CUBIC_LOSS_REDUCTION_FACTOR, CubicCongestionControl
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.quic.recovery import QuicPacketPacer

CUBIC = "finback-cubic"
"""The name that the congestion control below is registered with."""

TICK_S = 0.001
"""A paced sender asks to be woken no more often: event loops are no finer."""

BURST_S = 0.002
"""What may leave at once, in time at the paced rate; so that a late wake-up loses nothing."""

BURST_DATAGRAMS_MIN = 10
"""Always allowed at once (RFC 9002 section 7.7: the initial window)."""

BURST_DATAGRAMS_MAX = 64
"""Never exceeded: the event loop is needed for other things too (F21). Some 2 ms of it."""

BURST_BYTES_MAX = 160 * 1024
"""Not exceeded either, above the least number: a burst has to fit a socket buffer of Linux's default size."""

PACING_GAIN = 1.25
"""The paced rate over window / round trip (RFC 9002 section 7.7), so that pacing alone never limits."""

RTT_SAMPLES = 8
SLOWER_MIN_S = 0.004
SLOWER_MAX_S = 0.016
"""RFC 9406 section 4.3: N_RTT_SAMPLE, MIN_RTT_THRESH, MAX_RTT_THRESH."""


class Pacer(QuicPacketPacer):
    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        bytes_per_s = PACING_GAIN * congestion_window / max(smoothed_rtt, 1e-6)
        self.packet_time = self._max_datagram_size / bytes_per_s
        most = min(BURST_DATAGRAMS_MAX, BURST_BYTES_MAX // self._max_datagram_size)
        burst = max(BURST_DATAGRAMS_MIN, min(BURST_S / self.packet_time, most))
        self.bucket_max = burst * self.packet_time
        self.bucket_time = min(self.bucket_time, self.bucket_max)

    def next_send_time(self, now: float) -> float:
        """None for now (aioquic declares a float)."""
        if self.packet_time is not None:
            self.update_bucket(now)
            if self.bucket_time <= 0:
                return now + max(TICK_S, -self.bucket_time)
        return cast("float", None)

    def update_after_send(self, now: float) -> None:
        """The last datagram of a burst may overdraw the bucket; the next burst waits for that, too.

        By one datagram at most: what carries an acknowledgement is sent unasked (and should not be paced at all, RFC
        9002 section 7.7). The receiver of a bulk transfer would owe seconds for those when it is its turn to send.
        """
        if self.packet_time is not None:
            self.update_bucket(now)
            self.bucket_time = max(self.bucket_time, 0.0) - self.packet_time


NARROW_LOSSES = 3
"""So many times only large datagrams were lost, each time of those sent since the last, and none arrived."""


class Cubic(CubicCongestionControl):
    """Datagrams of more than `small_bytes` are large."""

    small_bytes = 1200

    def __init__(self, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self._narrow_losses = 0
        self._narrow_at = 0.0
        self._shortest_rtt_s = math.inf
        self._recent_rtts_s: deque[float] = deque(maxlen=RTT_SAMPLES)

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        window, used = self.congestion_window, 2 * self.bytes_in_flight >= self.congestion_window
        super().on_packet_acked(now=now, packet=packet)
        if packet.sent_bytes > self.small_bytes:
            self._narrow_losses = 0
        if not used:
            self.congestion_window = window

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:
        window, recovery = self.congestion_window, self._congestion_recovery_start_time
        super().on_packets_lost(now=now, packets=packets)
        if self._congestion_recovery_start_time != recovery:
            reduced = int(window * K_CUBIC_LOSS_REDUCTION_FACTOR)
            self.ssthresh = self.congestion_window = max(reduced, K_MINIMUM_WINDOW * self._max_datagram_size)

    def path_is_narrow(self, now: float, lost: list[QuicSentPacket]) -> bool:
        """Whether these losses show that large datagrams do not arrive any more."""
        counted = [packet for packet in lost if packet.in_flight]
        if not counted or min(packet.sent_bytes for packet in counted) <= self.small_bytes:
            return False
        if max(packet.sent_time or 0.0 for packet in counted) > self._narrow_at:
            self._narrow_losses += 1
            self._narrow_at = now
        return self._narrow_losses >= NARROW_LOSSES

    def resize(self, max_datagram_size: int) -> None:
        self._max_datagram_size = self.additive_increase_factor = max_datagram_size

    def on_rtt_measurement(self, *, now: float, rtt: float) -> None:
        self.rtt = rtt
        self._shortest_rtt_s = min(self._shortest_rtt_s, rtt)
        self._recent_rtts_s.append(rtt)
        slower = min(max(self._shortest_rtt_s / 8, SLOWER_MIN_S), SLOWER_MAX_S)
        if (
            self.ssthresh is None
            and len(self._recent_rtts_s) == RTT_SAMPLES
            and min(self._recent_rtts_s) >= self._shortest_rtt_s + slower
        ):
            self.ssthresh = self.congestion_window


register_congestion_control(CUBIC, Cubic)
