"""servicekit.metrics: what a probe and Prometheus are told, above all when the event loop does not turn."""

import asyncio
import errno
import json
import socket
from collections.abc import AsyncIterator, Mapping
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener
from wsgiref.simple_server import WSGIServer

import pytest

from servicekit import metrics
from servicekit.address import Address
from servicekit.errors import CannotStartError
from servicekit.logs import configure
from servicekit.metrics import BEAT_S, LoopBeat, MetricsServer, registry

ANY_PORT = Address("127.0.0.1", 0)
_opener = build_opener(ProxyHandler({}))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def get(server: MetricsServer, path: str) -> tuple[int, str]:
    def fetch() -> tuple[int, str]:
        try:
            with _opener.open(f"http://{server.address}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(fetch)


@pytest.fixture
async def server() -> AsyncIterator[MetricsServer]:
    with MetricsServer(ANY_PORT, registry(), lambda: None) as server:
        yield server


async def beaten(beat: LoopBeat) -> None:
    """Waits for the next beat: on the stopped clock of these tests its age is then zero."""
    async with asyncio.timeout(10):
        while beat.age_s > 0:  # noqa: ASYNC110 (the beat is a timer, it sets no event)
            await asyncio.sleep(0.01)


async def test_metrics(server: MetricsServer) -> None:
    status, text = await get(server, "/metrics")
    assert status == 200
    for name in ("process_event_loop_lag_seconds", "process_open_fds", "python_info", "python_gc_collections_total"):
        assert f"\n# TYPE {name} " in text


async def test_other_paths(server: MetricsServer) -> None:
    assert await get(server, "/") == (404, "there is /metrics, /healthz, /readyz\n")


async def test_pending_is_asked_anew_each_time() -> None:
    streams: list[dict[str, object]] = [{"stream": 7, "direction": "client_to_target", "age_s": 1.5}]
    program = {"count": 1, "streams": streams}
    with MetricsServer(ANY_PORT, registry(), lambda: None, documents={"/pending": lambda query: program}) as server:
        status, text = await get(server, "/pending")
        assert (status, json.loads(text)) == (200, program)
        streams.clear()
        assert json.loads((await get(server, "/pending"))[1])["streams"] == []
        assert await get(server, "/other") == (404, "there is /metrics, /healthz, /readyz, /pending\n")


async def test_a_document_that_fails_is_one_answer_and_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    def fails(query: Mapping[str, str]) -> None:
        raise ValueError(query)

    with MetricsServer(ANY_PORT, registry(), lambda: None, documents={"/pending": fails}) as server:
        capfd.readouterr()
        assert await get(server, "/pending?of=it") == (500, "null\n")
        assert "Traceback" not in capfd.readouterr().err


async def test_pending_of_a_program_that_has_none(server: MetricsServer) -> None:
    assert (await get(server, "/pending"))[0] == 404


async def test_pending_is_answered_when_the_loop_hangs() -> None:
    """That is when it is asked: by a thread, and not by way of the loop."""
    with MetricsServer(
        ANY_PORT, registry(), lambda: None, documents={"/pending": lambda query: {"count": 0}}
    ) as server:
        answers: list[bytes] = []

        def ask() -> None:
            with _opener.open(f"http://{server.address}/pending", timeout=10) as answer:
                answers.append(answer.read())

        asked = Thread(target=ask)
        asked.start()
        asked.join(10)  # The loop stands still in here.
        assert answers == [b'{"count": 0}\n']


async def test_ready_tells_the_reason() -> None:
    reason: str | None = "no tunnel connection"
    with MetricsServer(ANY_PORT, registry(), lambda: reason) as server:
        assert await get(server, "/readyz") == (503, "no tunnel connection\n")
        reason = None
        assert await get(server, "/readyz") == (200, "ready\n")


async def test_healthy_while_the_loop_beats_and_again_after_it_hung() -> None:
    clock = Clock()
    beat = LoopBeat(clock)
    with MetricsServer(ANY_PORT, registry(), lambda: None, beat) as server:
        assert await get(server, "/healthz") == (200, "healthy\n")
        # The clock jumps: to the threads of the server it is as if the loop had hung for 6 s.
        clock.now += 6
        assert await get(server, "/healthz") == (503, "the event loop has not turned for 6.0 s\n")
        assert "\nprocess_event_loop_lag_seconds 5.75\n" in (await get(server, "/metrics"))[1]
        await beaten(beat)
        assert await get(server, "/healthz") == (200, "healthy\n")
        assert beat.lag_s == 5.75
        clock.now += BEAT_S
        await beaten(beat)
        assert beat.lag_s == 0


async def test_an_idle_client_blocks_nobody(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics._Handler, "timeout", 60)
    with socket.create_connection((server.address.host, server.address.port), timeout=10):
        assert (await get(server, "/healthz"))[0] == 200


async def test_a_client_that_resets_is_not_reported(server: MetricsServer, capfd: pytest.CaptureFixture[str]) -> None:
    configure("json", "info", "sample")
    with socket.create_connection((server.address.host, server.address.port), timeout=10) as client:
        client.send(b"GET /metrics HTT")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert (await get(server, "/healthz"))[0] == 200
    assert capfd.readouterr().err == ""


async def test_a_port_that_is_taken(server: MetricsServer) -> None:
    with pytest.raises(CannotStartError, match=rf"cannot listen on {server.address}: Address already in use"):
        MetricsServer(server.address, registry(), lambda: None).start()


async def test_closing_frees_the_port(server: MetricsServer) -> None:
    address = server.address
    server.close()
    server.close()
    with MetricsServer(address, registry(), lambda: None) as again:
        assert again.address == address


async def test_ipv6() -> None:
    with MetricsServer(Address("::1", 0), registry(), lambda: None) as server:
        assert str(server.address).startswith("[::1]:")
        assert await get(server, "/readyz") == (200, "ready\n")


async def test_tasks_are_counted_while_they_last() -> None:
    with MetricsServer(ANY_PORT, registered := registry(), lambda: None):
        before = registered.get_sample_value("process_event_loop_tasks")
        task = asyncio.create_task(asyncio.sleep(60))
        assert before is not None
        assert registered.get_sample_value("process_event_loop_tasks") == before + 1
        task.cancel()
        await asyncio.wait([task])
        assert registered.get_sample_value("process_event_loop_tasks") == before


async def test_a_shortage_of_descriptors_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that cannot be accepted stays readable: without a pause the thread would do nothing but look."""
    failures = 0

    def fail(self: object) -> Any:
        nonlocal failures
        failures += 1
        if failures <= 2:
            raise OSError(errno.EMFILE, "planted")
        return accept(self)

    accept: Any = WSGIServer.get_request
    monkeypatch.setattr(WSGIServer, "get_request", fail)
    pauses: list[float] = []
    monkeypatch.setattr(metrics, "sleep", pauses.append)
    with MetricsServer(ANY_PORT, registry(), lambda: None) as server:
        assert (await get(server, "/healthz"))[0] == 200
    assert pauses == [metrics.SHORTAGE_PAUSE_S] * 2
