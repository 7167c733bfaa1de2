"""`make sim`: seeds of the simulation by the thousand or by the million, on all processors.

Rules:
- Nothing is kept of a seed that holds. One that fails is told at once, with its plan and the command that replays it.
- All pairings of engines advance together, so that a run that is broken off has tried each of them.
- A seed that takes longer than `LIMIT_S` has failed: virtual time is bounded, a loop in the code is not.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from tests.pairings import REQUIRE
from tests.sim.engines import make_certificate
from tests.sim.seeds import MODEL, REAL, SHARE, plan_of, play

from tunnel.engine.settings import ServerTls

SEEDS = 2000
CHUNK = 100
"""Seeds of the model's in one piece of work; of the real engines' a tenth."""
LIMIT_S = 60
REPORT_S = 5.0

Chunk = tuple[str, range]


def main(arguments: list[str]) -> int:
    """0: all held, 1: some did not, 2: it cannot be done like that."""
    parser = argparse.ArgumentParser(prog="make sim")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="so many on the model engine, a tenth on each other")
    parser.add_argument("--seed", type=int, help="this one alone, with its plan")
    parser.add_argument("--engines", default=",".join((MODEL, *REAL)), help="pairings, with commas between them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    pairings = asked.engines.split(",")
    if unknown := set(pairings) - {MODEL, *REAL}:
        parser.error(f"there is no pairing {', '.join(sorted(unknown))}; there are {', '.join((MODEL, *REAL))}")
    if find_spec("quinn_engine") is None:
        if os.environ.get(REQUIRE) == "1":
            parser.error(f"the wheel of the native engine is missing ({REQUIRE}=1)")
        pairings = [pairing for pairing in pairings if "quinn" not in pairing]
        print("without quinn: its wheel is missing; `make native` builds and installs it")
    with tempfile.TemporaryDirectory(prefix="finback-") as directory:
        server_tls = make_certificate(Path(directory))
        if asked.seed is not None:
            return show(asked.seed, pairings, server_tls)
        return play_all(list(chunks(asked.seeds, pairings)), asked.jobs, server_tls)


def show(seed: int, pairings: list[str], server_tls: ServerTls) -> int:
    failed = False
    for pairing in pairings:
        print(f"{pairing}, seed {seed}: {plan_of(pairing, seed)}")
        told = play_chunk((pairing, range(seed, seed + 1)), server_tls)
        print("\n".join(told) or "all holds")
        failed |= bool(told)
    return int(failed)


def chunks(seeds: int, pairings: list[str]) -> Iterator[Chunk]:
    """All there is to do. Pieces of each pairing are spread over the whole run."""
    for first in range(0, seeds, CHUNK):
        last = min(first + CHUNK, seeds)
        for pairing in pairings:
            yield pairing, range(first, last) if pairing == MODEL else range(first // SHARE, -(-last // SHARE))


def play_chunk(chunk: Chunk, server_tls: ServerTls) -> list[str]:
    """What failed, in words."""
    pairing, seeds = chunk
    told = []
    before = signal.signal(signal.SIGALRM, _give_up)
    for seed in seeds:
        signal.alarm(LIMIT_S)
        try:
            play(pairing, seed, server_tls)
        except Exception as error:
            told.append(f"FAILED {pairing}, seed {seed}\n{''.join(traceback.format_exception(error))}")
        finally:
            signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    return told


def _give_up(number: int, frame: object) -> None:
    raise TimeoutError(f"the seed is not over after {LIMIT_S} s of real time")


def play_all(work: list[Chunk], jobs: int, server_tls: ServerTls) -> int:
    progress = Progress(sum(len(seeds) for _, seeds in work))
    if jobs == 1:
        for chunk in work:
            progress.note(chunk, play_chunk(chunk, server_tls))
        return progress.over()
    waiting = iter(work)
    under_way: dict[Future[list[str]], Chunk] = {}
    with ProcessPoolExecutor(jobs) as pool:
        try:
            while True:
                for chunk in islice(waiting, 2 * jobs - len(under_way)):
                    under_way[pool.submit(play_chunk, chunk, server_tls)] = chunk
                if not under_way:
                    return progress.over()
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    progress.note(under_way[future], future.result())
                    del under_way[future]
        except BrokenProcessPool:
            progress.failed += 1
            print(f"FAILED: a process died while it played one of {list(under_way.values())}")
        except KeyboardInterrupt:
            print("broken off")
            pool.shutdown(wait=False, cancel_futures=True)
    return progress.over() or 130


class Progress:
    """What is done, on standard output."""

    def __init__(self, seeds: int) -> None:
        self.failed = 0
        self._seeds = seeds
        self._done = 0
        self._started_at = self._told_at = time.monotonic()

    def note(self, chunk: Chunk, told: list[str]) -> None:
        self.failed += len(told)
        self._done += len(chunk[1])
        for failure in told:
            print(failure, flush=True)
        now = time.monotonic()
        if now - self._told_at >= REPORT_S:
            self._told_at = now
            left_s = (now - self._started_at) / self._done * (self._seeds - self._done)
            print(f"{self._done:,} of {self._seeds:,} runs, {self.failed} failed, {_words(left_s)} left", flush=True)

    def over(self) -> int:
        took_s = time.monotonic() - self._started_at
        print(f"{self._done:,} of {self._seeds:,} runs in {_words(took_s)}: {self.failed or 'none'} failed")
        return int(self.failed > 0)


def _words(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600} h {whole // 60 % 60} min" if whole >= 3600 else f"{whole // 60} min {whole % 60} s"


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # aioquic's lines about packets that the network has damaged.
    sys.exit(main(sys.argv[1:]))
