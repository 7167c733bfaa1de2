"""What operators see of soaks with faults: every panel has data, the planned faults raise their alerts and no others,
and the ledger balances.

The faults last longer than their alerts wait, so each soak takes minutes; the tests here look at the same ones.
"""

import asyncio
import json
import subprocess
import sys
from math import isfinite
from pathlib import Path
from time import time
from typing import Any, NamedTuple

import pytest
from tests.dashboards import every_query

from loadgen.soak.inside import soak_inside
from loadgen.soak.settings import SoakSettings
from servicekit.run import Stop

pytestmark = pytest.mark.timeout(600)

Containers = Any  # conftest.Containers: a conftest cannot be imported

FAULT_S, SOAK_S = 85, 130
PLAN = """
recovery_s = 20

[[fault]]
kind = "kill"
program = "{program}"
at_s = 20
for_s = {for_s}
"""
JOBS = {"proxy-client", "proxy-server", "http-target", "link", "loadgen", "prometheus"}


FIRING = 'group by (alertname) (ALERTS{alertstate="firing"})'
TOLD_OF = {"SoakEofMissing": ("eof_missing",), "SoakPayloadCorrupt": ("corrupt", "excess", "eof_premature")}
"""A target that is killed in the middle of a response ends it too early. Whether it was in one is a matter of chance;
the verdict says what became of it."""


class Soaked(NamedTuple):
    """A stack after a soak; the generator was scraped last at `last` (time of day)."""

    prometheus: Any
    last: float
    fired: set[str]
    """The alerts that fired in it, and did not before."""
    outcomes: dict[str, int]

    def expected(self, *alerts: str) -> set[str]:
        """These, and those of the outcomes that no fault excuses."""
        told = {name for name, outcomes in TOLD_OF.items() if any(self.outcomes[outcome] for outcome in outcomes)}
        return {*alerts} | told


def soak(containers: Containers, directory: Path, program: str, **load: Any) -> Soaked:
    """A soak in which a program is dead for longer than a minute, and everything is healed at its end."""
    prometheus = containers.prometheus
    before = {name for (name,) in prometheus.query(FIRING)}
    plan = directory / "plan.toml"
    plan.write_text(PLAN.format(program=program, for_s=FAULT_S))
    settings = SoakSettings(stack="compose", mix="small", duration=SOAK_S, faults=plan, **load)

    async def within_bounds() -> None:
        async with asyncio.timeout(SOAK_S + 120):
            await soak_inside(settings, Stop(), containers.stack, directory, "test", "test")

    began = time()
    containers._run(within_bounds())
    (last,) = prometheus.query("max(max_over_time(timestamp(soak_run_info)[3m:1s]))").values()
    since_s = int(time() - began)
    fired = prometheus.query(f'group by (alertname) (last_over_time(ALERTS{{alertstate="firing"}}[{since_s}s]))')
    outcomes = json.loads((directory / "verdict.json").read_text())["outcomes"]
    return Soaked(prometheus, last, {name for (name,) in fired} - before, outcomes)


@pytest.fixture(scope="module")
def without_target(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> Soaked:
    return soak(containers, tmp_path_factory.mktemp("without-target"), "http-target")


def test_everything_is_scraped(without_target: Soaked) -> None:
    jobs = 'min by (of) (label_replace(up, "of", "$1", "job", "(.+)"))'
    assert without_target.prometheus.query(jobs, at=without_target.last) == {(job,): 1.0 for job in JOBS}


def test_every_panel_has_data(without_target: Soaked) -> None:
    prometheus, at = without_target.prometheus, without_target.last
    assert [str(asked) for asked in every_query() if not prometheus.query(asked.expression, at=at)] == []


def test_every_panel_has_had_a_number(without_target: Soaked) -> None:
    """A quantile of what did not happen in the last minute is data, and NaN; but it has happened."""
    prometheus, at = without_target.prometheus, without_target.last
    most = {str(asked): f"max_over_time(({asked.expression})[10m:10s])" for asked in every_query()}
    found = {asked: prometheus.query(expression, at=at).values() for asked, expression in most.items()}
    assert [asked for asked, values in found.items() if not any(map(isfinite, values))] == []


def test_a_target_that_is_gone_raises_its_alert_and_no_other(without_target: Soaked) -> None:
    assert without_target.fired == without_target.expected("TargetDown")


def test_the_ledger_balances(without_target: Soaked) -> None:
    command = [sys.executable, "-m", "loadgen", "ledger", "--prometheus", f"http://{without_target.prometheus.address}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "balanced" in done.stdout


def test_a_tunnel_that_is_down_raises_its_alerts_and_no_others(containers: Containers, tmp_path: Path) -> None:
    """Requests wait for a connection until they are refused, so that somebody always stands still."""
    soaked = soak(containers, tmp_path, "proxy-server", scenario=("get",), rate=10.0)
    assert soaked.fired == soaked.expected("TunnelDown", "SoakStalledNow")
