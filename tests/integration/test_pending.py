"""What is still open is named by both programs, at their metrics ports, and is gone when it has ended."""

import asyncio
import json
import urllib.request
from typing import Any

import pytest
from tests.integration.conftest import PATIENCE_S, Log, Target, Tunnel, eventually, reset

from loadgen.measure.drain import watch_gauges
from loadgen.measure.inquiry import Inquiry

UP, DOWN = "client_to_target", "target_to_client"
PROGRAMS = ("proxy-server", "proxy-client")
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def ports(tunnel: Tunnel, log: Log) -> dict[str, str]:
    """The metrics port of each, in the order of their start."""
    found = [line["address"] for line in log if line["event"] == "listening" and line["listener"] == "metrics"]
    return dict(zip(PROGRAMS, found, strict=True))


async def pending(address: str) -> list[dict[str, Any]]:
    def read() -> str:
        with _opener.open(f"http://{address}/pending", timeout=PATIENCE_S) as answer:
            assert answer.headers["Content-Type"] == "application/json"
            return str(answer.read().decode())

    text = await asyncio.to_thread(read)
    assert "127.0.0.1" not in text, "no address of anybody"
    document = json.loads(text)
    assert document["count"] == len(document["streams"])
    return list(document["streams"])


async def directions(address: str) -> dict[str, str]:
    return {one["direction"]: one["state"] for one in await pending(address)}


async def until(address: str, expected: dict[str, str]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await directions(address) != expected:  # noqa: ASYNC110 (the programs tell nobody)
            await asyncio.sleep(0.01)


async def older(address: str, than_s: float) -> None:
    """Until the one stream that is open is older than that: ages are told in milliseconds."""
    async with asyncio.timeout(PATIENCE_S):
        while (await pending(address))[0]["age_s"] <= than_s:  # noqa: ASYNC110 (the programs tell nobody)
            await asyncio.sleep(0.001)


async def test_a_stream_held_open_is_named_until_it_ends(tunnel: Tunnel, target: Target, ports: dict[str, str]) -> None:
    for address in ports.values():
        assert await pending(address) == []
    reader, writer = await tunnel.connect(target.address)
    far_reader, far_writer = await target.connection()
    for address in ports.values():
        assert await directions(address) == {UP: "open", DOWN: "open"}

    writer.write(b"request")
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        assert await far_reader.read(-1) == b"request"
    quic_streams = set()
    for address in ports.values():  # The target holds its direction open.
        await until(address, {DOWN: "open"})
        (held,) = await pending(address)
        assert held["age_s"] < PATIENCE_S
        await older(address, held["age_s"])
        quic_streams.add(held["quic_stream"])
    assert len(quic_streams) == 1, "both call it by the same number"

    far_writer.close()
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read(-1) == b""
    for address in ports.values():
        await until(address, {})
    writer.close()


async def test_loadgen_names_what_did_not_end(tunnel: Tunnel, target: Target, ports: dict[str, str]) -> None:
    metrics = {program: f"http://{address}/metrics" for program, address in ports.items()}
    _, writer = await tunnel.connect(target.address)
    far_reader, _ = await target.connection()
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        assert await far_reader.read(-1) == b""
    for address in ports.values():
        await until(address, {DOWN: "open"})
    for side, role, sent in ((tunnel.at_client, "client", UP), (tunnel.at_server, "server", DOWN)):
        buffered = "tunnel_buffered_bytes"  # Until the last receipt is acknowledged.
        await eventually(lambda: side(buffered, role=role, direction=sent) == 0, buffered)  # noqa: B023

    watched = await watch_gauges(metrics, within_s=0)
    assert watched.observed
    named = {item["program"]: item["streams"] for item in watched.pending if "streams" in item}
    assert named.keys() == set(PROGRAMS)
    for (stream,) in named.values():
        assert (stream["direction"], stream["state"]) == (DOWN, "open")
        assert 0 < stream["age_s"] < PATIENCE_S
    whats = {item["what"] for item in watched.pending}
    assert whats == {"tunnel_streams_active", "tunnel_half_closed_streams", "socks_connections_active"}

    reset(writer)
    await tunnel.quiet()
    assert (await watch_gauges(metrics, within_s=PATIENCE_S)).pending == ()


async def test_a_stalled_transaction_leads_to_the_log_lines_of_both(
    tunnel: Tunnel, target: Target, ports: dict[str, str], log: Log
) -> None:
    """To both proxies its stream is idle, so neither tells of it unasked."""
    writers = [(await tunnel.connect(target.address))[1] for _ in range(2)]
    host, port = writers[1].get_extra_info("sockname")
    async with Inquiry({program: f"http://{address}/metrics" for program, address in ports.items()}) as inquiry:
        inquiry.about(f"{host}:{port}")
    asked = [line for line in log if line["event"] == "evidence"]
    assert [line["why"] for line in asked] == ["asked"] * 2
    (at_client,), (at_server,) = (line["streams"] for line in asked)
    assert at_client["application"] == f"{host}:{port}"
    assert "application" not in at_server
    assert at_client["quic_stream"] == at_server["quic_stream"]
    assert asked[0]["session"] == asked[1]["session"] != ""
    for writer in writers:
        reset(writer)
    await tunnel.quiet()
