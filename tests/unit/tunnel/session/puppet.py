"""An engine whose peer says whatever a test wants, event by event, and which notes what the session does.

Rules:
- It keeps the port's promises and no others: nothing more of a stream behind its end, nothing of a connection behind
  its `Closed`, which also takes back what was not polled yet.
- It takes every byte and has a stream for everybody.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field

from tunnel.engine import port
from tunnel.errors import Cause, cause_of_code

RTT_S = 0.01


@dataclass
class Deeds:
    """What the session did on one connection, by stream."""

    sent: defaultdict[int, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    finished: set[int] = field(default_factory=set)
    reset: dict[int, int] = field(default_factory=dict)
    stopped: dict[int, int] = field(default_factory=dict)
    consumed: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    closed: tuple[int, str] | None = None


class PuppetEngine:
    name = "puppet"

    def __init__(self) -> None:
        self.deeds: dict[int, Deeds] = {}
        self.alive: list[int] = []
        self._events: deque[tuple[int, port.Event]] = deque()
        self._next_stream: defaultdict[int, int] = defaultdict(int)
        self._over: set[tuple[int, int]] = set()
        """Streams of which no more will come."""
        self._refused: set[tuple[int, int]] = set()
        """Streams whose peer has said STOP_SENDING, which can be said once."""
        self._heard_at = 0.0

    # The peer's strings.

    def appear(self, address: port.Address) -> int:
        """A client whose handshake is complete."""
        number = self._begin()
        self._events.append((number, port.Connected(address)))
        return number

    def happen(self, number: int, event: port.Event) -> None:
        """Nothing, where a real engine would not tell it either."""
        if number not in self.alive:
            return
        match event:
            case port.Data(qid, _, end):
                if (number, qid) in self._over:
                    return
                if end:
                    self._over.add((number, qid))
            case port.Reset(qid, _):
                if (number, qid) in self._over:
                    return
                self._over.add((number, qid))
            case port.Stopped(qid, _):
                if (number, qid) in self._refused:
                    return
                self._refused.add((number, qid))
            case port.Closed():
                self.alive.remove(number)
        self._events.append((number, event))

    def _begin(self) -> int:
        number = len(self.deeds) + 1
        self.deeds[number] = Deeds()
        self.alive.append(number)
        return number

    # The port.

    def connect(self, address: port.Address, now: float) -> int:
        return self.appear(address)

    def receive(self, data: bytes | memoryview, segment_size: int, address: port.Address, now: float) -> None:
        self._heard_at = now

    def poll_transmit(self, now: float) -> port.Transmit | None:
        return None

    def poll_event(self) -> tuple[int, port.Event] | None:
        return self._events.popleft() if self._events else None

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None:
        pass

    def accept(self, connection: int) -> None:
        pass

    def use_certificate(self, certificate: bytes, private_key: bytes) -> None:
        pass

    def refuse_strangers(self) -> None:
        pass

    def open(self, connection: int) -> int | None:
        if connection not in self.alive:
            return None
        stream = self._next_stream[connection]
        self._next_stream[connection] += 4
        return stream

    def send(self, connection: int, stream: int, data: bytes | memoryview) -> int:
        if connection not in self.alive:
            return 0
        self.deeds[connection].sent[stream] += data
        return len(data)

    def finish(self, connection: int, stream: int) -> None:
        self.deeds[connection].finished.add(stream)

    def reset(self, connection: int, stream: int, code: int) -> None:
        self.deeds[connection].reset.setdefault(stream, code)

    def stop(self, connection: int, stream: int, code: int) -> None:
        self.deeds[connection].stopped.setdefault(stream, code)
        self._over.add((connection, stream))
        self._events = deque(
            (number, event)
            for number, event in self._events
            if (number, getattr(event, "stream", None)) != (connection, stream) or isinstance(event, port.Stopped)
        )

    def consumed(self, connection: int, stream: int, count: int) -> None:
        self.deeds[connection].consumed[stream] += count

    def ping(self, connection: int) -> None:
        pass

    def close(self, connection: int, code: int, reason: str) -> None:
        if connection in self.alive:
            self.alive.remove(connection)
            self.deeds[connection].closed = (code, reason)
            self._events = deque(entry for entry in self._events if entry[0] != connection)
            self._events.append((connection, port.Closed(cause_of_code(code, Cause.TRANSPORT_ERROR), reason, False)))

    def stats(self, connection: int) -> port.Stats | None:
        if connection not in self.alive:
            return None
        return port.Stats(RTT_S, 12_000, 1200, self._heard_at, 0, 0)

    def packets(self) -> port.Packets:
        return port.Packets()
