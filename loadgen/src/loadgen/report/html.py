"""`report.html`: a run on one page, for people.

Rules
- One file: style and charts are in it, no script is, and nothing is fetched; a policy in the page has the browser see
  to that.
- Order of reading: the verdict and why, which run, what happened when, how slow, where it stood still, what was left
  over, and how to do it again.
- Never larger than LIMIT_BYTES, whatever the run: every list has a cap and says how many it left out.
- What the directory lacks (an older verdict, no time line, no programs) is said in words; it is no error.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from loadgen.report import evidence, files, page, tables
from loadgen.report.directory import write_whole
from loadgen.report.evidence import Evidence
from loadgen.report.figures import figures
from loadgen.report.files import Document, Excerpt
from loadgen.report.reproduce import command

LIMIT_BYTES = 2_000_000
NAME = "report.html"
_FIRST_ANOMALIES = 20


def write(directory: Path) -> Path:
    """Reads a report directory and writes its `report.html`, whole or not at all. Raises ReportError, OSError."""
    written = render(
        files.read_document(directory),
        files.read_timeline(directory),
        files.read_anomalies(directory),
        evidence.read(directory),
    )
    return write_whole(directory / NAME, written.encode(errors="replace"))


def render(
    document: Document,
    timeline: Document | None = None,
    anomalies: Excerpt | None = None,
    said: Mapping[str, Sequence[Document]] | None = None,
) -> str:
    """The page. `timeline` None: there is none. `said` are the proxies' evidence lines."""
    content = _content(document, timeline, anomalies or Excerpt(), Evidence(said or {}))
    return _environment().get_template("report.html").render(content)


def _content(document: Document, timeline: Document | None, anomalies: Excerpt, proofs: Evidence) -> Mapping[str, Any]:
    drawn = figures(document, timeline)
    rows = tables.anomalies(anomalies.lines[: files.ANOMALIES_SHOWN], proofs)
    run_id = tables.text((document.get("run") or {}).get("id"))
    return {
        "title": f"{tables.text(document.get('verdict'))}: soak {run_id}",
        "run_id": run_id,
        "banner": page.banner(document),
        "tiles": page.tiles(document),
        "facts": page.facts(document),
        "figures": drawn,
        "faults": tables.capped(tables.faults(document)),
        "fault_heads": tables.fault_heads(document),
        "scenarios": tables.scenarios(document),
        "unsupported": [
            (tables.text(name), tables.text(why)) for name, why in (document.get("unsupported") or {}).items()
        ][: tables.CAP],
        "phases": tables.phases(document),
        "windows": tables.windows(document),
        "stalls": tables.stalls(document, drawn.onsets),
        "ledger": tables.ledger(document),
        "events": tables.EVENTS,
        "imbalances": tables.capped(tables.imbalances(document), 50),
        "unjudged": tables.unjudged(document),
        "balanced": (document.get("ledger") or {}).get("balanced"),
        "drain_tile": page.tiles(document)[-1],
        "pending": tables.capped(tables.pending(document)),
        "thresholds": tables.capped(tables.thresholds(document), 300),
        "anomalies": (rows[:_FIRST_ANOMALIES], rows[_FIRST_ANOMALIES:]),
        "more": anomalies.more,
        "dropped": anomalies.dropped,
        "evidence": proofs.entries,
        "evidence_left_out": proofs.left_out,
        "command": command(document),
    }


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("loadgen.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
