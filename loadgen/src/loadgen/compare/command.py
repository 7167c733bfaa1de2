"""`loadgen compare A B`: the baseline A and the candidate B side by side, with a verdict.

Each of the two is a report directory, a verdict.json, or a directory with the report directories of repeated runs. They
are made one after the other, best in turns, so that what else the machine does meets both:

    for n in 1 2 3; do
        git checkout main   && loadgen soak --seed $n --report reports/before/$n
        git checkout change && loadgen soak --seed $n --report reports/after/$n
    done
    loadgen compare reports/before reports/after

Exit codes: 0 pass, 1 fail, 3 inconclusive, 2 usage: also where there is no report, or one that cannot be read.
"""

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path

from loadgen.compare.judgement import TOLERANCE, compare
from loadgen.compare.reading import ReadError, read
from loadgen.compare.table import document, show
from loadgen.soak.console import console

EXIT_USAGE = 2


def main(argv: Sequence[str]) -> int:
    """Runs `loadgen compare`; returns the exit code."""
    arguments = _parser().parse_args(list(argv))
    try:
        comparison = compare(read(arguments.baseline), read(arguments.candidate), arguments.tolerance)
    except ReadError as error:
        return _refuse(str(error))
    if arguments.json is not None:
        try:
            arguments.json.write_text(json.dumps(document(comparison), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            return _refuse(f"--json: cannot write {arguments.json}: {error.strerror}")
    show(comparison, console())
    return comparison.verdict.exit_code


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="loadgen compare",
        description="Compares a candidate (B) with a baseline (A): medians and ranges over repeated runs, their ratios,"
        " and a verdict. Exit code 0 for pass, 1 for fail, 3 where the two cannot be compared.",
        allow_abbrev=False,
    )
    what = "a report directory, a verdict.json, or a directory of the report directories of repeated runs"
    parser.add_argument("baseline", metavar="A", type=Path, help=f"the baseline: {what}")
    parser.add_argument("candidate", metavar="B", type=Path, help="the candidate: likewise")
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        default=TOLERANCE,
        metavar="RATIO",
        help=f"B is worse from this ratio B/A on, of at least 1 (default: {TOLERANCE:g})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the comparison as JSON")
    return parser


def _tolerance(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = 0.0
    if not 1 <= ratio <= 1000:
        raise ArgumentTypeError(f"{text!r} is not valid: must be a ratio from 1 to 1000")
    return ratio


def _refuse(reason: str) -> int:
    print(f"loadgen compare: {reason}", file=sys.stderr)
    return EXIT_USAGE
