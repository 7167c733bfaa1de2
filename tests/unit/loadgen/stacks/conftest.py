"""Stand-ins for the programs, and the record of what became of them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadgen.stacks import local, process

FAKE = Path(__file__).with_name("fake_program.py")


class Record:
    """Starts and ends of fake programs, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[tuple[str, str, list[str]]]:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        return [(what, name, flags) for what, name, flags in map(json.loads, lines)]

    def order(self) -> list[str]:
        return [f"{what} {name}" for what, name, _ in self.lines()]

    def flags(self, program: str) -> list[str]:
        (flags,) = [flags for what, name, flags in self.lines() if (what, name) == ("start", program)]
        return flags


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    path = tmp_path / "record"
    monkeypatch.setenv("FAKE_RECORD", str(path))
    return Record(path)


@pytest.fixture
def behave(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """behave({"link": "dies"}): how the fakes behave from here on."""

    def behave(how: dict[str, str]) -> None:
        monkeypatch.setenv("FAKE_BEHAVIOUR", json.dumps(how))

    return behave


@pytest.fixture
def fake_command() -> Callable[[str], list[str]]:
    return lambda name: [sys.executable, str(FAKE), name]


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch, record: Any, fake_command: Callable[[str], list[str]]) -> None:
    """Starts the stand-in wherever the stack starts a program."""
    start = process.Program.start

    async def start_fake(name: str, command: list[str], *rest: Any) -> Any:
        return await start(name, [*fake_command(name), *command[1:]], *rest)

    monkeypatch.setattr(process.Program, "start", start_fake)
    monkeypatch.setattr(local, "find_program", lambda name: name)
