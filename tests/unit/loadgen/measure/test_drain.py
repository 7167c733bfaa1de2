"""Reading the proxies' metrics: gauges that have to come back, streams that are still open, the ends of this run."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from loadgen.measure import drain as drain_module
from loadgen.measure.drain import GAUGES, MOST_STREAMS, Drain, Watched, watch_gauges
from loadgen.measure.observe import snapshot
from servicekit.address import Address
from servicekit.metrics import MetricsServer, registry

CLIENT_ONLY, SERVER_ONLY = "socks_connections_active", "tunnel_dials_active"


class Serve(Protocol):
    """Serves a registry as a proxy does; gives the URL."""

    def __call__(self, series: CollectorRegistry, pending: Callable[[], Mapping[str, Any]] | None = None, /) -> str: ...


@pytest.fixture
async def serve(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    monkeypatch.setattr(drain_module, "LOOK_EVERY_S", 0.001)
    with ExitStack() as servers:

        def served(series: CollectorRegistry, pending: Callable[[], Mapping[str, Any]] | None = None, /) -> str:
            documents = {} if pending is None else {"/pending": lambda query: pending()}
            port = MetricsServer(Address("127.0.0.1", 0), series, lambda: None, documents=documents)
            return f"http://{servers.enter_context(port).address}/metrics"

        yield served


def proxy(*without: str) -> tuple[CollectorRegistry, dict[str, Gauge]]:
    """A proxy's gauges, all at zero."""
    series = CollectorRegistry()
    gauges = {name: Gauge(name, "", registry=series) for name in GAUGES if name not in without}
    return series, gauges


def proxy_client(*without: str) -> tuple[CollectorRegistry, dict[str, Gauge]]:
    return proxy(SERVER_ONLY, *without)


def proxy_server(*without: str) -> tuple[CollectorRegistry, dict[str, Gauge]]:
    return proxy(CLIENT_ONLY, *without)


def values(looks: Iterable[float]) -> tuple[Iterator[float], Callable[[], float]]:
    """One value for each look, which is asked for once."""
    left = iter(looks)
    return left, lambda: next(left)


def stream(number: int) -> dict[str, Any]:
    return {
        "connection": 1, "stream": number, "quic_stream": 4 * number, "direction": "target_to_client",
        "state": "finished", "age_s": 12.5, "since_end_s": 9.0,
    }  # fmt: skip


async def test_nothing_to_watch() -> None:
    """Nothing is pending, and nobody may take that for a proof."""
    assert await watch_gauges({}, within_s=0) == Watched((), observed=False)
    assert Drain(0.1).complete


async def test_gauges_at_zero(serve: Serve) -> None:
    urls = {"proxy-client": serve(proxy_client()[0]), "proxy-server": serve(proxy_server()[0])}
    assert await watch_gauges(urls, within_s=0) == Watched((), observed=True)


async def test_it_waits_for_the_last_one(serve: Serve) -> None:
    series, gauges = proxy_client()
    looks, look = values([2.0, 1.0, 0.0, 0.0])
    gauges[CLIENT_ONLY].set_function(look)
    assert await watch_gauges({"proxy-client": serve(series)}, within_s=10) == Watched((), observed=True)
    assert next(looks, None) is None


async def test_a_zero_between_two_flushes_is_no_end(serve: Serve) -> None:
    """Two looks in a row have to find everything at zero."""
    series, gauges = proxy_client()
    looks, look = values([0.0, 3.0, 0.0, 0.0])
    gauges["tunnel_buffered_bytes"].set_function(look)
    assert await watch_gauges({"proxy-client": serve(series)}, within_s=10) == Watched((), observed=True)
    assert next(looks, None) is None


async def test_a_zero_at_the_very_end_is_looked_at_again(serve: Serve) -> None:
    series, gauges = proxy_client()
    _, look = values([0.0, 3.0])
    gauges["tunnel_buffered_bytes"].set_function(look)
    watched = await watch_gauges({"proxy-client": serve(series)}, within_s=0)
    assert [item["what"] for item in watched.pending] == ["tunnel_buffered_bytes"]


async def test_what_does_not_come_back_is_named(serve: Serve) -> None:
    client, _ = proxy_client()
    server, _ = proxy_server("tunnel_buffered_bytes")
    buffered = Gauge("tunnel_buffered_bytes", "", ("role", "direction"), registry=server)
    buffered.labels("server", "client_to_target").set(4096)
    buffered.labels("server", "target_to_client").set(0)
    watched = await watch_gauges({"proxy-client": serve(client), "proxy-server": serve(server)}, within_s=0.01)
    assert watched.pending == (
        {
            "program": "proxy-server",
            "what": "tunnel_buffered_bytes",
            "labels": {"role": "server", "direction": "client_to_target"},
            "value": 4096,
        },
    )
    assert not Drain(30.0, watched.pending).complete


async def test_the_streams_of_a_program_whose_gauges_are_not_back(serve: Serve) -> None:
    """With the first thing that is pending of it; a program that is well is not asked."""
    client, gauges = proxy_client()
    gauges["tunnel_streams_active"].set(30)
    gauges["tunnel_half_closed_streams"].set(30)
    server, _ = proxy_server()
    streams = [stream(number) | {"host": "target.example"} for number in range(1, 31)]
    urls = {
        "proxy-client": serve(client, lambda: {"count": 30, "streams": streams}),
        "proxy-server": serve(server, lambda: {"count": 1, "streams": [stream(1)]}),
    }
    first, second = (await watch_gauges(urls, within_s=0)).pending
    assert (first["what"], first["value"]) == ("tunnel_streams_active", 30)
    assert first["streams"] == [stream(number) for number in range(1, MOST_STREAMS + 1)]
    assert "streams" not in second


@pytest.mark.parametrize(
    "answer", [{"streams": []}, {"streams": 7}, {"streams": [7]}, {}, []], ids=["none", "number", "numbers", "{}", "[]"]
)
async def test_a_program_that_names_no_streams(serve: Serve, answer: Any) -> None:
    series, gauges = proxy_client()
    gauges["tunnel_streams_active"].set(1)
    (item,) = (await watch_gauges({"proxy-client": serve(series, lambda: answer)}, within_s=0)).pending
    assert "streams" not in item


async def test_a_program_that_has_no_such_page(serve: Serve) -> None:
    series, gauges = proxy_client()
    gauges["tunnel_streams_active"].set(1)
    (item,) = (await watch_gauges({"proxy-client": serve(series)}, within_s=0)).pending
    assert "streams" not in item


@pytest.mark.parametrize("gauge", GAUGES)
async def test_a_gauge_of_ours_that_is_missing_is_no_zero(serve: Serve, gauge: str) -> None:
    """Other series of the same program say that it is one of ours."""
    name, (series, _) = (
        ("proxy-server", proxy_server(gauge)) if gauge == SERVER_ONLY else ("proxy-client", proxy_client(gauge))
    )
    Counter("socks_replies" if name == "proxy-client" else "tunnel_dials", "", registry=series)
    watched = await watch_gauges({name: serve(series)}, within_s=0)
    assert watched == Watched(({"program": name, "what": gauge, "value": "missing"},), observed=True)


async def test_somebody_elses_metrics_prove_nothing(serve: Serve) -> None:
    assert await watch_gauges({"proxy": serve(registry())}, within_s=0) == Watched((), observed=False)


async def test_a_program_that_does_not_answer_is_pending() -> None:
    watched = await watch_gauges({"proxy-client": "http://127.0.0.1:1/metrics"}, within_s=0)
    item = {"program": "proxy-client", "what": "metrics", "value": "unreachable"}
    assert watched == Watched((item,), observed=False)


async def test_snapshot(serve: Serve) -> None:
    """Own process from /proc, another one by its metrics, and the ledger by hop and direction."""
    series = registry()
    ends = Counter("tunnel_ends", "", ("role", "direction", "event"), registry=series)
    ends.labels("client", "target_to_client", "received").inc(3)
    ends.labels("client", "target_to_client", "rescued").inc()
    ends.labels("client", "target_to_client", "abandoned").inc(2)
    seen = await snapshot({"proxy-client": serve(series), "proxy-server": "http://127.0.0.1:1/metrics"}, {})
    assert seen.ends == {
        "proxy-client": {
            "target_to_client": {"received": 3, "forwarded": 0, "confirmed": 0, "rescued": 1, "abandoned": 2}
        }
    }
    for program in ("loadgen", "proxy-client"):
        assert (seen.resources[program].rss_bytes or 0) > 1_000_000
        assert (seen.resources[program].fds or 0) > 3
    assert seen.resources["proxy-server"].rss_bytes is None
