"""HTTP through SOCKS5 over QUIC, between containers; the load comes from the generator's container."""

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadgen.scenarios import SCENARIOS
from loadgen.transaction.phases import Phase
from servicekit import payload

Containers = Any  # conftest.Containers: a conftest cannot be imported

ALWAYS_ZERO = ("eof_missing", "eof_premature", "corrupt", "excess", "timeout", "reset")


def test_integration_socks5_over_quic(containers: Containers, tmp_path: Path) -> None:
    """Each scenario a few times, and the FIN ledger of both proxies says that it went through them."""
    code, verdict = containers.soak(["--duration", "5s", "--rate", "20"], tmp_path)

    assert verdict["verdict"] == "pass", verdict["reasons"]
    assert code == 0
    assert verdict["totals"]["completed"] >= 90
    assert set(verdict["scenarios"]) == set(SCENARIOS)
    assert verdict["outcomes"].get("ok") == verdict["totals"]["completed"]
    assert verdict["drain"]["complete"]
    confirmed = containers.prometheus.wait_for(
        'tunnel_ends_total{event="confirmed"}', lambda ends: len(ends) == 4 and min(ends.values()) >= 90
    )
    rescued = containers.prometheus.query('tunnel_ends_total{event="rescued"}')
    assert set(rescued.values()) == {0}, (confirmed, rescued)


def test_soak_socks5_over_quic_30s(containers: Containers, tmp_path: Path) -> None:
    code, verdict = containers.soak(["--duration", "30s"], tmp_path)

    assert verdict["verdict"] == "pass", verdict["reasons"]
    assert code == 0
    assert verdict["run"]["duration_s"] >= 30
    assert verdict["totals"]["completed"] >= 1500
    assert len(SCENARIOS) == 8
    assert all(verdict["scenarios"][name]["completed"] > 0 for name in SCENARIOS)
    assert [verdict["outcomes"].get(outcome, 0) for outcome in ALWAYS_ZERO] == [0] * len(ALWAYS_ZERO)
    assert verdict["drain"]["complete"]
    # The generator is gone; what Prometheus saw of it while it ran is not.
    for series in ("soak_stalls_total", "soak_timeouts_total"):
        seen = containers.prometheus.query(f"max by (phase) (max_over_time({series}[5m]))")
        assert {phase for (phase,) in seen} == set(Phase), series
        assert set(seen.values()) == {0}, series


async def fetch(containers: Containers, url: str) -> httpx.Response:
    async with httpx.AsyncClient(proxy=f"socks5h://{containers.socks}", timeout=20) as client:
        return await client.get(url)


async def test_the_published_port_serves_the_host(containers: Containers) -> None:
    response = await fetch(containers, "http://http-target:8080/bytes?seed=3&size=1000000&framing=close")

    assert response.status_code == 200
    assert hashlib.sha256(response.content).hexdigest() == payload.sha256(3, 1_000_000)


@pytest.mark.parametrize(
    ("url", "reply"),
    [
        ("http://http-target:1/", "Connection refused"),
        ("http://127.0.0.1:9102/metrics", "Connection not allowed by ruleset"),
        ("http://169.254.169.254/", "Connection not allowed by ruleset"),
    ],
)
async def test_what_cannot_be_reached_has_the_reply_that_says_why(containers: Containers, url: str, reply: str) -> None:
    with pytest.raises(httpx.ProxyError, match=reply):
        await fetch(containers, url)
