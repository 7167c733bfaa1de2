"""The tables of a report: rows of text, from what `verdict.json` says.

Rules
- Whatever an older verdict does not say gives no row, and the page says that it is not known.
- Every list has a cap, and says how many it left out: a report stays small whatever the run was.
- What is wrong is marked by a word or a sign as well as by its `tone`: "bad", "warn", "good" or "".
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from loadgen.report import charts, words
from loadgen.report.evidence import Evidence
from loadgen.report.files import Document
from loadgen.report.scale import Logarithmic, logarithmic, milliseconds

CAP = 100
TEXT = 300

HOPS: Mapping[str, Sequence[str]] = {
    "target_to_client": ("target", "proxy-server", "proxy-client", "application"),
    "client_to_target": ("application", "proxy-client", "proxy-server", "target"),
}
_FAULT_HEADS = ("fault", "kind", "program", "from", "healed", "recovery")
EVENTS = ("received", "forwarded", "confirmed", "rescued", "abandoned")


_Found = tuple[str, int | None, Mapping[str, float | None], Mapping[str, int]]
"""Name, number, percentiles in milliseconds, outcomes that are not ok."""


class Cell(NamedTuple):
    """Text and its tone."""

    text: str
    tone: str = ""
    links: Sequence[str] = ()
    """Anchors on the page, in place of the text."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A row with its percentiles, as text and drawn."""

    name: str
    count: str
    times: Sequence[str]
    drawn: Markup
    wrong: str
    tone: str


@dataclass(frozen=True, slots=True)
class Spreads:
    """A table of them on one scale."""

    rows: Sequence[Spread]
    axis: Markup


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of the FIN ledger: the way, and what each hop counted."""

    name: str
    way: str
    rows: Sequence[tuple[str, Sequence[Cell]]]


def text(value: object) -> str:
    """Anything as text of a bounded length."""
    written = "" if value is None else str(value)
    return written if len(written) <= TEXT else written[: TEXT - 1] + "…"


def capped(values: Sequence[Any], cap: int = CAP) -> tuple[Sequence[Any], int]:
    """The first ones, and how many more there are."""
    return values[:cap], max(len(values) - cap, 0)


def not_ok(outcomes: Mapping[str, int]) -> dict[str, int]:
    """The outcomes that are not ok and happened."""
    return {name: number for name, number in outcomes.items() if name != "ok" and number}


def scenarios(document: Document) -> Spreads:
    """Latency by scenario."""
    found: list[_Found] = [
        (name, scenario.get("completed"), scenario.get("latency_ms") or {}, not_ok(scenario.get("outcomes") or {}))
        for name, scenario in list((document.get("scenarios") or {}).items())[:CAP]
    ]
    return _spreads(found, excused=document.get("verdict") == "pass")


def phases(document: Document) -> Spreads:
    """Durations by phase, of those that happened."""
    found: list[_Found] = [
        (name, phase["count"], phase.get("duration_ms") or {}, {})
        for name, phase in list((document.get("phases") or {}).items())[:CAP]
        if phase.get("count")
    ]
    return _spreads(found)


def _spreads(found: Sequence[_Found], excused: bool = False) -> Spreads:
    values = [value for _, _, times, _ in found for value in times.values() if value is not None]
    scale: Logarithmic = logarithmic(values)
    rows = []
    for name, number, times, wrong in found:
        texts = [words.milliseconds(times.get(key)) for key in ("p50", "p90", "p99", "max")]
        label = "{}: p50 {}, p90 {}, p99 {}, max {}".format(name, *texts)
        wrong_text = words.counts(wrong) if excused or not wrong else f"✕ {words.counts(wrong)}"
        tone = "warn" if excused else "bad"
        rows.append(Spread(name, words.count(number), texts, charts.spread(times, scale, label), wrong_text, tone))
    return Spreads(rows, charts.spread_axis(scale, milliseconds) if values else Markup())


def windows(document: Document) -> Sequence[Sequence[Cell]]:
    """Quiet, fault, recovery: one row each."""
    rows = []
    for name, window in (document.get("windows") or {}).items():
        wrong = not_ok(window.get("outcomes") or {})
        stalls, timeouts = _happened(window.get("stalls")), _happened(window.get("timeouts"))
        excused = "warn" if name != "quiet" else "bad"
        latency = window.get("latency_ms") or {}
        rows.append(
            (
                Cell(name),
                Cell(words.seconds(window.get("seconds"))),
                Cell(words.count(window.get("completed"))),
                Cell(words.counts(wrong) or "none", excused if wrong else ""),
                Cell(words.counts(stalls) or "none", "warn" if stalls else ""),
                Cell(words.counts(timeouts) or "none", excused if timeouts else ""),
                Cell(words.milliseconds(latency.get("p50"))),
                Cell(words.milliseconds(latency.get("p99"))),
            )
        )
    return rows


def stalls(document: Document, drawn: Mapping[str, Markup]) -> Sequence[tuple[str, Sequence[Cell], Markup]]:
    """Phases that stalled or timed out."""
    timeouts = document.get("timeouts") or {}
    excused = document.get("verdict") == "pass" and bool(document.get("faults"))
    wrong = "warn" if excused else "bad"
    rows = []
    for phase, stall in (document.get("stalls") or {}).items():
        number, recovered, timed_out = stall.get("count", 0), stall.get("recovered", 0), timeouts.get(phase, 0)
        if not number and not timed_out:
            continue
        cells = (
            Cell(words.count(number), "warn" if number else ""),
            Cell(words.count(recovered)),
            Cell(words.count(number - recovered), wrong if number > recovered else ""),
            Cell(words.seconds(stall.get("longest_s")) if number else words.NOTHING),
            Cell(words.count(timed_out), wrong if timed_out else ""),
        )
        rows.append((phase, cells, drawn.get(phase, Markup())))
    return rows


def ledger(document: Document) -> Sequence[Direction]:
    """Both directions, hop after hop in the way that an end takes."""
    ends: Mapping[str, Any] = document.get("ends") or {}
    missing = {}
    for item in (document.get("ledger") or {}).get("imbalances") or []:
        hop = str(item.get("hop")).rpartition(" -> ")[2]  # what is missing between two is missing at the second one
        missing[item.get("direction"), hop, item.get("to_event")] = "bad" if is_open(item) else "warn"
    directions = []
    for direction, way in HOPS.items():
        hops = [hop for hop in way if hop in ends] + sorted(hop for hop in ends if hop not in way)
        rows = []
        for hop in hops[:CAP]:
            events = (ends[hop] or {}).get(direction)
            if events is not None:
                row = [_counted(event, events, missing.get((direction, hop, event), "")) for event in EVENTS]
                rows.append((hop, row))
        if rows:
            directions.append(Direction(direction.replace("_", " "), " → ".join(way), rows))
    return directions


def imbalances(document: Document) -> Sequence[Cell]:
    """What the ledger lacks, in words, the open questions first."""
    found = (document.get("ledger") or {}).get("imbalances") or []
    cells = [Cell(f"{'✕' if is_open(item) else '·'} {text(item.get('text'))}", "bad" if is_open(item) else "warn")
             for item in found]  # fmt: skip
    return sorted(cells, key=lambda cell: cell.tone)


def unjudged(document: Document) -> str:
    """The programs whose ledger says nothing."""
    return ", ".join((document.get("ledger") or {}).get("unjudged") or [])


def is_open(imbalance: Document) -> bool:
    """Whether somebody still waits for what is missing."""
    return bool(imbalance.get("missing") != imbalance.get("given_up", 0))


def _counted(event: str, events: Mapping[str, int], tone: str) -> Cell:
    number = events.get(event)
    if tone:
        return Cell(f"{words.count(number)} {'✕' if tone == 'bad' else '·'}", tone)
    return Cell(words.count(number), "warn" if event == "rescued" and number else "")


def thresholds(document: Document) -> Sequence[tuple[str, str, Cell]]:
    """Sign, expression, measured value; what does not hold comes first."""
    rows = []
    for threshold in document.get("thresholds") or []:
        value, ok = threshold.get("value"), threshold.get("ok")
        expression = threshold.get("expression", "")
        sign, tone = ("✓", "good") if ok else ("?", "warn") if value is None else ("✕", "bad")
        is_time = re.search(r"\d\s*m?s\s*$", expression)
        measured = "not measured" if value is None else words.seconds(value) if is_time else words.count(value)
        rows.append((sign, text(expression), Cell(measured, tone)))
    return sorted(rows, key=lambda row: "✕?✓".index(row[0]))


def pending(document: Document) -> Sequence[tuple[str, str, str, Sequence[str]]]:
    """What was left over: program, what, value, and the streams behind it."""
    rows = []
    for item in (document.get("drain") or {}).get("pending") or []:
        labels = ", ".join(f"{key}={value}" for key, value in (item.get("labels") or {}).items())
        streams, more = capped(item.get("streams") or [], 20)
        named = [_stream(stream) for stream in streams] + ([f"and {more} more"] if more else [])
        what = f"{item.get('what')} {{{labels}}}" if labels else item.get("what")
        value = item.get("value")
        number = words.count(value) if isinstance(value, int | float) else text(value)
        rows.append((text(item.get("program")), text(what), number, named))
    return rows


def _stream(stream: Document) -> str:
    """A stream that is open, as its program names it."""
    parts = [f"{name.replace('_', ' ')} {stream[name]}" for name in ("connection", "stream", "quic_stream")
             if stream.get(name) is not None]  # fmt: skip
    parts += [str(stream[name]).replace("_", " ") for name in ("direction", "state") if stream.get(name) is not None]
    if stream.get("age_s") is not None:
        parts.append(f"{words.seconds(stream['age_s'])} old")
    if stream.get("since_end_s") is not None:
        parts.append(f"{words.seconds(stream['since_end_s'])} since its end")
    return text(", ".join(parts))


def faults(document: Document) -> Sequence[Sequence[Cell]]:
    """What was done to the stack, when it really was, and whether it worked. Heads: `fault_heads`."""
    rows = []
    some_failed = len(fault_heads(document)) > len(_FAULT_HEADS)
    for fault in document.get("faults") or []:
        from_s, to_s = fault.get("from_s"), fault.get("to_s")
        row = [
            Cell(text(fault.get("name"))),
            Cell(text(fault.get("kind"))),
            Cell(text(fault.get("program") or "link")),
            Cell("did not happen", "bad") if from_s is None else Cell(words.moment(from_s)),
            Cell("never", "bad") if from_s is not None and to_s is None else Cell(words.moment(to_s)),
            Cell(words.seconds(fault.get("recovery_s"))),
        ]
        rows.append([*row, Cell(text(fault.get("error")), "bad")] if some_failed else row)
    return rows


def fault_heads(document: Document) -> Sequence[str]:
    """The columns of `faults`; the last one only where something went wrong."""
    failed = any(fault.get("error") for fault in document.get("faults") or [])
    return (*_FAULT_HEADS, "what went wrong") if failed else _FAULT_HEADS


def anomalies(lines: Sequence[Document], evidence: Evidence) -> Sequence[Sequence[Cell]]:
    """One row a line of the file, with links to what the proxies said of the same stream."""
    rows = []
    for line in lines:
        kind = text(line.get("kind"))
        what, tone, detail = kind.replace("_", " "), "", line.get("detail")
        if kind == "outcome":
            what, tone = text(line.get("outcome")), "bad"
        elif kind == "stall":
            what, tone = "stalled", "warn"
        elif kind == "stall_recovered":
            what, detail = "went on", f"after {words.seconds(line.get('stalled_s'))}"
        elif kind == "generator_lag":
            detail = f"the generator was {words.seconds(line.get('lag_s'))} late"
        received, expected = line.get("received_bytes"), line.get("expected_bytes")
        moved = f"{words.count(received)} of {words.count(expected)}" if expected else words.count(received)
        rows.append(
            (
                Cell(words.moment(line.get("at_s"))),
                Cell(what, tone),
                Cell(text(line.get("scenario"))),
                Cell(text(line.get("phase"))),
                Cell(words.seconds(line.get("in_phase_s"))),
                Cell(text(line.get("window"))),
                Cell(moved),
                Cell(text(detail)),
                Cell(text(line.get("number"))),
                Cell("-", links=evidence.of(line)),
            )
        )
    return rows


def _happened(numbers: Mapping[str, int] | None) -> dict[str, int]:
    return {name: number for name, number in (numbers or {}).items() if number}
