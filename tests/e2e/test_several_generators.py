"""More than one continuous generator: Prometheus finds each, and each leaves a report of its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadgen.stacks.compose import copy_out

Containers = Any  # conftest.Containers: a conftest cannot be imported

REPLICAS = 2
DRAIN_S = 90


@pytest.fixture
def generators(containers: Containers) -> Iterator[list[Any]]:
    """Those of docker-compose.yml, scaled; gone afterwards."""
    try:
        yield containers.scale("loadgen", REPLICAS)
    finally:
        for container in containers.project.containers("loadgen"):
            container.remove(force=True)


def test_each_replica_is_scraped_and_leaves_a_report_of_its_own(
    containers: Containers, generators: list[Any], tmp_path: Path
) -> None:
    containers.prometheus.wait_for('count(up{job="loadgen"} == 1)', lambda up: up == {(): REPLICAS})
    completed = "sum by (instance) (soak_transactions_total)"
    containers.prometheus.wait_for(f"count({completed} > 0)", lambda busy: busy == {(): REPLICAS})

    for container in generators:
        container.kill("SIGTERM")
    for container in generators:
        container.wait(timeout=DRAIN_S)
    hosts = {container.attrs["Config"]["Hostname"] for container in generators}
    assert len(hosts) == REPLICAS
    for host in hosts:
        copy_out(generators[0], f"/reports/continuous/{host}", tmp_path / host)
        assert json.loads((tmp_path / host / "verdict.json").read_text())["totals"]["completed"] > 0
        assert {"anomalies.jsonl", "report.html"} <= {path.name for path in (tmp_path / host).iterdir()}
