"""What a person sees: while it runs, and at the end."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

from loadgen.measure.anomalies import Anomalies
from loadgen.measure.metrics import SoakMetrics
from loadgen.measure.tally import Tally
from loadgen.measure.windows import FaultRecord
from loadgen.soak.live import Progress
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Limits, Phase
from loadgen.transaction.transaction import Arrival, Transaction


def begun(tally: Tally, number: int) -> Transaction:
    arrival = Arrival(number, 0.0, "get", seed=1, size_bytes=1)
    made = Transaction(arrival, Limits.default(), tally, 0.0)
    tally.scheduled(arrival)
    tally.started(arrival, 0.0)
    made.enter(Phase.EOF_WAIT)
    return made


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    with Anomalies(tmp_path / "anomalies.jsonl") as anomalies:
        tally = Tally(("get",), SoakMetrics(CollectorRegistry(), ("get",)), anomalies)
        tally.ended(begun(tally, 0), Outcome.OK, "")
        tally.ended(begun(tally, 1), Outcome.RESET, "as told")
        begun(tally, 2).stall()
        tally.windows.plan([FaultRecord("nap", "pause", "proxy-server", 5.0, from_s=3.0)])
        return Progress(tally, 30.0, lambda: "load")


def test_the_line(progress: Progress) -> None:
    line = progress.line()
    assert "1 ok, 1 reset, 1 in flight, 1 stalled" in line
    assert line.endswith("; fault: nap")


def test_the_view(progress: Progress) -> None:
    console = Console(width=120)
    with console.capture() as seen:
        console.print(progress.view())
    lines = [" ".join(line.split()) for line in seen.get().splitlines()]
    assert any(line.startswith("load, 0 of 30 s") for line in lines)
    assert any(line.startswith("get 2 1 ") for line in lines)
    assert "eof_wait 1 1 0 0.0 0" in lines
    assert "fault nap of proxy-server, since 3 s" in lines
