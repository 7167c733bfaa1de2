"""`loadgen selftest`: the command line of the self test.

Exit codes: 0 where everything was reported as what it is; 1 for any miss, and where the programs do not start; 2 usage.
"""

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

from loadgen.selftest import controls, matrix, single
from loadgen.selftest.bench import programs
from loadgen.selftest.cases import CONTROLS, FAULTS, LOSS, NAMES, SATURATED
from loadgen.selftest.matrix import Row
from loadgen.stack_api import StackError
from loadgen.stacks.local import local_stack
from loadgen.transaction import real_client
from servicekit import logs
from servicekit.run import Stop, run

EXIT_MISS = 1
APART_S = 0.05
"""Between the starts of two transactions, so that this program does not hold itself up."""


def main(argv: Sequence[str]) -> int:
    """Runs `loadgen selftest`; returns the exit code."""
    asked = _asked(argv)
    logs.configure("text", "error", "loadgen")
    return run(lambda stop: _selftest(asked, stop))


def _asked(argv: Sequence[str]) -> Namespace:
    parser = ArgumentParser(
        prog="loadgen selftest",
        description="Plants each class of failure, and checks that it is reported as exactly that:"
        " the outcome, the phase, within the stall limit and a second. Then what is no failure, and must not be one.",
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", choices=NAMES, help=f"repeatable: {', '.join(NAMES)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the matrix as JSON, too")
    return parser.parse_args(list(argv))


async def _selftest(asked: Namespace, stop: Stop) -> int:
    began_s = monotonic()
    working = asyncio.create_task(_rows(asked.only or NAMES))
    interrupted = asyncio.create_task(stop.draining.wait())
    await asyncio.wait({working, interrupted}, return_when=asyncio.FIRST_COMPLETED)
    interrupted.cancel()
    working.cancel()
    try:
        rows = await working
    except asyncio.CancelledError:
        return EXIT_MISS
    except StackError as error:
        print(f"loadgen selftest: {error}", file=sys.stderr)
        return EXIT_MISS
    return report(rows, monotonic() - began_s, asked.json)


def report(rows: Sequence[Row], seconds: float, json: Path | None) -> int:
    """Prints the matrix, writes it where it was asked for, and returns the exit code."""
    result = matrix.document(rows, seconds)
    matrix.show(rows, result)
    if json is not None:
        matrix.write(json, result)
    return 0 if result["ok"] else EXIT_MISS


async def _rows(names: Collection[str]) -> list[Row]:
    """Runs what was asked for. Raises StackError."""
    cases = [case for case in (*FAULTS, *CONTROLS) if case.name in names]
    faults = sorted({"none", *(case.planted for case in cases)})
    real_client.warm_up()
    async with AsyncExitStack() as exits:
        bench = await exits.enter_async_context(programs(faults))
        stack = await exits.enter_async_context(local_stack(controls.LOSSY)) if LOSS in names else None
        async with asyncio.TaskGroup() as tasks:
            lossy = tasks.create_task(controls.loss(stack, bench)) if stack else None
            singles: list[asyncio.Task[Row]] = []
            for case in cases:
                for scenario in case.scenarios:
                    singles.append(tasks.create_task(single.run(case, scenario, len(singles), bench)))
                    await asyncio.sleep(APART_S)
        rows = [task.result() for task in singles]
        if lossy:
            rows.append(lossy.result())
        if SATURATED in names:
            rows.append(await controls.saturated(bench))
    return rows
