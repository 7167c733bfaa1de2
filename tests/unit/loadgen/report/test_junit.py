"""junit.xml: what CI systems read of it, and that it never says anything but the verdict."""

from copy import deepcopy
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.unit.loadgen.report import sample

from loadgen.report import junit

RICH, CALM = sample.rich(), sample.calm()

CHILDREN = {
    "testsuites": ("testsuite",),
    "testsuite": ("properties", "testcase"),
    "properties": ("property",),
    "testcase": ("skipped", "error", "failure", "system-out"),
}
ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "time", "skipped", "timestamp"},
    "property": {"name", "value"},
    "testcase": {"name", "classname", "time"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message"},
}


def _cases(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Result and text by classname and name; checks the file on the way."""
    root = ElementTree.fromstring(junit.render(document))
    for element in root.iter():
        assert set(element.keys()) == ATTRIBUTES.get(element.tag, set()), element.tag
        order = [CHILDREN.get(element.tag, ()).index(child.tag) for child in element]
        assert order == sorted(order), element.tag
    [suite] = root
    found = {}
    for case in suite.findall("testcase"):
        float(case.get("time", ""))
        result = next((child for child in case if child.tag != "system-out"), None)
        text = result if result is not None else case.find("system-out")
        said = "" if text is None else f"{text.get('message') or ''}\n{text.text or ''}"
        key = f"{case.get('classname', '').removeprefix('loadgen.')}: {case.get('name')}"
        found[key] = ("passed" if result is None else result.tag, said)
    results = [result for result, _ in found.values()]
    for element, names in (
        (root, ("tests", "failures", "errors")),
        (suite, ("tests", "failures", "errors", "skipped")),
    ):
        numbers = {"tests": len(results), "failures": results.count("failure"), "errors": results.count("error")}
        numbers["skipped"] = results.count("skipped")
        assert {name: int(element.get(name, "")) for name in names} == {name: numbers[name] for name in names}
    return found


def test_a_case_for_everything_that_can_be_wrong() -> None:
    cases = _cases(RICH.document)
    for case, result, said in (
        ("run: verdict", "failure", "quiet.timeouts.eof_wait == 0: was 3"),
        ("threshold: quiet.outcome.eof_missing == 0", "failure", "measured 3"),
        ("threshold: quiet.latency.p99 < 250ms", "passed", "measured 0.2"),
        ("scenario: get", "failure", "socks_rejected"),
        ("scenario: upload", "skipped", "half-close"),
        ("fault: kill -9", "passed", "from 39.0 s to 40.8 s"),
        ("run: drain", "failure", "tunnel_half_closed_streams"),
        ("run: ledger", "failure", "lost between proxy-server and proxy-client"),
        ("run: generator", "passed", "longest lag"),
    ):
        assert cases[case][0] == result, case
        assert said in cases[case][1], case


def test_a_run_that_passed_has_nothing_but_passed_cases() -> None:
    assert {result for result, _ in _cases(CALM.document).values()} == {"passed"}


def test_what_a_run_that_passed_excused_is_told_and_does_not_fail() -> None:
    document = deepcopy(RICH.document) | {"verdict": "pass", "reasons": []}
    cases = _cases(document)
    assert {result for result, _ in cases.values()} == {"passed", "skipped"}
    assert cases["scenario: get"][1].startswith("\nexcused: not ok: ")


def test_inconclusive_is_an_error() -> None:
    document = deepcopy(CALM.document) | {"verdict": "inconclusive", "reasons": ["the generator was saturated"]}
    document["generator"]["saturated"] = True
    document["thresholds"][0] |= {"value": None, "ok": False}
    document["scenarios"]["get"] = {"completed": 0, "outcomes": {}, "latency_ms": {}}
    document["faults"] = [
        {"name": "kill", "kind": "kill", "from_s": None, "to_s": None, "error": None},
        {"name": "pause", "kind": "pause", "from_s": 1.0, "to_s": None, "error": None},
        {"name": "drain", "kind": "drain", "from_s": 1.0, "to_s": 2.0, "error": "not done within 20 s"},
    ]
    cases = _cases(document)
    for case, said in (
        ("run: verdict", "saturated"), ("run: generator", "saturated"), ("scenario: get", "never completed"),
        ("threshold: outcome.eof_missing == 0", "nothing was measured"), ("fault: kill", "did not happen"),
        ("fault: pause", "did not heal"), ("fault: drain", "not done within 20 s"),
    ):  # fmt: skip
        assert cases[case][0] == "error", case
        assert said in cases[case][1], case
    assert "failure" not in {result for result, _ in cases.values()}


def test_what_nobody_could_look_at_is_skipped() -> None:
    document = deepcopy(CALM.document)
    document["ledger"] = {"balanced": None, "imbalances": []}
    document["drain"]["observed"] = False
    cases = _cases(document)
    assert (cases["run: ledger"][0], cases["run: drain"][0]) == ("skipped", "skipped")


@pytest.mark.parametrize("document", [sample.bare(), {"verdict": "fail"}, {"verdict": "inconclusive", "reasons": None}])
def test_an_older_or_a_bare_verdict(document: dict[str, Any]) -> None:
    cases = _cases(document)
    assert cases["run: ledger"][0] == "skipped"
    assert (cases["run: verdict"][0] == "passed") == (document["verdict"] == "pass")


def test_whatever_xml_cannot_hold_is_replaced() -> None:
    document = deepcopy(CALM.document) | {"verdict": "fail", "reasons": ["\x00\x1b[31m<&>\ud800\ufffe"]}
    assert "\ufffd\ufffd[31m<&>\ufffd\ufffd" in _cases(document)["run: verdict"][1]
