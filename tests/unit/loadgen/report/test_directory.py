"""The report directory: dated, with a link to the newest; or exactly the one that was asked for."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loadgen.report import directory as report_directory
from servicekit.errors import CannotStartError

STARTED = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


def test_dated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = report_directory.create(None, STARTED)
    assert first == Path("reports/2026-02-03T04-05-06Z")
    assert Path("reports/latest").resolve() == first.resolve()
    again = report_directory.create(None, STARTED)
    assert again == Path("reports/2026-02-03T04-05-06Z-2")
    assert Path("reports/latest").resolve() == again.resolve()


def test_the_one_asked_for(tmp_path: Path) -> None:
    asked = tmp_path / "a" / "b"
    assert report_directory.create(asked, STARTED) == asked
    report_directory.write(asked, "verdict.json", {"verdict": "fail"})
    report_directory.write(asked, "verdict.json", {"verdict": "pass"})
    assert json.loads((asked / "verdict.json").read_text()) == {"verdict": "pass"}
    assert [entry.name for entry in asked.iterdir()] == ["verdict.json"]


def test_no_directory_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStartError, match="cannot make the report directory"):
        report_directory.create(tmp_path / "file" / "below", STARTED)
