"""docs/BENCHMARKS.md."""

from pathlib import Path

from bench.results import Run


def write_document(run: Run, docs: Path) -> None: ...
