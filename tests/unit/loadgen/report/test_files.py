"""What is read of a report directory."""

import json
from pathlib import Path

from loadgen.report.files import Excerpt, read_anomalies, read_timeline


def _lines(first: int, number: int) -> str:
    return "".join(json.dumps({"kind": "stall", "number": first + index}) + "\n" for index in range(number))


def test_the_first_anomalies_are_read_and_the_others_counted(tmp_path: Path) -> None:
    (tmp_path / "anomalies.jsonl").write_text(_lines(0, 4))
    (tmp_path / "anomalies.jsonl.10").write_text('{"kind": "dropped", "lines": 70}\n' + _lines(90, 3))
    (tmp_path / "anomalies.jsonl.9").write_text('{"kind": "dropped", "lines": 50}\n' + _lines(80, 3))
    excerpt = read_anomalies(tmp_path, limit=5)
    assert [line["number"] for line in excerpt.lines] == [0, 1, 2, 3, 80]
    assert (excerpt.more, excerpt.dropped) == (5, 70)


def test_what_is_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "anomalies.jsonl").write_bytes(_lines(0, 2).encode() + b'{"kind": "st\xff\n7\n')
    assert len(read_anomalies(tmp_path).lines) == 2


def test_nothing_is_there(tmp_path: Path) -> None:
    assert read_anomalies(tmp_path) == Excerpt()
    assert read_timeline(tmp_path) is None
    (tmp_path / "timeline.json").write_text("{")
    assert read_timeline(tmp_path) is None
