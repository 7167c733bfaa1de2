"""Runs that never were, for the tests of their reports: the same numbers each time.

`rich` has everything that can go wrong in it, `calm` nothing at all, `bare` only what the first verdicts had. Counting,
windows, time line and document are the real ones; only the transactions are drawn from a seed.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from prometheus_client import CollectorRegistry

from loadgen.measure.anomalies import Anomalies
from loadgen.measure.drain import Drain
from loadgen.measure.metrics import SoakMetrics
from loadgen.measure.observe import Ledger, Resources
from loadgen.measure.tally import Tally
from loadgen.measure.windows import FaultRecord, Windows
from loadgen.scenarios import SCENARIOS
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase
from loadgen.transaction.transaction import Window
from loadgen.verdict import document as documents
from loadgen.verdict.thresholds import parse, with_defaults
from loadgen.verdict.verdict import Programs, Result, Run

PROGRAMS = ("http-target", "link", "loadgen", "proxy-client", "proxy-server")
RATE_PER_S = 60
SECONDS = 60

FAULTS = (
    ("blackhole", "blackhole", None, 8.0, 11.0),
    ("loss 5 %", "loss", None, 18.0, 25.0),
    ("pause", "pause", "proxy-server", 30.5, 32.5),
    ("kill -9", "kill", "proxy-server", 39.0, 40.8),
    ("rebind", "rebind", None, 46.5, 46.5),
    ("drain", "drain", "proxy-server", 52.0, 53.9),
)
"""Name, kind, program, from, to."""

Json = dict[str, Any]


@dataclass
class Sample:
    """The three files of a directory."""

    document: Json
    timeline: Json
    anomalies: list[Json]

    def write(self, directory: Path) -> Path:
        """As a run leaves them."""
        (directory / "verdict.json").write_text(json.dumps(self.document), encoding="utf-8")
        (directory / "timeline.json").write_text(json.dumps(self.timeline), encoding="utf-8")
        lines = "".join(json.dumps(line) + "\n" for line in self.anomalies)
        (directory / "anomalies.jsonl").write_text(lines, encoding="utf-8")
        return directory


def rich() -> Sample:
    """A soak with faults that failed: late in quiet time, with ends missing, and with something left over."""
    drawn = _Drawn(seed=7, faults=True)
    pending = (
        {
            "program": "proxy-server", "what": "tunnel_half_closed_streams", "value": 1.0,
            "labels": {"role": "server", "direction": "target_to_client"},
            "streams": [
                {
                    "connection": 2, "stream": 1033, "quic_stream": 4132, "direction": "target_to_client",
                    "state": "unconfirmed", "age_s": 41.2, "since_end_s": 38.9,
                }
            ],
        },
        {"program": "http-target", "what": "metrics", "value": "unreachable"},
    )  # fmt: skip
    result = drawn.result(Drain(30.4, pending), ("quiet.latency.p99 < 250ms", "quiet.stalls.eof_wait <= 1"))
    document = documents.document(result)
    document["ends"]["proxy-client"]["target_to_client"]["rescued"] = 2
    document["unsupported"] = {"upload": "the proxy closes both directions when one of them ends (half-close)"}
    return Sample(document, documents.timeline(result, drawn.programs()), drawn.anomalies)


def calm() -> Sample:
    """A soak without faults that passed."""
    drawn = _Drawn(seed=1, faults=False)
    result = drawn.result(Drain(0.325), ())
    return Sample(documents.document(result), documents.timeline(result, drawn.programs()), [])


def bare() -> Json:
    """A verdict with no more than what the first version wrote."""
    document = calm().document
    for name in ("windows", "phases", "unsupported", "ledger"):
        del document[name]
    for name in ("mix", "arrivals", "rate_per_s"):
        del document["run"][name]
    document["generator"] = {"lag_max_s": 0.006, "saturated": False}
    document["drain"].pop("observed", None)
    return document


def _ends(completed: int, lost: int) -> Ledger:
    """A ledger; `lost` ends get lost between the proxies, on the way to the client."""
    whole = {"received": completed, "forwarded": completed, "confirmed": completed, "rescued": 0, "abandoned": 0}
    sent = whole | {"confirmed": completed - lost}
    received = {event: number - lost if number else 0 for event, number in whole.items()}
    return {
        "proxy-server": {"client_to_target": dict(whole), "target_to_client": sent},
        "proxy-client": {"client_to_target": dict(whole), "target_to_client": received},
    }


class _Drawn:
    """Transactions by chance, counted for real."""

    def __init__(self, seed: int, faults: bool) -> None:
        self.anomalies: list[Json] = []
        self._random = Random(seed)
        self._faults = FAULTS if faults else ()
        windows = Windows()
        windows.plan([FaultRecord(name, kind, program, 4.0) for name, kind, program, _, _ in self._faults])
        names = tuple(name for name in SCENARIOS if not faults or name != "upload")
        with Anomalies(Path(os.devnull)) as nowhere:
            self.tally = Tally(names, SoakMetrics(CollectorRegistry(), names), nowhere, windows, duration_s=SECONDS)
        self.tally.load_begins(0.0)
        for number in range(RATE_PER_S * SECONDS):
            due_s = number / RATE_PER_S
            self._mark(due_s)
            self._draw(number, due_s)
        self._look()

    def result(self, drain: Drain, asked: tuple[str, ...]) -> Result:
        run = Run(
            id="2026-03-14T09-26-53Z",
            seed=1,
            revision="1f3a9c04d2e7",
            stack="local",
            engine={"client": "aioquic", "server": "aioquic"},
            started_at=datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC),
            duration_s=float(SECONDS),
            mix="small",
            arrivals="constant",
            rate_per_s=float(RATE_PER_S),
            link="--delay-ms 10",
            command="loadgen soak --mix small --faults rough.toml --threshold 'quiet.latency.p99 < 250ms' --report x",
        )
        completed = sum(count.completed for count in self.tally.scenarios.values())
        ends = _ends(completed, lost=1 if self._faults else 0)
        first = {name: Resources(44_000_000 + 6_000_000 * index, 15 + index) for index, name in enumerate(PROGRAMS)}
        last = {name: Resources(46_100_000 + 6_200_000 * index, 16 + index) for index, name in enumerate(PROGRAMS)}
        thresholds = with_defaults(map(parse, asked), faults=bool(self._faults))
        return Result(run, self.tally, drain, Programs(first, last, ends), thresholds)

    def programs(self) -> Mapping[str, Json]:
        """Memory that grows a little, and descriptors that follow the load. proxy-server is away while it is dead."""
        made = {}
        for index, name in enumerate(PROGRAMS):
            at_s = [step * 1.5 for step in range(SECONDS * 2 // 3 + 1)]
            away = [bool(self._faults) and name == "proxy-server" and 39 <= at < 41 for at in at_s]
            rss = [44_000_000 + 6_000_000 * index + int(2_000_000 * at / SECONDS) for at in at_s]
            fds = [15 + index + self._random.randint(0, 9) for _ in at_s]
            made[name] = {
                "at_s": at_s,
                "rss_bytes": [None if gone else value for gone, value in zip(away, rss, strict=True)],
                "fds": [None if gone else value for gone, value in zip(away, fds, strict=True)],
            }
        return made

    def _mark(self, due_s: float) -> None:
        for name, _, _, from_s, to_s in self._faults:
            fault = self.tally.windows.faults[name]
            if due_s >= from_s and fault.from_s is None:
                self.tally.windows.began(name, from_s)
            if due_s >= to_s and fault.to_s is None:
                self.tally.windows.healed(name, to_s)

    def _draw(self, number: int, due_s: float) -> None:
        chance = self._random
        scenario = chance.choice(tuple(self.tally.scenarios))
        window = self.tally.window_of(due_s)
        latency_s = chance.lognormvariate(-2.9, 0.22) * (2.4 if scenario in ("keep_alive", "download") else 1)
        outcome, phase = Outcome.OK, Phase.BODY
        for name, kind, _, from_s, to_s in self._faults:
            if from_s <= due_s < max(to_s, from_s + 0.5):
                latency_s, outcome, phase = self._struck(kind, to_s - due_s, latency_s)
                if kind in ("blackhole", "pause") and name:
                    self._stall(number, due_s, scenario, window, phase, latency_s)
        if self._faults and number in (2220, 2700, 2701):  # the founding bug, in quiet time
            outcome, phase, latency_s = Outcome.EOF_MISSING, Phase.EOF_WAIT, 10.0 + latency_s
            self._stall(number, due_s, scenario, window, phase, 0.0)
        self._count(number, due_s, scenario, window, outcome, phase, latency_s)

    def _struck(self, kind: str, left_s: float, latency_s: float) -> tuple[float, Outcome, Phase]:
        """What a fault does to a transaction that is due `left_s` before it heals."""
        chance = self._random.random()
        if kind in ("blackhole", "pause"):
            late = chance < 0.08
            return (15.0 if late else left_s + latency_s, Outcome.TIMEOUT if late else Outcome.OK, Phase.TTFB)
        if kind == "kill":
            if chance < 0.5:
                return left_s + latency_s, Outcome.OK, Phase.SOCKS_CONNECT
            return left_s / 2, Outcome.RESET if chance < 0.8 else Outcome.SOCKS_REJECTED, Phase.SOCKS_CONNECT
        if kind == "drain" and chance < 0.04:
            return left_s / 4, Outcome.HTTP_ERROR, Phase.TTFB
        return latency_s * (1 + 4 * chance), Outcome.OK, Phase.BODY

    def _count(
        self, number: int, due_s: float, scenario: str, window: Window, outcome: Outcome, phase: Phase, latency_s: float
    ) -> None:
        tally = self.tally
        count, in_window = tally.scenarios[scenario], tally.by_window[window]
        count.scheduled += 1
        count.started += 1
        count.outcomes[outcome] += 1
        in_window.outcomes[outcome] += 1
        for latencies in (count.latencies, in_window.latencies, tally.latencies):
            latencies.record(latency_s)
        tally.timeline.ended(due_s, outcome, latency_s)
        parts = (
            Phase.TCP_CONNECT,
            Phase.SOCKS_GREETING,
            Phase.SOCKS_CONNECT,
            Phase.REQUEST_WRITE,
            Phase.TTFB,
            Phase.BODY,
        )
        for index, part in enumerate(parts):
            tally.phases[part].record(latency_s * (0.002, 0.004, 0.4, 0.001, 0.5, 0.09)[index])
        if outcome in (Outcome.TIMEOUT, Outcome.EOF_MISSING):
            in_window.timeouts[phase] += 1
            tally.timeouts[phase] += 1
        if outcome is not Outcome.OK:
            detail = f"no progress for {latency_s:.1f} s" if outcome is Outcome.TIMEOUT else ""
            self._note(
                "outcome", number, due_s + latency_s, scenario, window, phase, latency_s, outcome=outcome, detail=detail
            )

    def _stall(self, number: int, due_s: float, scenario: str, window: Window, phase: Phase, lasted_s: float) -> None:
        """A stall, if it lasts; 0: for good."""
        if 0 < lasted_s < 2:
            return
        stall = self.tally.stalls[phase]
        stall.count += 1
        stall.longest_s = max(stall.longest_s, lasted_s or 10.0)
        self.tally.by_window[window].stalls[phase] += 1
        self.tally.timeline.stalled(due_s + 2, phase)
        self._note("stall", number, due_s + 2, scenario, window, phase, 2.0)
        if 0 < lasted_s < 15:
            stall.recovered += 1
            self._note(
                "stall_recovered", number, due_s + lasted_s, scenario, window, phase, lasted_s, stalled_s=lasted_s
            )

    def _look(self) -> None:
        for tenth in range(SECONDS * 10 + 20):
            at_s = tenth / 10
            stalled = any(
                kind in ("blackhole", "pause") and start + 2 <= at_s < end + 0.3
                for _, kind, _, start, end in self._faults
            )
            struck = any(start <= at_s < end + 0.2 for _, _, _, start, end in self._faults)
            begun_s = max(
                (at_s - start for _, _, _, start, end in self._faults if start <= at_s < end + 0.2), default=0
            )
            in_flight = (
                (4 + int(RATE_PER_S * begun_s) if struck else self._random.randint(2, 6)) if at_s <= SECONDS else 0
            )
            lag_s = self._random.random() * 0.004
            self.tally.timeline.look(at_s, int(in_flight / 3) if stalled else 0, in_flight, lag_s)
            self.tally.lag_max_s = max(self.tally.lag_max_s, lag_s)
            self.tally.schedule_lag.record(lag_s)

    def _note(
        self, kind: str, number: int, at_s: float, scenario: str, window: Window, phase: Phase, in_phase_s: float,
        **fields: object,
    ) -> None:  # fmt: skip
        self.anomalies.append(
            {
                "time": "2026-03-14T09:27:00.000+00:00", "kind": kind, "at_s": round(at_s, 3), "number": number,
                "scenario": scenario, "window": window, "phase": phase, "in_phase_s": round(in_phase_s, 3), **fields,
                "seed": number, "size_bytes": 4000, "received_bytes": 4000 if phase is Phase.EOF_WAIT else 1163,
                "expected_bytes": 4000, "sent_bytes": 87,
            }
        )  # fmt: skip
