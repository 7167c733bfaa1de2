"""`loadgen soak` through SOCKS5 servers that no one here wrote: Debian's microsocks and dante.

They are skipped where they are not installed, unless FINBACK_REQUIRE_PEERS=1 says that they have to be there.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance.proxies import PROXIES, Target, find, http_target

DURATION = "--duration=5s"
HALF_CLOSING = {"eof_gated", "server_first"}


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    with http_target(tmp_path) as running:
        yield running


@pytest.fixture
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The proxy that the test names."""
    if find(request.param) is None and os.environ.get("FINBACK_REQUIRE_PEERS") != "1":
        pytest.skip(f"{request.param} is not installed (Debian: microsocks, dante-server)")
    with PROXIES[request.param](tmp_path) as address:
        yield address


def soak(target: Target, proxy: str, report: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and verdict.json."""
    command = [sys.executable, "-m", "loadgen", "soak", *target.flags(proxy), f"--report={report}", *arguments]
    code = subprocess.run(command, check=False, capture_output=True, timeout=50).returncode
    return code, json.loads((report / "verdict.json").read_text())


def passes(code: int, verdict: dict[str, Any]) -> bool:
    """A machine that is too busy for the load says nothing against the proxy."""
    return (code, verdict["verdict"]) == ((3, "inconclusive") if verdict["generator"]["saturated"] else (0, "pass"))


@pytest.mark.parametrize("proxy", ["danted"], indirect=True)
def test_dante_passes_with_everything(target: Target, proxy: str, tmp_path: Path) -> None:
    code, verdict = soak(target, proxy, tmp_path, DURATION)
    assert passes(code, verdict), verdict["reasons"]
    assert verdict["unsupported"] == {}
    assert verdict["outcomes"]["ok"] == verdict["totals"]["completed"] == 300
    assert verdict["scenarios"].keys() > HALF_CLOSING


@pytest.mark.parametrize("proxy", ["microsocks"], indirect=True)
def test_microsocks_passes_without_what_it_does_not_support(target: Target, proxy: str, tmp_path: Path) -> None:
    """It takes a half-close for a full close, every time: that is reported as such, and nothing as a stall."""
    code, verdict = soak(target, proxy, tmp_path, DURATION)
    assert passes(code, verdict), verdict["reasons"]
    assert verdict["unsupported"] == dict.fromkeys(HALF_CLOSING, "half-close is treated as a full close")
    assert verdict["outcomes"]["ok"] == verdict["totals"]["completed"] == 300
    assert not any(stall["count"] for stall in verdict["stalls"].values())


@pytest.mark.parametrize("proxy", ["microsocks"], indirect=True)
def test_what_was_asked_for_by_name_and_is_not_supported(target: Target, proxy: str, tmp_path: Path) -> None:
    """The rest is measured, and it is not a pass."""
    asked = ["--scenario=eof_gated", "--scenario=chunked", "--rate=20", "--duration=1s"]
    code, verdict = soak(target, proxy, tmp_path, *asked)
    assert (code, verdict["verdict"]) == (3, "inconclusive")
    assert any("eof_gated" in reason for reason in verdict["reasons"])
    assert verdict["outcomes"]["ok"] == verdict["totals"]["completed"] == 20


@pytest.mark.parametrize("proxy", ["microsocks"], indirect=True)
def test_without_the_preflight_it_is_a_failure(target: Target, proxy: str, tmp_path: Path) -> None:
    asked = ["--scenario=eof_gated", "--no-preflight", "--rate=20", "--duration=1s"]
    code, verdict = soak(target, proxy, tmp_path, *asked)
    assert (code, verdict["verdict"]) == (1, "fail")
    assert verdict["unsupported"] == {}
    assert verdict["outcomes"]["eof_premature"] + verdict["outcomes"]["reset"] == 20


@pytest.mark.parametrize("proxy", ["microsocks", "danted"], indirect=True)
def test_a_target_that_is_not_there(proxy: str, tmp_path: Path) -> None:
    nowhere = Target("127.0.0.1:1", "127.0.0.1:2")
    code, verdict = soak(nowhere, proxy, tmp_path, DURATION)
    assert (code, verdict["verdict"]) == (3, "inconclusive")
    assert f"cannot be reached through the proxy {proxy}" in verdict["reasons"][0]
