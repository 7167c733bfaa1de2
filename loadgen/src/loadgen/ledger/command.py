"""`loadgen ledger`: received, forwarded, confirmed and rescued at each hop, and the hop that lost an end.

    loadgen ledger --metrics-of proxy-client=http://127.0.0.1:9101/metrics --metrics-of proxy-server=…
    loadgen ledger --prometheus http://127.0.0.1:9090 --over 10m

An imbalance is there in every look within `--settle`; a ledger that balances says so at once.

Exit codes: 0 balanced, 1 an imbalance, 3 nothing to judge (nobody answers, or all have been restarted), 2 usage.
"""

import asyncio
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Awaitable, Callable, Sequence

from loadgen.ledger.books import Books, Imbalance
from loadgen.ledger.reading import ReadError, of_programs, of_prometheus
from loadgen.ledger.table import show
from loadgen.soak.console import console
from loadgen.soak.settings import seconds

EXIT_BALANCED, EXIT_IMBALANCE, EXIT_USAGE, EXIT_INCONCLUSIVE = 0, 1, 2, 3
SETTLE_S = 5.0
_LOOK_EVERY_S = 0.5

Read = Callable[[], Awaitable[Books]]
Place = tuple[str, str]
"""direction, hop: where an imbalance is."""


def main(argv: Sequence[str]) -> int:
    """Runs `loadgen ledger`; returns the exit code."""
    arguments = _parser().parse_args(list(argv))
    if bool(arguments.metrics_of) == bool(arguments.prometheus):
        return _refuse("either --metrics-of, once a program, or --prometheus")
    if arguments.over is not None and not arguments.prometheus:
        return _refuse("--over needs --prometheus: a program only knows what it counted since it began")

    async def read() -> Books:
        if arguments.prometheus:
            return await asyncio.to_thread(of_prometheus, arguments.prometheus, arguments.over)
        return await of_programs(dict(arguments.metrics_of))

    try:
        books, found = asyncio.run(settled(read, arguments.settle))
    except ReadError as error:
        print(f"loadgen ledger: {error}", file=sys.stderr)
        return EXIT_INCONCLUSIVE
    show(books, found, console())
    if not books.judged or books.silent:
        return EXIT_INCONCLUSIVE
    return EXIT_IMBALANCE if found else EXIT_BALANCED


async def settled(read: Read, settle_s: float) -> tuple[Books, tuple[Imbalance, ...]]:
    """The last books, and their imbalances: those of the hops that every look has named, as far as there are any."""
    deadline = time.monotonic() + settle_s
    lasting: set[Place] | None = None
    while True:
        books = await read()
        found = books.imbalances()
        named = {_place(one) for one in found}
        lasting = named if lasting is None else lasting & named
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not found:
            return books, tuple(one for one in found if not lasting or _place(one) in lasting)
        await asyncio.sleep(min(_LOOK_EVERY_S, left_s))


def _place(imbalance: Imbalance) -> Place:
    return imbalance.direction, imbalance.hop


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="loadgen ledger",
        description="The FIN ledger: which hop lost an end of stream. Exit code 0 where it balances, 1 where it does"
        " not, 3 where there is nothing to judge.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--metrics-of", type=_pair, action="append", metavar="PROGRAM=URL", help="a program's /metrics; once a program"
    )
    parser.add_argument("--prometheus", metavar="URL", help="ask the Prometheus that watches the programs")
    parser.add_argument("--over", type=_seconds, metavar="TIME", help="of a Prometheus: over the last 10m, 1h, …")
    parser.add_argument(
        "--settle",
        type=_seconds,
        default=SETTLE_S,
        metavar="TIME",
        help=f"so long an imbalance must last to be one (default: {SETTLE_S:g} s)",
    )
    return parser


def _pair(text: str) -> tuple[str, str]:
    program, equals, url = text.partition("=")
    if not (program and equals and url.startswith(("http://", "https://"))):
        raise ArgumentTypeError(f"{text!r} is not valid: must be PROGRAM=URL")
    return program, url


def _seconds(text: str) -> float:
    try:
        return float(seconds(text))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not valid: {error}") from None


def _refuse(reason: str) -> int:
    print(f"loadgen ledger: {reason}", file=sys.stderr)
    return EXIT_USAGE
