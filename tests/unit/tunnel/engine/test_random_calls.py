"""Any calls in any order, on streams that exist and on those that do not: never an exception, and both sides agree.

Rules:
- What a side received of a stream is what the other side gave, from its first byte on, all of it at its end.
- Each side hears the truth: an end only behind a finish, a reset or stop only where the other side has called one.
- Afterwards both close, and nothing is left.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim.network import Link
from tests.sim.pair import Pair
from tests.unit.tunnel.engine.harness import PAIRINGS, Certificates, MakeRealPair, assert_empty, with_limits

LIMITS = with_limits(
    stream_window_floor_bytes=4096,
    stream_window_cap_bytes=16_384,
    send_cap_bytes=10_000,
    control_window_bytes=2048,
    greeting_credit_bytes=8192,
    max_streams=6,
    greeting_streams=3,
)
LINKS = {
    "clean": Link(delay_s=0.005),
    "bad": Link(delay_s=0.005, jitter_s=0.01, loss=0.1, reorder=0.1, duplicate=0.1, corrupt=0.02),
}
NEVER = (1, 2, 3, 5, 1000, 4_000_000, 2**62 - 1)
"""Numbers of streams that nobody opens."""

CALLS = (
    *["open"] * 4,
    *["send"] * 8,
    *["finish"] * 5,
    *["reset", "stop"] * 2,
    *["consumed"] * 10,
    *["ping"],
    *["run"] * 8,
)
SIZES = (0, 1, 100, 3000, 20_000)

Step = tuple[bool, str, int, int]
"""At the client or the server, what, the how manieth stream from the last one opened, how much."""

steps_of_a_game = st.lists(
    st.tuples(st.booleans(), st.sampled_from(CALLS), st.integers(0, 7), st.sampled_from(SIZES)), max_size=80
)


@dataclass
class Said:
    """What a side was made to call, whether or not it had an effect."""

    sent: defaultdict[int, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    finished: set[int] = field(default_factory=set)
    finished_known: set[int] = field(default_factory=set)
    """Those that were surely there."""
    reset: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    stopped: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))


class Play:
    """Two engines, what each was told to do, and what must hold."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self.pair, self.rng = pair, Random(seed)
        self.sides = {True: pair.client, False: pair.server}
        self.said = {True: Said(), False: Said()}
        self.opened: list[int] = []
        for side in self.sides.values():
            side.reading = False

    def call(self, at_client: bool, call: str, back: int, size: int) -> None:
        side, said = self.sides[at_client], self.said[at_client]
        stream = self.opened[-1 - back] if back < len(self.opened) else self.rng.choice(NEVER)
        match call:
            case "open":
                opened = side.engine.open(side.connection)
                assert opened is None or at_client
                self.opened += [] if opened is None else [opened]
            case "send":
                data = self.rng.randbytes(size)
                taken = side.send(stream, data)
                assert 0 <= taken <= size
                said.sent[stream] += data[:taken]
            case "finish":
                side.finish(stream)
                said.finished.add(stream)
                if stream in (self.opened if at_client else side.received):
                    said.finished_known.add(stream)
            case "reset":
                side.reset(stream, size)
                said.reset[stream].add(size)
            case "stop":
                side.stop(stream, size)
                said.stopped[stream].add(size)
            case "consumed":
                side.consume(stream, size)
            case "ping":
                side.engine.ping(side.connection)
            case "run":
                self.pair.run(0.001 + size / 100_000)
        self.check()

    def check(self) -> None:
        for at_client, side in self.sides.items():
            peer = self.said[not at_client]
            for stream, received in side.received.items():
                assert peer.sent[stream].startswith(received)
            for stream in side.ended:
                assert stream in peer.finished
                assert side.received.get(stream, b"") == peer.sent[stream]
            for stream, code in side.resets.items():
                assert code in peer.reset[stream]
            for stream, code in side.stopped.items():
                assert code in peer.stopped[stream]
            assert side.closed is None

    def settle(self) -> None:
        """Everybody reads everything, until nothing more can come."""
        for side in self.sides.values():
            side.reading = True
        for _ in range(10):
            for side in self.sides.values():
                side.engine.ping(side.connection)
                for stream in self.opened:
                    side.consume(stream, 10**6)
            self.pair.run(3)
        self.check()
        for at_client, side in self.sides.items():
            said, peer = self.said[at_client], self.said[not at_client]
            for stream in self.opened:
                if peer.reset[stream] or said.stopped[stream]:
                    continue
                assert side.received.get(stream, b"") == peer.sent[stream], "it was taken, and never came"
                assert stream in side.ended or stream not in peer.finished_known

    def end(self, by_client: bool) -> None:
        side = self.sides[by_client]
        side.close(0, "")
        self.pair.run(40)
        for one in self.sides.values():
            assert one.closed is not None
            assert_empty(one.engine)


def play(make: MakeRealPair, path: str, seed: int, steps: Iterable[Step]) -> None:
    pair = make(LIMITS, seed=seed).connect()
    pair.world.network.link = LINKS[path]
    game = Play(pair, seed)
    for step in steps:
        game.call(*step)
    game.settle()
    game.end(by_client=seed % 2 == 0)


@pytest.mark.failure("F08")
@pytest.mark.failure("F21")
@pytest.mark.parametrize("pairing", PAIRINGS)
@settings(max_examples=25)
@given(path=st.sampled_from(sorted(LINKS)), seed=st.integers(0, 1000), steps=steps_of_a_game)
def test_never_an_exception_and_both_sides_agree(
    certificates: Certificates, pairing: str, path: str, seed: int, steps: list[Step]
) -> None:
    play(MakeRealPair.of(certificates, pairing), path, seed, steps)


def random_steps(rng: Random, count: int) -> Iterator[Step]:
    for _ in range(count):
        yield rng.random() < 0.5, rng.choice(CALLS), rng.randrange(8), rng.choice(SIZES)


@pytest.mark.failure("F20")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pairing", PAIRINGS)
def test_long_games_too(certificates: Certificates, pairing: str, seed: int) -> None:
    play(MakeRealPair.of(certificates, pairing), "bad" if seed % 2 else "clean", seed, random_steps(Random(seed), 600))
