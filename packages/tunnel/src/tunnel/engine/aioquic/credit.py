"""Window arithmetic: how much a peer may send, as pure numbers.

Rules:
- A limit is what was consumed plus a window. It follows the reader, never the arrivals, and never moves back.
- Every stream always has the floor. Growth above it is paid out of a budget of the whole process, and comes back to
  the budget when the stream ends: a full budget makes streams slower, and never stops one.
- A connection's limit covers what all of its streams may use together, so no stream can starve another (F11).
- A byte is credited to the connection exactly once, however its stream ends (F12).
"""

GROWTH_ROUND_TRIPS = 2
"""A window that was consumed whole within so many round trips may be what holds the stream back: it doubles."""


class WindowBudget:
    """Bytes by which the windows of all streams of the process may exceed their floors, together."""

    __slots__ = ("left_bytes",)

    def __init__(self, total_bytes: int) -> None:
        self.left_bytes = total_bytes

    def take(self, count: int) -> bool:
        """Takes `count` bytes, or none at all."""
        if count > self.left_bytes:
            return False
        self.left_bytes -= count
        return True

    def give_back(self, count: int) -> None:
        self.left_bytes += count


class StreamCredit:
    """What the peer may send on one stream."""

    __slots__ = ("_round_mark_bytes", "_round_started_at", "consumed_bytes", "floor_bytes", "window_bytes")

    def __init__(self, floor_bytes: int, now: float) -> None:
        self.consumed_bytes = 0
        self.floor_bytes = floor_bytes
        self.window_bytes = floor_bytes
        self._round_started_at = now
        self._round_mark_bytes = 0

    @property
    def limit_bytes(self) -> int:
        """The highest offset that the peer may reach."""
        return self.consumed_bytes + self.window_bytes

    @property
    def growth_bytes(self) -> int:
        return self.window_bytes - self.floor_bytes

    def worth_telling(self, told_bytes: int) -> bool:
        """Whether at least a quarter of the window came free since the peer was told a limit of `told_bytes`.

        A peer that has used up all it was given is never left waiting: its whole window then waits for the reader,
        so a quarter comes free before the rest does.
        """
        return 4 * (self.limit_bytes - told_bytes) >= self.window_bytes

    def consume(self, count: int, now: float, rtt_s: float, cap_bytes: int, budget: WindowBudget) -> int:
        """Counts `count` bytes as consumed; returns by how many bytes the window grew (mostly 0)."""
        self.consumed_bytes += count
        if self.consumed_bytes - self._round_mark_bytes < self.window_bytes:
            return 0
        quick = now - self._round_started_at <= GROWTH_ROUND_TRIPS * rtt_s
        self._round_started_at = now
        self._round_mark_bytes = self.consumed_bytes
        growth = min(self.window_bytes, cap_bytes - self.window_bytes)
        if not quick or growth <= 0 or not budget.take(growth):
            return 0
        self.window_bytes += growth
        return growth


class ConnectionCredit:
    """What the peer may send on all streams of a connection together: their windows, and the control window.

    The limit is told in steps, and streams that stall may hold all of the window but what the others need. So one step
    is always added on top: whatever was not told yet is never what a stream is short of.
    """

    __slots__ = ("_standing_bytes", "_step_bytes", "consumed_bytes", "growth_bytes")

    def __init__(self, max_streams: int, floor_bytes: int, control_window_bytes: int) -> None:
        self._step_bytes = floor_bytes // 4
        self._standing_bytes = max_streams * floor_bytes + control_window_bytes + self._step_bytes
        self.growth_bytes = 0
        """By how much the windows of the open streams exceed their floors."""
        self.consumed_bytes = 0

    @property
    def window_bytes(self) -> int:
        return self._standing_bytes + self.growth_bytes

    def limit_bytes(self, told_bytes: int) -> int:
        """The limit to tell the peer now; `told_bytes` where the step would be too small."""
        limit = self.consumed_bytes + self.window_bytes
        return limit if limit - told_bytes >= self._step_bytes else told_bytes
