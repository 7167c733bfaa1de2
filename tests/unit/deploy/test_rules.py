"""Prometheus' rules: promtool is content, nothing is left untested or undocumented, and no metric is made up.

What promtool does not say is read from the text, in the one way in which the files here are written.
"""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector
from tests.unit.deploy.promtool import PROMETHEUS, ROOT, promtool
from tests.unit.tunnel.test_metrics import Scrape

from http_target.metrics import Metrics as TargetMetrics
from loadgen.measure.metrics import SoakMetrics
from proxy_client.metrics import SocksMetrics
from proxy_server.metrics import DialMetrics

RULE_FILES = sorted(PROMETHEUS.glob("rules/*.yml"))
TEST_FILES = sorted(PROMETHEUS.glob("tests/*.yml"))
RUNBOOK = ROOT / "docs/RUNBOOK.md"

OF_PROMETHEUS = {"up"}
NO_METRICS = {"and", "or", "unless", "offset"}

_RULE = re.compile(r"^ {6}- (alert|record): (\S+)\n((?:(?: {8}.*)?\n)+)", re.MULTILINE)
_EXPRESSION = re.compile(r"^ {8}expr: (?:\|\n)?((?:.*\n)(?: {10}.*\n)*)", re.MULTILINE)
_NO_NAMES = re.compile(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|on|group_left)\s*\([^)]*\)")
_NAME = re.compile(r"(?<![\w:])[a-z_][\w:]*\b(?!\s*\()")
_CASE = re.compile(r"alertname: (\w+)\n +exp_alerts:( \[\])?$", re.MULTILINE)


def text(paths: list[Path]) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in paths)


def rules(kind: str) -> dict[str, str]:
    """Every alert or record by its name, with what stands under it."""
    return {name: body for found, name, body in _RULE.findall(text(RULE_FILES)) if found == kind}


def metrics_of(rule: str) -> set[str]:
    """The names of series in its expression."""
    found = _EXPRESSION.search(rule)
    assert found is not None, rule
    return set(_NAME.findall(_NO_NAMES.sub(" ", found[1]))) - NO_METRICS


def exported() -> set[str]:
    """The names of all series that the programs have."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    SoakMetrics(registry, ["get"])
    SocksMetrics(registry)
    DialMetrics(registry)
    TargetMetrics(registry)
    families = [*registry.collect(), *Scrape("client").registry.collect()]
    return {sample.name for family in families for sample in family.samples}


ALERTS, RECORDS = rules("alert"), rules("record")


def test_promtool_accepts_the_configuration_and_its_rules() -> None:
    said = promtool("check", "config", "prometheus.yml")
    assert f"{len(RULE_FILES)} rule files found" in said, "rule_files leads to them"
    said = promtool("check", "rules", *(f"rules/{path.name}" for path in RULE_FILES))
    assert sum(map(int, re.findall(r"(\d+) rules found", said))) == len(ALERTS) + len(RECORDS), (
        "none is overlooked below"
    )


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", f"tests/{path.name}")


def test_compose_mounts_what_the_configuration_loads() -> None:
    mounted = "- ./deploy/prometheus/rules:/etc/prometheus/rules:ro\n"
    assert mounted in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_on_both_sides_of_its_border(alert: str) -> None:
    assert {silent == "" for name, silent in _CASE.findall(text(TEST_FILES)) if name == alert} == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_it_is_and_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert re.search(r"^ {8}for: \d+[msh]$", rule, re.MULTILINE)
    assert re.search(r"^ {10}severity: (page|ticket)$", rule, re.MULTILINE)
    assert re.search(r"^ {10}summary: .", rule, re.MULTILINE)
    description = re.search(r"^ {10}description: >-\n((?: {12}.*\n)+)", rule, re.MULTILINE)
    assert description is not None
    assert "$labels.instance" in description[1]
    assert "$value" in description[1] or "{{ if" in description[1], "how much, or which of several things"
    assert f"runbook_url: docs/RUNBOOK.md#{alert.lower()}\n" in rule
    assert f"\n## {alert}\n" in RUNBOOK.read_text(encoding="utf-8")


def test_the_runbook_knows_no_other_alerts() -> None:
    headings = re.findall(r"^## ([A-Z][a-z]+[A-Z]\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)


@pytest.mark.parametrize("record", RECORDS)
def test_a_recorded_series_is_tested(record: str) -> None:
    assert re.search(rf"expr: {re.escape(record)}[\s{{]", text(TEST_FILES))


@pytest.mark.parametrize("rule", [*ALERTS, *RECORDS])
def test_every_series_exists(rule: str) -> None:
    used = metrics_of((ALERTS | RECORDS)[rule])
    assert used
    assert used <= exported() | OF_PROMETHEUS | set(RECORDS)


def test_names_are_found_in_expressions() -> None:
    one = '        expr: rate(a_total{b="c", d!="e"}[5m]) > 9e3\n        for: 1m\n'
    two = "        expr: |\n          sum by (a) (b) / on (c) d:e:f offset 10m\n          and time() - g < 1\n"
    assert metrics_of(one) == {"a_total"}
    assert metrics_of(two) == {"b", "d:e:f", "g"}
