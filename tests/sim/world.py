"""Virtual time: everything that happens, one after the other, across a `Network`.

Rules:
- Time moves only to the next thing that is due: a delivery, a timer, a planned action. Nothing waits for real.
- Timers come a little late, as real ones do. (At exactly its time aioquic's loss timer may find, by a rounding error,
  that it is not due yet.)
- Every run is bounded: by a deadline on virtual time and by how often nothing may come of a timer. Who leaves a timer
  in the past, never stops sending, or plans ever more for the same instant is `Stuck`, not a hang.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

from tests.sim.network import Network

from tunnel.engine.port import Address, Transmit

START_S = 100.0
"""Not zero: a zero is false, and would hide what mistakes it for nothing."""

LATENESS_S = 0.000_1
MAX_IDLE_TIMERS = 500
MAX_TRANSMITS_AT_ONCE = 5_000
MAX_ACTIONS_AT_ONCE = 20_000

Receive = Callable[[bytes, int, Address], None]
"""Takes a GRO buffer, its segment size, and whom it is from."""


class Party(Protocol):
    """Somebody with an address who has to be asked: an engine with its test."""

    def receive(self, data: bytes, segment_size: int, address: Address, now: float) -> None: ...

    def get_timer(self) -> float | None: ...

    def handle_timer(self, now: float) -> None: ...

    def work(self, now: float) -> None:
        """Reacts to what happened. Called after everything that may have brought something."""

    def poll_transmit(self, now: float) -> Transmit | None: ...


class Planned:
    """An action to come."""

    __slots__ = ("_action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    @property
    def cancelled(self) -> bool:
        return self._action is None

    def cancel(self) -> None:
        self._action = None

    def run(self) -> None:
        if self._action is not None:
            self._action()


class Stuck(AssertionError):
    """Virtual time does not move any more."""


class World:
    """The parties, the network between them, and the time."""

    def __init__(self, network: Network) -> None:
        self.now = START_S
        self.network = network
        self._parties: dict[Address, Party] = {}
        self._receivers: dict[Address, Receive] = {}
        self._actions: list[tuple[float, int, Planned]] = []
        self._planned = 0
        self._at_once = 0

    def add(self, own: Address, party: Party) -> None:
        """`party` lives at `own` from now on."""
        self.listen(own, lambda data, segment_size, address: party.receive(data, segment_size, address, self.now))
        self._parties[own] = party

    def listen(self, own: Address, receive: Receive) -> None:
        """What arrives at `own` goes to `receive`. Who listened there before does not any more."""
        if own not in self._receivers:
            self.network.attach(own)
        self._receivers[own] = receive

    def after(self, delay_s: float, action: Callable[[], None]) -> Planned:
        """Plans a call."""
        self._planned += 1
        planned = Planned(action)
        heappush(self._actions, (self.now + max(0.0, delay_s), self._planned, planned))
        return planned

    def run(self, within_s: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Runs until the condition holds (true), or until nothing is due within that time (false)."""
        deadline = self.now + within_s
        idle_timers = 0
        while True:
            sent = self._settle()
            if until():
                return True
            due = self._next_at()
            if due is None or due > deadline:
                self.now = deadline
                return False
            stood_still = due <= self.now + LATENESS_S
            self.now = max(self.now, due)
            only_timers = not self._happen(stood_still)
            idle_timers = idle_timers + 1 if only_timers and stood_still and not sent else 0
            if idle_timers > MAX_IDLE_TIMERS:
                raise Stuck(f"timers stay in the past at {self.now}: {self._timers()}")

    def _settle(self) -> bool:
        """Lets everybody react and send; whether anybody sent."""
        sent = False
        for own, party in self._parties.items():
            party.work(self.now)
            for _ in range(MAX_TRANSMITS_AT_ONCE):
                transmit = party.poll_transmit(self.now)
                if transmit is None:
                    break
                self.network.send(transmit, own, self.now)
                sent = True
            else:
                raise Stuck(f"{own} has sent {MAX_TRANSMITS_AT_ONCE} times at {self.now}")
        return sent

    def _timers(self) -> dict[Address, float]:
        timers = ((own, party.get_timer()) for own, party in self._parties.items())
        return {own: max(when, self.now) + LATENESS_S for own, when in timers if when is not None}

    def _next_at(self) -> float | None:
        while self._actions and self._actions[0][2].cancelled:
            heappop(self._actions)
        times = [self.network.next_at(), self._actions[0][0] if self._actions else None]
        if self._parties:
            times += self._timers().values()
        return min((time for time in times if time is not None), default=None)

    def _happen(self, stood_still: bool) -> bool:
        """One delivery, or one action, or else (false) the timers that are due."""
        delivery = self.network.receive(self.now)
        if delivery is not None:
            self._receivers[delivery.destination](delivery.data, delivery.segment_size, delivery.source)
            return True
        if self._actions and self._actions[0][0] <= self.now:
            self._at_once = self._at_once + 1 if stood_still else 0
            if self._at_once > MAX_ACTIONS_AT_ONCE:
                raise Stuck(f"{self._at_once} actions at {self.now}")
            heappop(self._actions)[2].run()
            return True
        for party in self._parties.values():
            when = party.get_timer()
            if when is not None and when <= self.now:
                party.handle_timer(self.now)
        return False
