"""`junit.xml`: a run as a suite of test cases, for the CI systems that show such files.

Rules
- A case for the verdict, each threshold, each scenario, each fault, the drain, the ledger and the generator.
- failure: measured, and not as it has to be. error: it cannot be told (inconclusive, saturated, a fault that did not
  happen). skipped: there was nothing to judge.
- The file never says anything but the verdict: in a run that passed nothing fails, and what a fault or a threshold of
  its own excused stands in the output of its case.
- Only elements and attributes that the common schema has, in its order; control characters that XML cannot hold become
  U+FFFD.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from loadgen.report import files
from loadgen.report.directory import write_whole
from loadgen.report.files import Document

NAME = "junit.xml"

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Case:
    """`result` is None where it passed, else failure, error or skipped."""

    group: str
    name: str
    result: str | None = None
    message: str = ""
    output: str = ""
    seconds: float = 0.0


def write(directory: Path) -> Path:
    """Reads a report directory and writes its `junit.xml`, whole or not at all. Raises ReportError, OSError."""
    return write_whole(directory / NAME, render(files.read_document(directory)))


def render(document: Document) -> bytes:
    """The file, in UTF-8."""
    passed = document.get("verdict") == "pass"
    cases = [_excused(case) if passed else case for case in _cases(document)]
    run = document.get("run") or {}
    totals = {
        "tests": str(len(cases)),
        "failures": str(sum(case.result == "failure" for case in cases)),
        "errors": str(sum(case.result == "error" for case in cases)),
        "time": _time(run.get("duration_s") or 0.0),
    }
    root = ElementTree.Element("testsuites", {"name": "loadgen soak", **totals})
    skipped = str(sum(case.result == "skipped" for case in cases))
    # The oldest of the schemas knows no zone: the time is UTC, and does not say so.
    started_at = str(run.get("started_at") or "1970-01-01T00:00:00")[:19]
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {"name": _clean(f"soak {run.get('id', '')}"), **totals, "skipped": skipped, "timestamp": started_at},
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name in ("seed", "revision", "stack", "mix", "arrivals", "rate_per_s"):
        if name in run:
            ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(str(run[name]))})
    for case in cases:
        _add(suite, case)
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _add(suite: ElementTree.Element, case: Case) -> None:
    element = ElementTree.SubElement(
        suite,
        "testcase",
        {"name": _clean(case.name), "classname": f"loadgen.{case.group}", "time": _time(case.seconds)},
    )
    if case.result == "skipped":
        ElementTree.SubElement(element, "skipped", {"message": _clean(case.message)})
    elif case.result is not None:
        first = case.message.partition("\n")[0]
        child = ElementTree.SubElement(element, case.result, {"message": _clean(first), "type": case.group})
        child.text = _clean(case.message)
    if case.output:
        ElementTree.SubElement(element, "system-out").text = _clean(case.output)


def _excused(case: Case) -> Case:
    if case.result not in ("failure", "error"):
        return case
    return Case(case.group, case.name, output=f"excused: {case.message}", seconds=case.seconds)


def _cases(document: Document) -> Iterator[Case]:
    yield _verdict(document)
    for threshold in document.get("thresholds") or []:
        yield _threshold(threshold)
    for name, scenario in (document.get("scenarios") or {}).items():
        yield _scenario(name, scenario)
    for name, why in (document.get("unsupported") or {}).items():
        yield Case("scenario", name, "skipped", f"not supported by this proxy: {why}")
    for fault in document.get("faults") or []:
        yield _fault(fault)
    yield _drain(document.get("drain") or {})
    yield _ledger(document)
    yield _generator(document.get("generator") or {})


def _verdict(document: Document) -> Case:
    verdict = document.get("verdict")
    seconds = (document.get("run") or {}).get("duration_s") or 0.0
    if verdict == "pass":
        return Case("run", "verdict", seconds=seconds)
    result = "failure" if verdict == "fail" else "error"
    message = "\n".join([f"{verdict}:", *map(str, document.get("reasons") or [])])
    return Case("run", "verdict", result, message.replace(":\n", ": ", 1).rstrip(":"), seconds=seconds)


def _threshold(threshold: Mapping[str, object]) -> Case:
    expression, value = str(threshold.get("expression")), threshold.get("value")
    if value is None:
        return Case("threshold", expression, "error", f"{expression}: nothing was measured")
    if not threshold.get("ok"):
        return Case("threshold", expression, "failure", f"{expression}: measured {value}")
    return Case("threshold", expression, output=f"measured {value}")


def _scenario(name: str, scenario: Document) -> Case:
    wrong = {
        outcome: number for outcome, number in (scenario.get("outcomes") or {}).items() if outcome != "ok" and number
    }
    completed = scenario.get("completed") or 0
    if wrong:
        listed = ", ".join(f"{number} {outcome}" for outcome, number in wrong.items())
        return Case("scenario", name, "failure", f"not ok: {listed}; completed: {completed}")
    if not completed:
        return Case("scenario", name, "error", "never completed")
    return Case("scenario", name, output=f"completed: {completed}")


def _fault(fault: Document) -> Case:
    name = str(fault.get("name") or fault.get("kind"))
    if fault.get("error"):
        return Case("fault", name, "error", str(fault["error"]))
    if fault.get("from_s") is None:
        return Case("fault", name, "error", "it did not happen")
    if fault.get("to_s") is None:
        return Case("fault", name, "error", "it did not heal")
    return Case("fault", name, output=f"from {fault['from_s']} s to {fault['to_s']} s")


def _drain(drain: Document) -> Case:
    pending = drain.get("pending") or []
    if pending:
        lines = [f"{len(pending)} pending after {drain.get('seconds')} s"]
        for item in pending:
            lines.append(f"{item.get('program')}: {item.get('what')} {item.get('labels') or ''} = {item.get('value')}")
            lines += [f"  stream {stream}" for stream in item.get("streams") or []]
        return Case("run", "drain", "failure", "\n".join(lines))
    if not drain or drain.get("observed") is False:
        return Case("run", "drain", "skipped", "no program has gauges to look at")
    return Case("run", "drain", output=f"complete after {drain.get('seconds')} s", seconds=drain.get("seconds") or 0.0)


def _ledger(document: Document) -> Case:
    ledger = document.get("ledger") or {}
    if ledger.get("balanced") is None:
        return Case("run", "ledger", "skipped", "no program keeps a FIN ledger, or it was not judged")
    if not ledger["balanced"]:
        texts = [str(item.get("text")) for item in ledger.get("imbalances") or []]
        return Case("run", "ledger", "failure", "\n".join(texts) or "it does not balance")
    return Case("run", "ledger", output="balanced")


def _generator(generator: Document) -> Case:
    lag = f"longest lag {generator.get('lag_max_s')} s"
    if generator.get("saturated"):
        return Case("run", "generator", "error", f"the generator was saturated; {lag}")
    return Case("run", "generator", output=lag)


def _time(seconds: float) -> str:
    return f"{seconds:.3f}"


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
