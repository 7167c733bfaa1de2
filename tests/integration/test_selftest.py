"""The tester is tested, as an operator would: the whole matrix, with the real programs."""

import asyncio
import json
from pathlib import Path

import pytest

from loadgen.selftest.cases import NAMES
from loadgen.stacks.process import find_program


@pytest.mark.timeout(180)
async def test_every_failure_is_reported_as_what_it_is(tmp_path: Path) -> None:
    """12 classes of failure and 5 controls, concurrently; about 30 s."""
    matrix = tmp_path / "matrix.json"
    process = await asyncio.create_subprocess_exec(
        find_program("loadgen"),
        *("selftest", "--json", str(matrix)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    shown, _ = await process.communicate()
    assert process.returncode == 0, shown.decode()
    found = json.loads(matrix.read_text())
    assert found["classes"] == {"planted": 12, "detected": 12}
    assert found["controls"] == {"run": 5, "false_alarms": 0}
    assert {row["name"] for row in found["matrix"]} == set(NAMES)
