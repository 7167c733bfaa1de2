"""`make test-failures`: the rows of docs/FAILURES.md, the tests that prove each of them, and a run of exactly those.

With `--collect-only` the map is made and looked at, and nothing runs.

Rules:
- A row stands only in docs/FAILURES.md; a test says which rows it proves with `@pytest.mark.failure("F03")`.
- A row needs tests in simulation or against the real programs, named after it (`test_f03_...`), on both engines: tests
  of parts alone prove parts, and one that is named after something else may come to prove something else.
- Nothing may be skipped: what did not run proves nothing.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "FAILURES.md"
ROW = re.compile(r"^\| (F\d\d) \| ([^|]+) \|", re.MULTILINE)
ENGINES = frozenset({"aioquic", "quinn"})

PLACES = {"sim": "simulation", "integration": "real programs", "e2e": "real programs, in containers", "unit": "unit"}
"""Folders of `tests`, in the order of the map."""
PARTS = "unit"
RUNS = (
    ("tests/unit", "tests/sim", "-n", "auto"),
    ("tests/integration", "tests/e2e", "-n", "auto", "--dist", "worksteal"),
)
"""As in `make test`: what is on real sockets comes by itself."""


@dataclass
class Proof:
    """One test function, whatever its parameters are."""

    place: str
    file: str
    name: str
    engines: set[str] = field(default_factory=set)
    rows: set[str] = field(default_factory=set)
    cases: int = 0

    def __str__(self) -> str:
        cases = f", {self.cases} cases" if self.cases > 1 else ""
        return f"{self.name} ({self.file}; {', '.join(sorted(self.engines)) or 'any engine'}{cases})"


def rows() -> dict[str, str]:
    """Id and name of each row of the catalogue."""
    return dict(ROW.findall(PAGE.read_text()))


def faults(catalogue: dict[str, str], proofs: list[Proof]) -> Iterator[str]:
    """What the map lacks."""
    for proof in proofs:
        for row in sorted(proof.rows - catalogue.keys()):
            yield f"{proof.file}: {proof.name} is for {row}, which is no row of {PAGE.name}"
    for row in catalogue:
        whole = [proof for proof in proofs if row in proof.rows and proof.place != PARTS]
        named = [proof for proof in whole if f"_{row.lower()}_" in f"{proof.name}_"]
        if not whole:
            yield f"{row} has no test in simulation or against the real programs"
        elif not named:
            yield f"{row} has no test that is named after it"
        elif missing := ENGINES.difference(*(proof.engines for proof in named)):
            yield f"{row} has no test that is named after it on {' and '.join(sorted(missing))}"


def lines(catalogue: dict[str, str], proofs: list[Proof]) -> Iterator[str]:
    """The map."""
    for row, name in catalogue.items():
        yield f"{row}  {name}"
        for folder, place in PLACES.items():
            found = sorted((proof for proof in proofs if row in proof.rows and proof.place == folder), key=str)
            yield from (f"     {place}: {proof}" for proof in found)


class Collector:
    """A plugin of pytest: what is marked."""

    def __init__(self) -> None:
        self.proofs: dict[str, Proof] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self._note(item)

    def _note(self, item: pytest.Item) -> None:
        marked = {str(mark.args[0]) for mark in item.iter_markers("failure")}
        if marked:
            folders = item.path.relative_to(ROOT).parts
            name = item.nodeid.split("[")[0]
            test = getattr(item, "originalname", None) or item.name
            proof = self.proofs.setdefault(name, Proof(folders[1], "/".join(folders), test))
            proof.rows |= marked
            proof.engines |= engines_of(item)
            proof.cases += 1


def engines_of(item: pytest.Item) -> set[str]:
    """The engines of its parameters (`aioquic to quinn`, Pairing("aioquic", "quinn")), or else of its folder."""
    call = getattr(item, "callspec", None)
    words = {word for value in (call.params.values() if call else ()) for word in re.split(r"[ -]", str(value))}
    return words & (ENGINES | {"model"}) or set(ENGINES.intersection(item.path.parts))


class Watcher:
    """A plugin of pytest: what did not run, and how many did."""

    def __init__(self) -> None:
        self.passed = 0
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed
        if report.skipped:
            self.skipped.append(f"{report.nodeid} was skipped")


def main(arguments: list[str]) -> int:
    collector, watcher = Collector(), Watcher()
    with redirect_stdout(StringIO()) as said:
        code = pytest.main(["--collect-only", "-q", "-m", "failure", "tests"], [collector])
    if code:
        print(said.getvalue())
        return int(code)
    catalogue, proofs = rows(), list(collector.proofs.values())
    print("\n".join(lines(catalogue, proofs)), flush=True)
    found = list(faults(catalogue, proofs))
    if "--collect-only" in arguments:
        print("\n".join(found) or f"{len(catalogue)} rows: each has its proofs")
        return 1 if found else 0
    for where in RUNS:
        code = pytest.main(["-q", "-m", "failure", *where, *arguments], [watcher])
        if code not in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
            found.append(f"tests failed: {' '.join(where)}")
    found += watcher.skipped
    print("\n".join(found) or f"{len(catalogue)} rows, {len(proofs)} tests, {watcher.passed} cases: all passed")
    return 1 if found else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
