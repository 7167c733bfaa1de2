"""The controls that are loads are no formality: each of them misses where what it is about did not happen."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from tests.unit.loadgen.conftest import Peers, Target
from tests.unit.loadgen.faulty.conftest import Proxies
from tests.unit.loadgen.selftest.bench import bench_of

from loadgen.measure.anomalies import Anomalies
from loadgen.selftest import controls
from loadgen.selftest.bench import Bench
from loadgen.stack_api import Stack
from servicekit.address import Address


@pytest.fixture
async def bench(target: Target, tmp_path: Path) -> AsyncIterator[Bench]:
    proxies = Proxies()
    with Anomalies(tmp_path / "anomalies.jsonl") as anomalies:
        yield bench_of(("none", "byte_flipped"), proxies, target, anomalies)
    await proxies.close()


@dataclass
class TunnelStack:
    """A stack whose tunnel is a proxy of this process, and whose link tells what the test says."""

    proxy: Address
    target: Address
    server_first: Address
    metrics: dict[str, str]


async def link_of(peers: Peers, lost: int) -> dict[str, str]:
    """The metrics port of a link that has lost so many datagrams."""
    text = f'link_datagrams_total{{direction="client_to_server",event="lost"}} {lost}\n'.encode()

    async def speak(reader, writer):  # type: ignore[no-untyped-def]
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))

    return {"link": f"http://{await peers.serve(speak)}/metrics"}


@pytest.mark.parametrize(("fault", "lost", "says"), [
    ("none", 3, ""), ("none", 0, "nothing is proved"), ("byte_flipped", 3, "corrupt in body"),
    ("byte_flipped", 3, "the verdict is fail, not pass"),
])  # fmt: skip
async def test_loss(
    bench: Bench, peers: Peers, monkeypatch: pytest.MonkeyPatch, fault: str, lost: int, says: str
) -> None:
    monkeypatch.setattr(controls, "LOSS_S", 1.0)
    monkeypatch.setattr(controls, "LOSS_RATE_PER_S", 60.0)  # so that every scenario has its turn
    monkeypatch.setattr(controls, "MIX", "default")
    stack = TunnelStack(bench.proxies[fault], bench.target, bench.server_first, await link_of(peers, lost))
    row = await controls.loss(cast(Stack, stack), bench)
    assert bool(row.misses) == bool(says)
    assert says in "; ".join(row.misses)


async def test_a_generator_that_was_not_held_up_is_a_miss(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "SATURATED_S", 0.5)
    monkeypatch.setattr(controls, "_block", lambda seconds: None)
    row = await controls.saturated(bench, "none")
    assert any("was not blamed" in miss for miss in row.misses)
    assert any("not inconclusive" in miss for miss in row.misses)
