"""What happens when something breaks, and how soon it is over: the README's table, measured in containers.

python acceptance/recovery.py [--engine NAME]... [--row WORDS]...      (default: aioquic and quinn, side by side)

Recovery is the time from the end of a fault until a new request, made after that end, is served; where the old state
does not come back (a drained server, a changed address), from the fault itself. Before the fault a transfer is under
way, and during it requests are made all the time: each of them ends as its row says, within its bound. None hangs.
"""

import argparse
import asyncio
import sys
import traceback
from collections import Counter
from dataclasses import dataclass
from statistics import median

from application import SERVED, Asked, ask, path_of
from breaking import ROWS, Row
from lab import PROXIES, Lab, recovery_lab

from servicekit import logs

ENGINES = ("aioquic", "quinn")
DURING_S = 0.5
AFTER_S = 0.1
"""Between two requests, during the fault and after it."""
GRACE_S = 30.0
"""How long is waited beyond a bound, to say by how much it was missed."""
LOG_LINES = 10
"""Of each proxy, where a row is not held."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One repetition."""

    recovery_s: float
    transfer: Asked
    meanwhile: tuple[Asked, ...]
    began_s: float

    @property
    def transfer_s(self) -> float:
        """From the fault to the transfer's end."""
        return self.transfer.ended_s - self.began_s

    @property
    def slowest_s(self) -> float:
        return max((asked.took_s for asked in self.meanwhile), default=0.0)


# Measuring.


async def measure(row: Row, lab: Lab) -> Seen:
    """One repetition, from a stack that works to one that works again."""
    await lab.settled()
    target = lab.target_address if row.by_address else lab.target
    started, proxy = asyncio.Event(), await lab.proxy()
    within_s = row.transfer_s + GRACE_S
    lab.transfer = asyncio.create_task(ask(proxy, target, path_of(0, row.transfer_s), within_s, started))
    async with asyncio.timeout(10):
        await started.wait()
    async with asyncio.TaskGroup() as tasks:
        lab.ended.clear()
        lab.began_s = lab.ended_s = float("inf")
        asking = tasks.create_task(keep_asking(row, lab))
        await row.fault(lab)
        requests = await asking
    recovered = [asked for asked in requests if asked.at_s >= lab.ended_s and asked.ending == SERVED]
    recovery_s = min((asked.ended_s for asked in recovered), default=float("inf")) - lab.ended_s
    meanwhile = tuple(asked for asked in requests if asked.at_s >= lab.began_s and asked not in recovered)
    transfer = await lab.transfer
    return Seen(recovery_s, transfer, meanwhile, lab.began_s)


async def keep_asking(row: Row, lab: Lab) -> list[Asked]:
    """Requests, one after the other without waiting for any, until one that was made after the fault is served."""
    target = lab.target_address if row.by_address else lab.target
    asked: list[asyncio.Task[Asked]] = []
    recovered = asyncio.Event()

    def look(task: "asyncio.Task[Asked]") -> None:
        if not task.cancelled() and task.result().ending == SERVED and task.result().at_s >= lab.ended_s:
            recovered.set()

    deadline_s = asyncio.get_running_loop().time() + row.transfer_s + row.recovery_s + GRACE_S
    while not recovered.is_set() and asyncio.get_running_loop().time() < deadline_s:
        asked.append(asyncio.create_task(lab.ask(row.answer_s + GRACE_S, target)))
        asked[-1].add_done_callback(look)
        waiting = recovered.wait() if lab.ended.is_set() else lab.ended.wait()
        try:
            async with asyncio.timeout(AFTER_S if lab.ended.is_set() else DURING_S):
                await waiting
        except TimeoutError:
            continue
    return list(await asyncio.gather(*asked))


# Judging.


def faults_of(row: Row, seen: Seen) -> list[str]:
    """What is not as the row says."""
    wrong = []
    if seen.recovery_s > row.recovery_s:
        wrong.append(f"recovery took {seen.recovery_s:.1f} s")
    if seen.transfer.ending not in row.under_way:
        wrong.append(f"the transfer under way: {seen.transfer.ending} after {seen.transfer_s:.1f} s")
    elif seen.transfer.ending != SERVED and seen.transfer_s > row.under_way_s:
        wrong.append(f"the transfer under way ended after {seen.transfer_s:.1f} s")
    unexpected = Counter(asked.ending for asked in seen.meanwhile if asked.ending not in row.meanwhile)
    wrong += [f"{count} requests meanwhile: {ending}" for ending, count in unexpected.items()]
    if seen.slowest_s > row.answer_s:
        wrong.append(f"a request meanwhile took {seen.slowest_s:.1f} s")
    return wrong


@dataclass(frozen=True, slots=True)
class Result:
    """A row, on one engine."""

    engine: str
    row: Row
    seen: tuple[Seen, ...]
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        row, times = self.row, [seen.recovery_s for seen in self.seen]
        if not times:
            return f"FAIL {self.engine:8} {row.what}: {'; '.join(self.wrong)}"
        transfers = ", ".join(sorted({seen.transfer.ending for seen in self.seen}))
        heard = Counter(asked.ending for seen in self.seen for asked in seen.meanwhile)
        requests = ", ".join(f"{count} {ending}" for ending, count in heard.most_common())
        slowest_s = max(seen.slowest_s for seen in self.seen)
        ended_s = max(seen.transfer_s for seen in self.seen)
        took = f"recovery median {median(times):.1f} s, max {max(times):.1f} s of {len(times)}"
        return (
            f"{'FAIL' if self.wrong else 'ok  '} {self.engine:8} {row.what}: {took} (bound {row.recovery_s:g});"
            f" under way: {transfers} after at most {ended_s:.1f} s;"
            f" meanwhile: {requests}, slowest {slowest_s:.1f} s (bound {row.answer_s:g})"
            + "".join(f"\n       {line}" for line in self.wrong)
        )


async def run(engine: str, rows: list[Row]) -> list[Result]:
    results = []
    async with recovery_lab(engine) as lab:
        for row in rows:
            results.append(await hold(engine, row, lab))
            print(results[-1], flush=True)
    return results


async def hold(engine: str, row: Row, lab: Lab) -> Result:
    seen: list[Seen] = []
    wrong: list[str] = []
    while len(seen) < row.repetitions and not wrong:
        try:
            seen.append(await measure(row, lab))
            wrong += faults_of(row, seen[-1])
        except Exception:
            wrong.append(f"it could not be measured: {traceback.format_exc()}")
        for program in PROXIES if wrong else ():
            wrong += [f"{program}: {line}" for line in (await lab.log(program))[-LOG_LINES:]]
    return Result(engine, row, tuple(seen), tuple(wrong))


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--row", action="append", help="rows with these words in their name")
    asked = parser.parse_args()
    rows = [row for row in ROWS if not asked.row or any(words in row.what for words in asked.row)]
    logs.configure("text", "warning", "acceptance")
    runs = await asyncio.gather(*(run(engine, rows) for engine in asked.engine or ENGINES))
    results = [result for results in runs for result in results]
    failed = [result for result in results if result.wrong]
    held = f"{len(results) - len(failed)} of {len(results)} rows are held within their bounds"
    print(f"{'FAIL' if failed else 'ok  '} {held}")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
