"""The charts of a run: which numbers of `timeline.json` go into which picture, and what stands beside it.

Rules
- Failures stand at the bottom of their chart, on one line and in strong colours; what went well is muted, above them.
- All charts share one time axis with the faults of the run drawn in.
- A figure without anything to draw says so in its note.
- At most DRAWN buckets are drawn: neighbours are merged, sums for what is counted, the highest for what is a level.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from loadgen.report import charts, words
from loadgen.report.charts import Band, Layer, Time
from loadgen.report.files import Document
from loadgen.report.scale import linear, logarithmic, milliseconds, number

DRAWN = 300
BANDS = 200
PROGRAMS = 12
LAG_MS = 60.0
"""What the axis of the generator's lag shows at least: a lag that means nothing has to look like nothing."""

OUTCOMES = (
    "eof_missing", "eof_premature", "corrupt", "excess", "reset", "timeout", "socks_rejected", "http_error", "aborted",
    "ok",
)  # fmt: skip
"""From the bottom up."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its words. Legend: CSS class, name, figure."""

    title: str
    svg: Markup = field(default_factory=Markup)
    legend: Sequence[tuple[str, str, str]] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """Memory and descriptors of one program."""

    name: str
    memory: Figure
    descriptors: Figure


@dataclass(frozen=True, slots=True)
class Figures:
    """All of them."""

    time: Time
    present: bool
    """Whether there is a time line."""
    lanes: Markup
    outcomes: Figure
    latency: Figure
    levels: Sequence[Figure]
    programs: Sequence[Program]
    onsets: Mapping[str, Markup] = field(default_factory=dict)
    """By phase, where it stalled."""


def figures(document: Document, timeline: Document | None) -> Figures:
    """Everything that can be drawn of a run."""
    buckets = _Buckets(timeline or {})
    time = _time(document, buckets)
    return Figures(
        time=time,
        present=buckets.present,
        lanes=charts.fault_lanes(time),
        outcomes=_outcomes(time, buckets),
        latency=_latency(time, buckets),
        levels=_levels(time, buckets),
        programs=_programs(document, timeline or {}, time),
        onsets={
            phase: charts.onsets(time, buckets.bucket_s, values, f"When {phase} stalled")
            for phase, values in buckets.stalls.items()
        },
    )


class _Buckets:
    """The time line, thinned out to what can be seen."""

    def __init__(self, timeline: Document) -> None:
        given_s = float(timeline.get("bucket_s") or 1.0)
        rows: Mapping[str, Sequence[int]] = timeline.get("outcomes") or {}
        latency: Mapping[str, Sequence[float | None]] = timeline.get("latency_ms") or {}
        levels = {name: timeline.get(name) or [] for name in ("in_flight", "stalled_now", "lag_ms")}
        self.present = bool(timeline)
        self.given = max((len(row) for row in (*rows.values(), *latency.values(), *levels.values())), default=0)
        self._merged = max(-(-self.given // DRAWN), 1)
        self.number = -(-self.given // self._merged)
        self.bucket_s = given_s * self._merged
        self.span_s = given_s * self.given
        self.outcomes = {name: self._merge(row, sum) for name, row in rows.items()}
        self.latency = {name: self._merge(row, max) for name, row in latency.items()}
        self.levels = {name: self._merge(row, max) for name, row in levels.items()}
        self.stalls = {phase: [value or 0 for value in self._merge(row, sum)] for phase, row in
                       (timeline.get("stalls") or {}).items()}  # fmt: skip
        self.centres_s = [(index + 0.5) * self.bucket_s for index in range(self.number)]

    def when(self, index: int) -> str:
        return f"{words.moment(index * self.bucket_s)} to {words.moment((index + 1) * self.bucket_s)}"

    def told(self, what: Callable[[int], str]) -> list[str]:
        return [f"{self.when(index)}: {what(index)}" for index in range(self.number)]

    def _merge(self, row: Sequence[float | None], together: Callable[[list[float]], float]) -> list[float | None]:
        """As many values as there are buckets, whatever the row lacks."""
        merged: list[float | None] = []
        for start in range(0, self.given, self._merged):
            known = [value for value in row[start : start + self._merged] if value is not None]
            merged.append(together(known) if known else None)
        return merged


def _time(document: Document, buckets: _Buckets) -> Time:
    run = document.get("run") or {}
    duration_s = float(run.get("duration_s") or 0.0)
    bands = []
    for fault in (document.get("faults") or [])[:BANDS]:
        if fault.get("from_s") is None:
            continue
        to_s, recovery_s = fault.get("to_s"), fault.get("recovery_s")
        recovered_s = None if to_s is None or recovery_s is None else to_s + recovery_s
        bands.append(Band(_named(fault), fault["from_s"], to_s, recovered_s, fault.get("error") or ""))
    reached_s = max([duration_s, buckets.span_s, *(band.to_s or 0.0 for band in bands)]) or 1.0
    return Time(reached_s, duration_s or None, tuple(bands))


def _outcomes(time: Time, buckets: _Buckets) -> Figure:
    title = f"Transactions by outcome, {_each(buckets.bucket_s)}"
    known = [name for name in OUTCOMES if name in buckets.outcomes]
    names = [name for name in buckets.outcomes if name not in OUTCOMES] + known
    layers = [Layer(name, outcome_style(name), buckets.outcomes[name]) for name in names]
    totals = {layer.label: int(sum(value or 0 for value in layer.values)) for layer in reversed(layers)}
    if not any(totals.values()):
        return Figure(title, note="No transaction came to an outcome.")
    heights = [sum(layer.values[index] or 0 for layer in layers) for index in range(buckets.number)]
    told = buckets.told(
        lambda index: (
            words.counts({layer.label: int(layer.values[index] or 0) for layer in reversed(layers)}) or "nothing"
        )
    )
    svg = charts.stacked(title, time, buckets.bucket_s, layers, linear(max(heights) * 1.02, whole=True), told)
    legend = [(outcome_style(name), name, words.count(total)) for name, total in totals.items() if total]
    return Figure(title, svg, legend)


def _latency(time: Time, buckets: _Buckets) -> Figure:
    title = "Latency from the scheduled start (logarithmic)"
    layers = [
        Layer(name, f"latency-{name}", buckets.latency[name])
        for name in ("max", "p99", "p50")
        if name in buckets.latency
    ]
    values = [value for layer in layers for value in layer.values if value is not None]
    told = buckets.told(
        lambda index: ", ".join(
            f"{layer.label} {words.milliseconds(layer.values[index])}" for layer in reversed(layers)
        )
    )
    scale = logarithmic(values)
    svg = charts.lines(title, time, buckets.centres_s, layers, scale, milliseconds, told, height=190)
    if not svg:
        return Figure(title, note="No transaction was measured.")
    legend = [
        (f"latency-{layer.label}", layer.label, f"up to {_highest(layer, words.milliseconds)}") for layer in layers
    ]
    return Figure(title, svg, legend[::-1])


def _levels(time: Time, buckets: _Buckets) -> Sequence[Figure]:
    def level(
        name: str, title: str, whole: bool, write: Callable[[float], str], nothing: str, at_least: float = 0.0
    ) -> Figure:
        values = buckets.levels[name]
        highest = max((value for value in values if value is not None), default=0)
        if not highest:
            return Figure(title, note=nothing)
        layer = Layer(title, f"level-{name}", values)
        told = buckets.told(lambda index: write(values[index] or 0))
        svg = charts.lines(
            title,
            time,
            buckets.centres_s,
            [layer],
            linear(max(highest, at_least), 3, whole),
            number if whole else write,
            told,
            height=84,
            area=True,
        )
        return Figure(title, svg, [(f"level-{name}", "highest", write(highest))])

    return (
        level("stalled_now", "Stalled now", True, words.count, "Nothing was stalled at any time."),
        level("in_flight", "In flight", True, words.count, "Nothing was in flight."),
        level("lag_ms", "Generator lag", False, words.milliseconds, "The generator was never late.", LAG_MS),
    )


def _programs(document: Document, timeline: Document, time: Time) -> Sequence[Program]:
    series: Mapping[str, Any] = timeline.get("programs") or {}
    ends: Mapping[str, Any] = document.get("resources") or {}
    made = []
    for name in sorted({*series, *ends})[:PROGRAMS]:
        of, used = series.get(name) or {}, ends.get(name) or {}
        memory = used.get("rss_start_bytes"), used.get("rss_end_bytes")
        descriptors = used.get("fds_start"), used.get("fds_end")
        made.append(
            Program(
                name,
                _resource(time, of, "rss_bytes", "Memory", memory, words.size),
                _resource(time, of, "fds", "Descriptors", descriptors, words.count),
            )
        )
    return made


def _resource(
    time: Time,
    series: Mapping[str, Any],
    key: str,
    title: str,
    ends: tuple[float | None, float | None],
    write: Callable[[float | None], str],
) -> Figure:
    at_s, values = _thinned(series.get("at_s") or [], series.get(key) or [])
    known = [value for value in values if value is not None]
    first, last = ends
    if first is None and known:
        first = known[0]
    if last is None and known:
        last = known[-1]
    told = f"{write(first)} to {write(last)}"
    change = words.change(first, last, write)
    legend = [("", told, f"({change})" if change else "")]
    if first is None and last is None:
        return Figure(title, note="not known")
    if len(known) < 2:
        return Figure(title, legend=legend)
    texts = [f"{words.moment(at)}: {write(value)}" for at, value in zip(at_s, values, strict=True)]
    scale = linear(max(known), 3, whole=True)
    layer = Layer(title, f"resource-{key}", values)
    return Figure(
        title,
        charts.lines(title, time, at_s, [layer], scale, number if key == "fds" else write, texts, height=58, area=True),
        legend,
    )


def _thinned(at_s: Sequence[float], values: Sequence[float | None]) -> tuple[list[float], list[float | None]]:
    every = max(-(-min(len(at_s), len(values)) // DRAWN), 1)
    pairs = list(zip(at_s, values, strict=False))[::every]
    return [max(at, 0.0) for at, _ in pairs], [value for _, value in pairs]


def _named(fault: Document) -> str:
    name, program = str(fault.get("name") or fault.get("kind") or "fault"), fault.get("program")
    return f"{name}, {program}" if program and program not in name else name


def outcome_style(name: str) -> str:
    """The CSS class of an outcome."""
    return f"outcome-{name}" if name in OUTCOMES else "outcome-other"


def _each(bucket_s: float) -> str:
    return "each second" if bucket_s == 1 else f"every {words.seconds(bucket_s)}"


def _highest(layer: Layer, write: Callable[[float | None], str]) -> str:
    return write(max((value for value in layer.values if value is not None), default=None))
