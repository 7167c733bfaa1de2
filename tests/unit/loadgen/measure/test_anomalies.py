"""The file of anomalies is bounded, and says what it left out."""

import json
from pathlib import Path

from loadgen.measure.anomalies import Anomalies


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "anomalies.jsonl"
    with Anomalies(path, max_lines=2) as anomalies:
        anomalies.write("stall", phase="body")
        assert json.loads(path.read_text())["phase"] == "body", "it is there when it happens"
        for _ in range(4):
            anomalies.write("outcome")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["stall", "outcome", "suppressed"]
    assert lines[-1]["count"] == 3
    assert lines[0]["time"].endswith("+00:00")
