"""A soak with faults from its command line to its report: what a plan breaks is excused, and nothing else has to be."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.pairings import Pairing, every_pairing

from loadgen.stacks.process import find_program

PLAN = """
recovery_s = 4

[[fault]]
kind = "blackhole"
at_s = 1
for_s = 1

[[fault]]
kind = "pause"
program = "proxy-server"
at_s = 3
for_s = 1

[[fault]]
kind = "kill"
program = "proxy-server"
at_s = 5
for_s = 0.5
"""
DURATION = "16s"
"""Some quiet time is left behind the last recovery."""


@every_pairing
@pytest.mark.timeout(120)
async def test_a_soak_with_a_link_a_pause_and_a_kill_passes(tmp_path: Path, pairing: Pairing) -> None:
    plan, report = tmp_path / "plan.toml", tmp_path / "report"
    plan.write_text(PLAN)
    process = await asyncio.create_subprocess_exec(
        find_program("loadgen"),
        *("soak", "--stack", "local", "--mix", "small", "--duration", DURATION, "--seed", "1"),
        *("--engine", f"client={pairing.client},server={pairing.server}"),
        *("--faults", str(plan), "--report", str(report), "--metrics-listen", "127.0.0.1:0"),
        env={name: value for name, value in os.environ.items() if not name.startswith("LOADGEN_")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    shown, _ = await process.communicate()
    assert process.returncode == 0, shown.decode()

    found: dict[str, Any] = json.loads((report / "verdict.json").read_text())
    assert (found["verdict"], found["reasons"]) == ("pass", [])
    assert found["run"]["engine"] == pairing._asdict()
    assert [(fault["kind"], fault["error"]) for fault in found["faults"]] == [
        ("blackhole", None), ("pause", None), ("kill", None),
    ]  # fmt: skip
    for fault, planned_s in zip(found["faults"], (1, 1, 0.5), strict=True):
        assert fault["to_s"] - fault["from_s"] >= planned_s - 0.1
    windows = found["windows"]
    assert {name for name, count in windows["quiet"]["outcomes"].items() if count} == {"ok"}
    assert all(window["completed"] for window in windows.values())
    assert found["drain"]["pending"] == []
    assert found["drain"]["complete"]

    assert "</html>" in (report / "report.html").read_text()
    suite = ElementTree.parse(report / "junit.xml").getroot()
    assert list(suite.iter("testcase"))
    assert not list(suite.iter("failure"))
