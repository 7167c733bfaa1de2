"""The record of anomalies takes a constant amount of disk, keeps both ends, and says what it left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadgen.measure.anomalies import Anomalies

PAD = "x" * 800
"""A line with it takes about 900 bytes: one a file of 1,000."""


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "anomalies.jsonl"


def test_a_line_is_there_when_it_happens(path: Path) -> None:
    with Anomalies(path) as anomalies:
        anomalies.write("stall", phase="body", detail="Gerät")
        (line,) = lines(path)
        assert (line["kind"], line["phase"], line["detail"]) == ("stall", "body", "Gerät")
        assert line["time"].endswith("+00:00")


def test_the_first_file_and_the_newest_stay(path: Path) -> None:
    with Anomalies(path, max_file_bytes=1000, max_files=4) as anomalies:
        for number in range(10):
            anomalies.write("outcome", number=number, pad=PAD)
            assert len(files(path.parent)) <= 4
            assert sum(file.stat().st_size for file in path.parent.iterdir()) <= 4 * 1000
    assert files(path.parent) == [path.name, *(f"{path.name}.{number}" for number in (7, 8, 9))]
    assert [line["number"] for line in lines(path)] == [0]
    for number in (7, 8, 9):
        gone, line = lines(path.with_name(f"{path.name}.{number}"))
        assert line["number"] == number
        assert gone["kind"] == "dropped"
    assert gone["lines"] == anomalies.dropped_lines == 6


def test_every_line_is_there_or_counted(path: Path) -> None:
    """Also where a file holds several: what is dropped and what is kept make up all that was written."""
    with Anomalies(path, max_file_bytes=2000, max_files=3) as anomalies:
        for number in range(500):
            anomalies.write("outcome", number=number)
    kept = [line for file in path.parent.iterdir() for line in lines(file) if line["kind"] == "outcome"]
    said = max(line["lines"] for file in path.parent.iterdir() for line in lines(file) if line["kind"] == "dropped")
    assert len(kept) + said == 500
    assert max(line["number"] for line in kept) == 499
    assert all(file.stat().st_size <= 2000 for file in path.parent.iterdir())


def test_nothing_is_said_where_nothing_was_dropped(path: Path) -> None:
    with Anomalies(path, max_file_bytes=1000) as anomalies:
        for number in range(4):
            anomalies.write("outcome", number=number, pad=PAD)
    assert len(files(path.parent)) == 4
    assert [line["kind"] for file in path.parent.iterdir() for line in lines(file)] == ["outcome"] * 4


def test_an_earlier_runs_files_are_not_mixed_in(path: Path) -> None:
    path.with_name(f"{path.name}.7").write_text("old\n")
    path.write_text("old\n")
    with Anomalies(path):
        assert files(path.parent) == [path.name]
        assert lines(path) == []


def test_a_full_disk_ends_the_record_and_not_the_soak() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with Anomalies(full) as anomalies:
        anomalies.write("stall")
        anomalies.write("stall")
