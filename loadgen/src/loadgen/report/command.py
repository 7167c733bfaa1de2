"""`loadgen report DIR`: renders `report.html` and `junit.xml` of a report directory again."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from loadgen.report import html, junit
from loadgen.report.files import ReportError

EXIT_USAGE = 2


def main(argv: Sequence[str]) -> int:
    """Runs `loadgen report`; returns the exit code: 0, or 2 where there is nothing to render."""
    parser = ArgumentParser(
        prog="loadgen report", description="Renders report.html and junit.xml of a report directory again."
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="a directory with a verdict.json in it")
    directory = parser.parse_args(list(argv)).directory
    try:
        for path in render(directory):
            print(path)
    except (ReportError, OSError) as error:
        print(f"loadgen report: {error}", file=sys.stderr)
        return EXIT_USAGE
    return 0


def render(directory: Path) -> tuple[Path, Path]:
    """Writes both files and returns their paths. Raises ReportError, OSError."""
    return html.write(directory), junit.write(directory)
