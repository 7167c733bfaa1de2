"""Reading the proxies' metrics: gauges that have to come back, and the ends of this run."""

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from loadgen.measure import drain as drain_module
from loadgen.measure.drain import Drain, watch_gauges
from loadgen.measure.observe import EVENTS, ends_between, rescued, snapshot
from servicekit.address import Address
from servicekit.metrics import MetricsServer, registry

Serve = Callable[[CollectorRegistry], str]


@pytest.fixture
async def serve(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    """Serves a registry as a proxy does; gives the URL."""
    monkeypatch.setattr(drain_module, "LOOK_EVERY_S", 0.001)
    with ExitStack() as servers:

        def served(series: CollectorRegistry) -> str:
            server = servers.enter_context(MetricsServer(Address("127.0.0.1", 0), series, lambda: None))
            return f"http://{server.address}/metrics"

        yield served


async def test_nothing_to_watch() -> None:
    assert await watch_gauges({}, within_s=0) == ()
    assert Drain(0.1).complete


async def test_gauges_at_zero(serve: Serve) -> None:
    series = CollectorRegistry()
    Gauge("tunnel_streams_active", "", ("role",), registry=series).labels("client")
    assert await watch_gauges({"proxy-client": serve(series)}, within_s=0) == ()


async def test_it_waits_for_the_last_one(serve: Serve) -> None:
    series = CollectorRegistry()
    looks = iter([2.0, 1.0, 0.0])
    Gauge("socks_connections_active", "", registry=series).set_function(lambda: next(looks))
    assert await watch_gauges({"proxy-client": serve(series)}, within_s=10) == ()
    assert next(looks, None) is None


async def test_what_does_not_come_back_is_named(serve: Serve) -> None:
    client, server = CollectorRegistry(), CollectorRegistry()
    Gauge("socks_connections_active", "", registry=client).set(0)
    buffered = Gauge("tunnel_buffered_bytes", "", ("role", "direction"), registry=server)
    buffered.labels("server", "client_to_target").set(4096)
    buffered.labels("server", "target_to_client").set(0)
    pending = await watch_gauges({"proxy-client": serve(client), "proxy-server": serve(server)}, within_s=0.01)
    assert pending == (
        {
            "program": "proxy-server",
            "what": "tunnel_buffered_bytes",
            "labels": {"role": "server", "direction": "client_to_target"},
            "value": 4096,
        },
    )
    assert not Drain(30.0, pending).complete


async def test_a_program_that_does_not_answer_is_pending() -> None:
    pending = await watch_gauges({"proxy-client": "http://127.0.0.1:1/metrics"}, within_s=0)
    assert pending == ({"program": "proxy-client", "what": "metrics", "value": "unreachable"},)


async def test_snapshot(serve: Serve) -> None:
    """Own process from /proc, another one by its metrics, and the ledger by hop and direction."""
    series = registry()
    ends = Counter("tunnel_ends", "", ("role", "direction", "event"), registry=series)
    ends.labels("client", "target_to_client", "received").inc(3)
    ends.labels("client", "target_to_client", "rescued").inc()
    seen = await snapshot({"proxy-client": serve(series), "proxy-server": "http://127.0.0.1:1/metrics"}, {})
    assert seen.ends == {
        "proxy-client": {"target_to_client": {"received": 3, "forwarded": 0, "confirmed": 0, "rescued": 1}}
    }
    for program in ("loadgen", "proxy-client"):
        assert (seen.resources[program].rss_bytes or 0) > 1_000_000
        assert (seen.resources[program].fds or 0) > 3
    assert seen.resources["proxy-server"].rss_bytes is None


def test_ends_between() -> None:
    def ledger(*counts: int) -> dict[str, dict[str, dict[str, int]]]:
        return {"proxy-client": {"target_to_client": dict(zip(EVENTS, counts, strict=True))}}

    assert ends_between(ledger(10, 10, 9, 0), ledger(15, 15, 15, 1)) == ledger(5, 5, 6, 1)
    assert ends_between({}, ledger(1, 1, 1, 0)) == ledger(1, 1, 1, 0)
    assert ends_between(ledger(10, 10, 10, 0), ledger(2, 2, 2, 0)) == ledger(2, 2, 2, 0), "it was restarted"
    assert rescued(ledger(1, 1, 1, 3)) == 3
