"""`loadgen selftest`: the command line of the self test.

Exit codes: 0 where everything was reported as what it is; 1 for any miss, and where the programs do not start; 3 where
every miss may be this machine's, which is too busy; 2 usage, and where the programs are not installed.
"""

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Collection, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

from loadgen.faulty.command import listener_names
from loadgen.selftest import controls, matrix, single
from loadgen.selftest.bench import programs
from loadgen.selftest.cases import CONTROLS, FAULTS, LOSS, NAMES, SATURATED
from loadgen.selftest.matrix import Row
from loadgen.stack_api import StackError
from loadgen.stacks.local import local_stack
from loadgen.stacks.process import find_program
from loadgen.transaction import real_client
from servicekit import logs
from servicekit.run import Stop, run

EXIT_MISS, EXIT_USAGE = 1, 2
APART_S = 0.05
"""Between the starts of two transactions, so that this program does not hold itself up."""


def main(argv: Sequence[str]) -> int:
    """Runs `loadgen selftest`; returns the exit code."""
    asked = _asked(argv)
    names = asked.only or NAMES
    try:
        for program in ("loadgen", "http-target", *(("proxy-server", "proxy-client") if LOSS in names else ())):
            find_program(program)
    except StackError as error:
        print(f"loadgen selftest: {error}", file=sys.stderr)
        print("It needs the other programs beside it: run it from a checkout, after `make setup`.", file=sys.stderr)
        return EXIT_USAGE
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
    return matrix.finding(rows).exit_code


async def _rows(names: Collection[str]) -> list[Row]:
    """Runs what was asked for. Raises StackError."""
    singles = [(case, scenario) for case in (*FAULTS, *CONTROLS) if case.name in names for scenario in case.scenarios]
    faults = ["none", *(case.planted for case, _ in singles)]
    fine, *listeners = listener_names(faults)
    real_client.warm_up()
    async with AsyncExitStack() as exits:
        bench = await exits.enter_async_context(programs(faults))
        stack = await exits.enter_async_context(local_stack(controls.LOSSY)) if LOSS in names else None
        async with asyncio.TaskGroup() as tasks:
            running = []
            lossy = [tasks.create_task(row_of(controls.loss(stack, bench), LOSS))] if stack else []
            for seed, ((case, scenario), listener) in enumerate(zip(singles, listeners, strict=True)):
                work = single.run(case, scenario, seed, bench, listener)
                running.append(tasks.create_task(row_of(work, case.name, scenario, case.is_control)))
                await asyncio.sleep(APART_S)
        rows = [task.result() for task in (*running, *lossy)]
        if SATURATED in names:
            rows.append(await row_of(controls.saturated(bench, fine), SATURATED))
    return rows


async def row_of(work: Awaitable[Row], name: str, scenario: str = "", is_control: bool = True) -> Row:
    """What comes of a row: a miss, where that is an exception."""
    try:
        return await work
    except Exception as error:
        why = f"it could not be run: {type(error).__name__}: {error}"
        return Row(name, scenario, is_control, "", "nothing", None, (why,))
