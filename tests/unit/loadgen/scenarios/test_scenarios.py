"""Every scenario against the real http-target, through a SOCKS5 relay that does nothing wrong."""

import pytest
from tests.unit.loadgen.conftest import Bench, Peers, Target

from loadgen.scenarios import SCENARIOS
from loadgen.scenarios.command import main
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase

RAW_PHASES = {Phase.TCP_CONNECT, Phase.SOCKS_GREETING, Phase.SOCKS_CONNECT, Phase.REQUEST_WRITE}
REAL_CLIENT_PHASES = {Phase.TCP_CONNECT, Phase.SOCKS_CONNECT, Phase.REQUEST_WRITE, Phase.TTFB, Phase.BODY}
PHASES = {
    "get": REAL_CLIENT_PHASES,
    "keep_alive": REAL_CLIENT_PHASES,
    "chunked": RAW_PHASES | {Phase.TTFB, Phase.BODY, Phase.EOF_WAIT},
    "close_delimited": RAW_PHASES | {Phase.TTFB, Phase.BODY, Phase.EOF_WAIT},
    "download": RAW_PHASES | {Phase.TTFB, Phase.BODY, Phase.EOF_WAIT},
    "upload": RAW_PHASES | {Phase.TTFB, Phase.BODY, Phase.EOF_WAIT},
    "eof_gated": RAW_PHASES | {Phase.UPLOAD_EOF, Phase.BODY, Phase.EOF_WAIT},
    "server_first": RAW_PHASES | {Phase.TTFB, Phase.BODY, Phase.UPLOAD_EOF, Phase.EOF_WAIT},
}
"""What each scenario has to have measured."""


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("size_bytes", [1, 3000, 300_000])
async def test_completes(bench: Bench, peers: Peers, target: Target, scenario: str, size_bytes: int) -> None:
    proxy = await peers.relay()
    requests = SCENARIOS[scenario].requests
    transaction = bench.start(
        scenario, proxy, target.http, target.first, size_bytes=size_bytes, requests=requests, seed=1 << 47
    )
    outcome = await bench.outcome(transaction)
    assert outcome is Outcome.OK, bench.anomalies("outcome")
    uploads = scenario in ("upload", "eof_gated", "server_first")
    assert transaction.sent_bytes == (size_bytes if uploads else 0)
    greeting = 64 if scenario == "server_first" else 0
    assert transaction.received_bytes == (greeting if uploads else size_bytes * requests)
    measured = {phase for phase in Phase if bench.sample("soak_phase_duration_seconds_count", phase=phase)}
    assert measured == PHASES[scenario]


def test_every_scenario_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SCENARIOS)
    assert len(SCENARIOS) == 8
    assert all(len(line.split()) > 3 for line in lines)


async def test_a_request_that_the_target_refuses(bench: Bench, peers: Peers, target: Target) -> None:
    transaction = bench.start("get", await peers.relay(), target.http, think_s=1000.0)
    assert await bench.outcome(transaction) is Outcome.HTTP_ERROR
