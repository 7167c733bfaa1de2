"""loadgen.measure.inquiry: who is asked about a transaction that stalls, and how often."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from loadgen.measure.inquiry import MOST_IN_60_S, Inquiry
from servicekit.address import Address
from servicekit.metrics import MetricsServer, registry

Query = Mapping[str, str]
HERE = "127.0.0.1:50001"


class Program:
    """Notes what it is asked."""

    def __init__(self, answer: Any) -> None:
        self.asked: list[Query] = []
        self.answer = answer

    def __call__(self, query: Query) -> Any:
        self.asked.append(query)
        return self.answer


@pytest.fixture
async def serve() -> AsyncIterator["Serve"]:
    with ExitStack() as servers:

        def served(program: Program) -> str:
            port = MetricsServer(Address("127.0.0.1", 0), registry(), lambda: None, documents={"/evidence": program})
            return f"http://{servers.enter_context(port).address}/metrics"

        yield served


Serve = Callable[[Program], str]


async def test_one_proxy_leads_to_the_other(serve: Serve) -> None:
    client, server = Program({"session": "aa", "streams": [{"quic_stream": 8}]}), Program({})
    inquiry = Inquiry({"proxy-client": serve(client), "proxy-server": serve(server), "http-target": "http://[::1]:1/"})
    inquiry.about(HERE)
    await inquiry.over()
    assert client.asked == [{"application": HERE}]
    assert server.asked == [{"session": "aa", "quic_stream": "8"}]


@pytest.mark.parametrize(
    "answer",
    [None, {}, [], {"session": "aa", "streams": []}, {"session": "aa", "streams": [{"stream": 1}]}, {"streams": 3}],
    ids=str,
)
async def test_a_proxy_that_does_not_know(serve: Serve, answer: Any) -> None:
    client, server = Program(answer), Program({})
    inquiry = Inquiry({"proxy-client": serve(client), "proxy-server": serve(server)})
    inquiry.about(HERE)
    await inquiry.over()
    assert (len(client.asked), server.asked) == (1, [])


async def test_nobody_to_ask(serve: Serve) -> None:
    server = Program({})
    for metrics in ({}, {"proxy-server": serve(server)}, {"proxy-client": "http://127.0.0.1:9/metrics"}):
        inquiry = Inquiry(metrics)
        inquiry.about(HERE)
        await inquiry.over()
    assert server.asked == []


async def test_a_flood_of_stalls(serve: Serve) -> None:
    client, now = Program(None), 1000.0
    inquiry = Inquiry({"proxy-client": serve(client)}, clock=lambda: now)
    for _ in range(MOST_IN_60_S + 5):
        inquiry.about(HERE)
    await inquiry.over()
    assert len(client.asked) == MOST_IN_60_S
    now += 61.0
    inquiry.about(HERE)
    await inquiry.over()
    assert len(client.asked) == MOST_IN_60_S + 1


async def test_a_transaction_without_a_connection(serve: Serve) -> None:
    client = Program(None)
    inquiry = Inquiry({"proxy-client": serve(client)})
    inquiry.about("")
    await inquiry.over()
    assert client.asked == []
