"""A target that stands still is seen where it stalls, in Prometheus, while it lasts."""

from typing import Any

import pytest

Containers = Any  # conftest.Containers: a conftest cannot be imported

WAITING_FOR_THE_TARGET = {"ttfb", "body", "eof_wait", "upload_eof", "request_write"}
PROGRAMS_UP = 'up{job=~"proxy-client|proxy-server|http-target|loadgen"}'
STALLS = "sum by (phase) (soak_stalls_total)"


@pytest.fixture
def load(containers: Containers) -> Any:
    """The continuous generator of docker-compose.yml."""
    containers.up("loadgen")
    yield containers.project.container("loadgen")
    containers.project.container("loadgen").stop()


def test_a_paused_target_raises_the_stalls_of_the_phases_that_wait_for_it(containers: Containers, load: Any) -> None:
    prometheus = containers.prometheus
    prometheus.wait_for('sum(soak_transactions_total{outcome="ok"})', lambda ok: ok.get((), 0) >= 100)
    before = prometheus.query(STALLS)
    target = containers.project.container("http-target")

    target.pause()
    try:
        prometheus.wait_for(STALLS, lambda stalls: stalls["ttfb",] > before["ttfb",])
        assert prometheus.query('soak_stalled_transactions{phase="ttfb"}')["ttfb",] > 0
    finally:
        target.unpause()
    prometheus.wait_for("sum(soak_stalled_transactions)", lambda stalled: stalled[()] == 0)

    after = prometheus.query(STALLS)
    recovered = prometheus.query("sum by (phase) (soak_stalls_recovered_total)")
    rose = {phase for (phase,), count in after.items() if count > before[phase,]}
    assert "ttfb" in rose
    assert rose <= WAITING_FOR_THE_TARGET  # the way to the target stood open
    assert recovered["ttfb",] > 0
    prometheus.wait_for(f"count({PROGRAMS_UP} == 1)", lambda up: up == {(): 4})
