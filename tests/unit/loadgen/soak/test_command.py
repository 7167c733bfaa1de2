"""The program as a whole: a proxy and a target in the test's own event loop, `loadgen soak` as a process."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.loadgen.conftest import Peers, Target, accept_socks

from loadgen.scenarios import SCENARIOS
from servicekit.address import Address

Soak = Callable[..., Awaitable[Process]]


@pytest.fixture
async def soak(tmp_path: Path, target: Target) -> AsyncIterator[Soak]:
    """Starts `loadgen soak --stack external` in an empty directory."""
    started: list[Process] = []

    async def start(proxy: Address, *argv: str, file_bytes_max: int | None = None) -> Process:
        where = [f"--proxy=socks5://{proxy}", f"--target=http://{target.http}", f"--server-first={target.first}"]
        command = [sys.executable, "-m", "loadgen", "soak", "--stack=external", "--metrics-listen=127.0.0.1:0", *where]
        if file_bytes_max is not None:
            command = ["sh", "-c", f'ulimit -f {file_bytes_max // 512}; exec "$@"', "sh", *command]
        process = await asyncio.create_subprocess_exec(*command, *argv, cwd=tmp_path, stdout=PIPE, stderr=PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


def verdict(tmp_path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((tmp_path / "reports/latest/verdict.json").read_text())
    return document


async def logged(process: Process, event: str) -> dict[str, Any]:
    """Waits for a line of the log."""
    assert process.stderr is not None
    async with asyncio.timeout(30):
        async for line in process.stderr:
            fields: dict[str, Any] = json.loads(line)
            if fields["event"] == event:
                return fields
    raise AssertionError(f"no event {event}")


async def test_pass(tmp_path: Path, peers: Peers, soak: Soak) -> None:
    process = await soak(await peers.relay(), "--mix", "small", "--rate", "50", "--duration", "2s")
    out, err = await process.communicate()
    document = verdict(tmp_path)
    assert document["outcomes"]["ok"] == 100
    assert document["totals"] == {"scheduled": 100, "started": 100, "dropped": 0, "completed": 100}
    assert document["run"]["stack"] == "external"
    assert 2 <= document["run"]["duration_s"] < 10
    assert document["offered_per_s"] == pytest.approx(100 / document["run"]["duration_s"], rel=0.01)
    assert document["scenarios"].keys() == SCENARIOS.keys()
    assert document["drain"]["complete"]
    # A machine that is too busy to start 100 transactions in 2 s is told apart from a proxy that fails.
    saturated = document["generator"]["saturated"]
    assert (document["verdict"], process.returncode) == (("inconclusive", 3) if saturated else ("pass", 0))
    text = out.decode()
    assert f"verdict: {document['verdict']}" in text
    assert all(name in text for name in SCENARIOS)
    events = [json.loads(line)["event"] for line in err.splitlines()]
    assert events == ["listening", "ready", "draining", "stopped"]


async def test_without_room_for_the_verdict_the_run_is_told_all_the_same(
    tmp_path: Path, peers: Peers, soak: Soak
) -> None:
    """As on a full disk: nothing is there in part, and a pass that nobody can read is none."""
    asked = ("--mix", "small", "--rate", "50", "--duration", "1s")
    process = await soak(await peers.relay(), *asked, file_bytes_max=1024)
    out, err = await process.communicate()
    assert "outcomes: ok 50" in out.decode()
    assert "report: not written" in out.decode()
    assert process.returncode == 3
    events = [json.loads(line) for line in err.splitlines()]
    assert "verdict.json" in [event.get("file") for event in events if event["event"] == "report_not_written"]
    left = os.listdir(tmp_path / "reports/latest")
    assert not [name for name in left if name == "verdict.json" or name.endswith(".tmp")]


async def test_fail(tmp_path: Path, peers: Peers, soak: Soak) -> None:
    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_socks(reader, writer)
        await reader.read(1)

    argv = ["--scenario", "close_delimited", "--rate", "20", "--duration", "0.2s", "--report", "here", "--seed", "5"]
    process = await soak(await peers.serve(closes), *argv)
    out, _ = await process.communicate()
    assert process.returncode == 1
    document = json.loads((tmp_path / "here/verdict.json").read_text())
    assert document["run"]["seed"] == 5
    failed = document["outcomes"]["eof_premature"] + document["outcomes"]["reset"]
    assert failed == document["totals"]["completed"] == 4
    assert document["reasons"][0] in out.decode()
    lines = [json.loads(line) for line in (tmp_path / "here/anomalies.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["outcome"] * 4


async def test_sigterm_ends_the_load_and_still_gives_a_verdict(tmp_path: Path, peers: Peers, soak: Soak) -> None:
    process = await soak(await peers.relay(), "--continuous", "--scenario", "chunked", "--rate", "50")
    assert (await logged(process, "ready"))["rate_per_s"] == 50
    await asyncio.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    code = await process.wait()
    document = verdict(tmp_path)
    assert (code, document["verdict"]) in ((0, "pass"), (3, "inconclusive"))  # the latter on a machine that is too busy
    assert document["run"]["duration_s"] < 10
    assert document["outcomes"]["ok"] == document["totals"]["started"] > 0


async def test_a_second_signal_ends_what_is_in_flight(tmp_path: Path, peers: Peers, soak: Soak) -> None:
    connected = asyncio.Event()

    async def swallows(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()

    process = await soak(await peers.serve(swallows), "--scenario", "chunked", "--rate", "1", "--no-preflight")
    await connected.wait()
    process.send_signal(signal.SIGTERM)
    assert (await logged(process, "draining"))["in_flight"] == 1
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 3
    document = verdict(tmp_path)
    assert document["outcomes"]["aborted"] == 1
    assert document["drain"]["pending"] == [{"program": "loadgen", "what": "transactions in flight", "value": 1}]


async def test_a_signal_ends_the_preflight(tmp_path: Path, peers: Peers, soak: Soak) -> None:
    """A proxy that never answers holds it up, but not the one who wants to end it."""
    connected = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()

    process = await soak(await peers.serve(silent), "--scenario", "chunked", "--duration", "50s")
    await connected.wait()
    process.send_signal(signal.SIGTERM)
    assert (await logged(process, "draining"))["in_flight"] == 0
    assert await process.wait() == 3
    assert verdict(tmp_path)["reasons"] == ["the run was ended before its load began"]


async def test_nothing_measured_is_inconclusive(tmp_path: Path, peers: Peers, soak: Soak) -> None:
    """Two scenarios were asked for; one arrival cannot be both."""
    argv = ["--scenario", "chunked", "--scenario", "upload", "--rate", "1", "--duration", "0.1s"]
    process = await soak(await peers.relay(), *argv)
    await process.communicate()
    assert process.returncode == 3
    assert "never completed" in verdict(tmp_path)["reasons"][0]


async def test_a_port_that_is_taken_is_inconclusive(peers: Peers, soak: Soak) -> None:
    taken = await peers.relay()
    process = await soak(taken, "--metrics-listen", str(taken))
    assert "cannot listen" in (await logged(process, "cannot_start"))["reason"]
    assert await process.wait() == 3


async def test_a_reader_that_leaves_does_not_end_the_soak(tmp_path: Path, peers: Peers, soak: Soak) -> None:
    process = await soak(await peers.relay(), "--scenario", "chunked", "--rate", "50", "--duration", "0.3s")
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    assert await process.wait() in (0, 3)
    assert verdict(tmp_path)["outcomes"]["ok"] == 15


async def test_usage(peers: Peers, soak: Soak) -> None:
    process = await soak(await peers.relay(), "--threshold", "nope == 1")
    _, err = await process.communicate()
    assert process.returncode == 2
    assert b"no metric nope" in err


FAULT = {"kind": "pause", "program": "proxy-server", "name": "nap", "at_s": 0.0, "for_s": 0.5, "recovery_s": 0.2}


async def test_somebody_else_tells_of_faults(tmp_path: Path, peers: Peers, soak: Soak) -> None:
    """Marks as whoever runs the stack writes them: announced, healed; what was due meanwhile is the fault's."""
    marks = tmp_path / "marks.jsonl"
    marks.write_text(json.dumps({"planned": [FAULT]}) + "\n")
    process = await soak(await peers.relay(), "--mix", "small", "--rate", "40", "--duration", "3s", "--marks", ".")
    await logged(process, "ready")
    with marks.open("a") as file:
        print(json.dumps({"began": "nap"}), json.dumps({"healed": "nap"}), sep="\n", file=file)
    await process.communicate()
    document = verdict(tmp_path)
    (fault,) = document["faults"]
    assert (fault["name"], fault["kind"], fault["error"]) == ("nap", "pause", None)
    assert fault["from_s"] <= fault["to_s"]
    assert document["windows"]["quiet"]["completed"] > 0
    assert document["run"]["interrupted"] is False
    assert document["verdict"] in ("pass", "inconclusive"), "a busy machine may be too late"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "nobody said which faults there were"),
        ('{"began": "nobody"}\n', "is not a mark"),
        (None, "marks.jsonl: No such file or directory"),
        (json.dumps({"planned": [FAULT]}) + '\n{"began": "nap"}\n', "fault nap was open when the run was interrupted"),
    ],
    ids=["never planned", "unknown", "no file", "never healed"],
)
async def test_marks_that_tell_nothing_make_no_verdict(
    tmp_path: Path, peers: Peers, soak: Soak, text: str | None, reason: str
) -> None:
    if text is not None:
        (tmp_path / "marks.jsonl").write_text(text)
    argv = ["--scenario", "close_delimited", "--no-preflight", "--rate", "20", "--duration", "1s", "--marks", "."]
    process = await soak(await peers.relay(), *argv)
    await logged(process, "ready")
    if "interrupted" in reason:
        await logged(process, "healing")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)  # Two: nobody is going to heal it.
    await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 3
    assert reason in " ".join(verdict(tmp_path)["reasons"])
