"""loadgen.measure.inquiry: who is asked about a transaction that stalls, and how often."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from loadgen.measure.inquiry import MOST_IN_60_S, MOST_PLANNED_IN_60_S, TIMEOUT_S, Inquiry
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
    async with inquiry:
        inquiry.about(HERE)
    assert client.asked == [{"application": HERE}]
    assert server.asked == [{"session": "aa", "quic_stream": "8"}]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        [],
        {"session": "", "streams": [{"quic_stream": 8}]},
        {"session": "aa", "streams": []},
        {"session": "aa", "streams": [{"stream": 1}]},
        {"streams": 3},
    ],
    ids=str,
)
async def test_a_proxy_that_does_not_know(serve: Serve, answer: Any) -> None:
    client, server = Program(answer), Program({})
    inquiry = Inquiry({"proxy-client": serve(client), "proxy-server": serve(server)})
    async with inquiry:
        inquiry.about(HERE)
    assert (len(client.asked), server.asked) == (1, [])


async def test_nobody_to_ask(serve: Serve) -> None:
    server = Program({})
    for metrics in ({}, {"proxy-server": serve(server)}, {"proxy-client": "http://127.0.0.1:9/metrics"}):
        async with Inquiry(metrics) as inquiry:
            inquiry.about(HERE)
    assert server.asked == []


async def test_a_flood_of_stalls(serve: Serve) -> None:
    client, now = Program(None), 1000.0
    async with Inquiry({"proxy-client": serve(client)}, clock=lambda: now) as inquiry:
        for _ in range(MOST_IN_60_S + 5):
            inquiry.about(HERE)
        now += 61.0
        inquiry.about(HERE)
    assert len(client.asked) == MOST_IN_60_S + 1
    assert inquiry.left_out == 5


async def test_a_planned_fault_leaves_room_for_what_nobody_planned(serve: Serve) -> None:
    client = Program(None)
    async with Inquiry({"proxy-client": serve(client)}, clock=lambda: 1000.0) as inquiry:
        for _ in range(100):
            inquiry.about(HERE, planned=True)
        inquiry.about("127.0.0.1:50002")
    assert len(client.asked) == MOST_PLANNED_IN_60_S + 1
    assert {"application": "127.0.0.1:50002"} in client.asked


async def test_a_proxy_that_stands_still_keeps_nobody_waiting() -> None:
    """Its port accepts, and no answer comes. Names are looked up all the same, and it ends in time."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0), backlog=MOST_IN_60_S) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/metrics"
        async with asyncio.timeout(5 * TIMEOUT_S), Inquiry({"proxy-client": url}) as inquiry:
            for _ in range(MOST_IN_60_S):
                inquiry.about(HERE)
            await asyncio.sleep(0)
            async with asyncio.timeout(TIMEOUT_S / 2):
                await loop.getaddrinfo("localhost", 80)


async def test_a_transaction_without_a_connection(serve: Serve) -> None:
    client = Program(None)
    inquiry = Inquiry({"proxy-client": serve(client)})
    async with inquiry:
        inquiry.about("")
    assert client.asked == []
