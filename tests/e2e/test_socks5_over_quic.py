"""HTTP through SOCKS5 over QUIC, between containers; the load comes from the generator's container."""

import hashlib
import socket
from pathlib import Path
from time import time
from typing import Any

import httpx
import pytest
from tests.pairings import Pairing, every_pairing

from loadgen.scenarios import SCENARIOS
from loadgen.transaction.phases import Phase
from servicekit import payload

Containers = Any  # conftest.Containers: a conftest cannot be imported

SUCCEEDED, NOT_ALLOWED, HOST_UNREACHABLE, CONNECTION_REFUSED = 0, 2, 4, 5
ALWAYS_ZERO = ("eof_missing", "eof_premature", "corrupt", "excess", "timeout", "reset")


@every_pairing
def test_integration_socks5_over_quic(containers: Containers, tmp_path: Path, pairing: Pairing) -> None:
    """Each scenario a few times, and the FIN ledger of both proxies says that it went through them."""
    code, verdict = containers.soak(["--duration", "5s", "--rate", "20"], tmp_path)

    assert verdict["verdict"] == "pass", verdict["reasons"]
    assert code == 0
    assert verdict["run"]["engine"] == pairing._asdict()
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
    began = time()
    code, verdict = containers.soak(["--duration", "30s"], tmp_path)

    assert verdict["verdict"] == "pass", verdict["reasons"]
    assert code == 0
    assert verdict["run"]["duration_s"] >= 30
    assert verdict["totals"]["completed"] >= 1500
    assert len(SCENARIOS) == 8
    assert all(verdict["scenarios"][name]["completed"] > 0 for name in SCENARIOS)
    assert [verdict["outcomes"].get(outcome, 0) for outcome in ALWAYS_ZERO] == [0] * len(ALWAYS_ZERO)
    assert verdict["drain"]["complete"]
    # The generator is gone; what Prometheus saw of it while it ran is not. Others ran before it.
    since_s = int(time() - began)
    for series in ("soak_stalls_total", "soak_timeouts_total"):
        seen = containers.prometheus.query(f"max by (phase) (max_over_time({series}[{since_s}s]))")
        assert {phase for (phase,) in seen} == set(Phase), series
        assert set(seen.values()) == {0}, series


async def test_the_published_port_serves_the_host(containers: Containers) -> None:
    url = "http://http-target:8080/bytes?seed=3&size=1000000&framing=close"
    async with httpx.AsyncClient(proxy=f"socks5h://{containers.socks[0]}:{containers.socks[1]}", timeout=20) as client:
        response = await client.get(url)

    assert response.status_code == 200
    assert hashlib.sha256(response.content).hexdigest() == payload.sha256(3, 1_000_000)


@pytest.mark.parametrize(
    ("host", "port", "reply"),
    [
        ("http-target", 8080, SUCCEEDED),
        ("http-target", 1, CONNECTION_REFUSED),
        ("127.0.0.1", 9102, NOT_ALLOWED),
        ("169.254.169.254", 80, NOT_ALLOWED),
        ("prometheus.invalid", 80, HOST_UNREACHABLE),
    ],
)
def test_every_target_has_the_reply_that_says_what_became_of_it(
    containers: Containers, host: str, port: int, reply: int
) -> None:
    name = host.encode()
    with socket.create_connection(containers.socks, timeout=20) as client, client.makefile("rb") as answers:
        client.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
        assert answers.read(2) == b"\x05\x00"
        assert answers.read(4)[1] == reply
