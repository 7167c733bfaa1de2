"""Rows of the recovery table that need nothing but the stack: each once, within its bounds.

acceptance/recovery.py has all of them.
"""

from typing import Any

import pytest
from breaking import ROWS, Row
from lab import Lab
from recovery import faults_of, measure
from tests.pairings import Pairing

Containers = Any  # conftest.Containers: a conftest cannot be imported

QUICK = {
    "proxy-server is killed and started again",
    "proxy-server restarts in its place (SIGTERM)",
    "the network swallows everything for 1 s",
    "the client's address changes in the middle of a transfer",
    "the target is killed",
    "proxy-client restarts (SIGTERM)",
}
ENGINES = [Pairing("aioquic", "aioquic"), Pairing("quinn", "quinn")]


@pytest.mark.parametrize("pairing", ENGINES, indirect=True, ids=str, scope="session")
@pytest.mark.parametrize("row", [row for row in ROWS if row.what in QUICK], ids=lambda row: row.what.replace(" ", "-"))
def test_recovery(containers: Containers, row: Row) -> None:
    seen = containers._run(measure(row, Lab(containers.stack)))
    assert faults_of(row, seen) == [], seen


def test_every_row_that_is_meant_is_there() -> None:
    assert {row.what for row in ROWS} >= QUICK
