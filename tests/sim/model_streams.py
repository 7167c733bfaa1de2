"""The two halves of a model stream (RFC 9000 section 3), and the ranges that both are made of.

Rules:
- Offsets are bytes since the start of the stream; a range is half-open.
- A half knows nothing of packets, of the other half, or of the connection's credit.
"""


class FlowControlError(Exception):
    """The peer sent more than it was allowed, or changed where its stream ends."""


class Ranges:
    """Integers, as sorted disjoint half-open ranges."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self.items)

    def __contains__(self, value: int) -> bool:
        return any(start <= value < stop for start, stop in reversed(self.items))

    def add(self, start: int, stop: int) -> None:
        if start >= stop:
            return
        items = self.items
        if not items or start > items[-1][1]:
            items.append((start, stop))
        elif start >= items[-1][0]:
            items[-1] = (items[-1][0], max(stop, items[-1][1]))
        else:
            near = [one for one in items if one[0] <= stop and start <= one[1]]
            rest = [one for one in items if one[0] > stop or start > one[1]]
            rest.append((min([start, *(one[0] for one in near)]), max([stop, *(one[1] for one in near)])))
            self.items = sorted(rest)

    def remove(self, start: int, stop: int) -> None:
        kept = []
        for one_start, one_stop in self.items:
            if one_start < start:
                kept.append((one_start, min(one_stop, start)))
            if one_stop > stop:
                kept.append((max(one_start, stop), one_stop))
        self.items = [one for one in kept if one[0] < one[1]]


class SendHalf:
    """Bytes on their way out, until each is acknowledged. `limit` is the peer's credit."""

    __slots__ = (
        "_acked",
        "_base",
        "_buffer",
        "_fin_acked",
        "_fin_pending",
        "_pending",
        "end",
        "finished",
        "limit",
        "reset_acked",
        "reset_code",
        "sent_to",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.end = 0
        self.sent_to = 0
        self.finished = False
        self.reset_code: int | None = None
        self.reset_acked = False
        self._base = 0
        self._buffer = bytearray()
        self._pending = Ranges()
        self._acked = Ranges()
        self._fin_pending = False
        self._fin_acked = False

    @property
    def open(self) -> bool:
        return not self.finished and self.reset_code is None

    @property
    def done(self) -> bool:
        """Nothing is left to do: all of it acknowledged, or the reset."""
        return self.reset_acked or (self.reset_code is None and self._fin_acked and self._base == self.end)

    @property
    def unsent_bytes(self) -> int:
        return self.end - self.sent_to if self.reset_code is None else 0

    @property
    def buffered_bytes(self) -> int:
        acked = self._acked.items
        return len(self._buffer) - sum(stop - start for start, stop in acked) if acked else len(self._buffer)

    @property
    def has_work(self) -> bool:
        return self.reset_code is None and (self._fin_pending or bool(self._pending))

    def write(self, data: bytes | memoryview) -> None:
        self._buffer += data
        self._pending.add(self.end, self.end + len(data))
        self.end += len(data)

    def finish(self) -> None:
        self.finished = self._fin_pending = True

    def reset(self, code: int) -> None:
        self.reset_code = code
        self._buffer.clear()
        self._pending = Ranges()

    def next_frame(self, room: int) -> tuple[int, bytes, bool]:
        """Takes (offset, bytes, end) of at most `room` bytes out of what waits; only where `has_work`."""
        if not self._pending:
            self._fin_pending = False
            return self.end, b"", True
        start, stop = self._pending.items[0]
        stop = min(stop, start + room)
        self._pending.remove(start, stop)
        self.sent_to = max(self.sent_to, stop)
        fin = self.finished and stop == self.end
        if fin:
            self._fin_pending = False
        return start, bytes(self._buffer[start - self._base : stop - self._base]), fin

    def on_acked(self, start: int, stop: int, fin: bool) -> None:
        if self.reset_code is not None:
            return
        self._fin_acked = self._fin_acked or fin
        self._fin_pending = self._fin_pending and not self._fin_acked
        self._pending.remove(start, stop)
        self._acked.add(max(start, self._base), stop)
        if self._acked and self._acked.items[0][0] == self._base:
            _, acked_to = self._acked.items.pop(0)
            del self._buffer[: acked_to - self._base]
            self._base = acked_to

    def on_lost(self, start: int, stop: int, fin: bool) -> None:
        if self.reset_code is not None:
            return
        self._fin_pending = self._fin_pending or (fin and not self._fin_acked)
        self._pending.add(max(start, self._base), stop)
        for acked in self._acked.items:
            self._pending.remove(*acked)


class ReceiveHalf:
    """Bytes on their way in, put back in order. `limit` is the credit that the peer was told of."""

    __slots__ = (
        "_buffer",
        "_received",
        "consumed",
        "delivered",
        "end_reported",
        "final_size",
        "highest",
        "limit",
        "reset",
        "stop_code",
        "window",
    )

    def __init__(self, window: int) -> None:
        self.window = self.limit = window
        self.highest = 0
        self.delivered = 0
        self.consumed = 0
        self.final_size: int | None = None
        self.end_reported = False
        self.reset = False
        self.stop_code: int | None = None
        self._buffer = bytearray()
        self._received = Ranges()

    @property
    def done(self) -> bool:
        """The peer's part is over, and no byte of it waits for the application."""
        return self.final_size is not None and (
            self.reset or self.stop_code is not None or (self.end_reported and self.consumed == self.final_size)
        )

    @property
    def discarding(self) -> bool:
        return self.reset or self.stop_code is not None

    def take(self, offset: int, data: bytes, end: bool) -> int:
        """Takes a frame; returns by how much it raised the highest offset seen, which is what credit is counted in."""
        stop = offset + len(data)
        moved = self.final_size is not None and (stop > self.final_size or (end and stop != self.final_size))
        if stop > self.limit or moved or (end and stop < self.highest):
            raise FlowControlError(f"bytes up to {stop} of {self.limit}, final size {self.final_size}")
        if end:
            self.final_size = stop
        grown = max(0, stop - self.highest)
        self.highest += grown
        if not self.discarding and stop > self.delivered:
            skip = max(0, self.delivered - offset)
            self._put(offset + skip, data[skip:])
        return grown

    def ready(self) -> tuple[bytes, bool] | None:
        """The next bytes in order and whether the end stands behind them; None while there is nothing new."""
        data = b""
        if self._received and self._received.items[0][0] == self.delivered:
            _, stop = self._received.items.pop(0)
            data = bytes(self._buffer[: stop - self.delivered])
            del self._buffer[: stop - self.delivered]
            self.delivered = stop
        end = self.delivered == self.final_size and not self.end_reported
        if not data and not end:
            return None
        self.end_reported = end
        return data, end

    def take_reset(self, final_size: int) -> int:
        """The peer gave up at `final_size`; returns what `take` returns."""
        if final_size < self.highest or final_size > self.limit:
            raise FlowControlError(f"reset at {final_size}, with {self.highest} received of {self.limit}")
        grown = final_size - self.highest
        self.highest = self.final_size = final_size
        self.reset = True
        return grown

    def consume(self, count: int) -> int:
        """The application took bytes; returns how many of them can be true."""
        count = min(count, self.delivered - self.consumed)
        self.consumed += count
        return count

    def raise_limit(self) -> bool:
        """Whether the peer should be told of more credit: in steps of a quarter of the window."""
        limit = self.consumed + self.window
        if self.final_size is not None or limit - self.limit < self.window // 4:
            return False
        self.limit = limit
        return True

    def discard(self) -> int:
        """Forgets what is here; returns how many bytes the application never took."""
        self._buffer.clear()
        self._received = Ranges()
        untaken = self.highest - self.consumed
        self.consumed = self.highest
        return untaken

    def _put(self, offset: int, data: bytes) -> None:
        at = offset - self.delivered
        if len(self._buffer) < at:
            self._buffer += bytes(at - len(self._buffer))
        self._buffer[at : at + len(data)] = data
        self._received.add(offset, offset + len(data))
