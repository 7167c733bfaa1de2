"""The stack of containers breaks itself on request, and mends itself: each thing it can do, once, in one stack.

After each of them a body comes through the whole chain: client, link, server, target.
"""

import asyncio
import hashlib
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from loadgen.link.plan import Window
from loadgen.stack_api import Faults, StackError
from servicekit import payload

Containers = Any  # conftest.Containers: a conftest cannot be imported

SIZE_BYTES = 50_000
REQUEST = f"GET /bytes?seed=5&size={SIZE_BYTES}&framing=close HTTP/1.1\r\nHost: http-target\r\n\r\n".encode()
CONNECT = b"\x05\x01\x00\x05\x01\x00\x03\x0bhttp-target" + (8080).to_bytes(2, "big")
RECOVERY_S = 20.0


def fetch(containers: Containers, timeout_s: float) -> bool:
    """Whether a whole body comes through SOCKS within a time without progress."""
    with socket.socket() as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(containers.socks)
            connection.sendall(CONNECT + REQUEST)
            with connection.makefile("rb") as answer:
                data = answer.read()
        except OSError:  # timed out, or reset
            return False
    return hashlib.sha256(data.rpartition(b"\r\n\r\n")[2]).hexdigest() == payload.sha256(5, SIZE_BYTES)


def works_again(containers: Containers) -> None:
    """What was under way when it broke may be lost; after the bound everything works."""
    end_s = monotonic() + RECOVERY_S
    while not fetch(containers, timeout_s=5):
        assert monotonic() < end_s, "nothing comes through any more"


@pytest.fixture
def do(containers: Containers) -> Callable[[Callable[[Faults], Awaitable[None]]], None]:
    """Does something to the stack, from a test that does not await."""

    def do(action: Callable[[Faults], Awaitable[None]]) -> None:
        async def within_bounds() -> None:
            async with asyncio.timeout(60):
                await action(containers.stack.faults)

        containers._run(within_bounds())

    return do


def state_of(containers: Containers, program: str) -> Any:
    return containers.project.container(program).attrs["State"]


def address_of(containers: Containers, program: str) -> list[str]:
    networks = containers.project.container(program).attrs["NetworkSettings"]["Networks"]
    return [network["IPAddress"] for network in networks.values()]


def test_a_killed_server_stays_down_until_it_is_started(containers: Containers, do: Any) -> None:
    do(lambda faults: faults.kill("proxy-server"))
    assert state_of(containers, "proxy-server")["ExitCode"] == 137
    with pytest.raises(StackError, match="proxy-server does not run, it is exited"):
        do(lambda faults: faults.pause("proxy-server"))
    assert not fetch(containers, timeout_s=1)
    assert state_of(containers, "proxy-server")["Status"] == "exited"

    do(lambda faults: faults.start("proxy-server"))

    works_again(containers)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_stopped_target_ends_by_itself_and_comes_back(containers: Containers, do: Any, at_once: bool) -> None:
    do(lambda faults: faults.stop("http-target", at_once=at_once))
    assert state_of(containers, "http-target")["ExitCode"] == 0
    assert not fetch(containers, timeout_s=5)

    do(lambda faults: faults.start("http-target"))

    works_again(containers)


def test_a_paused_server_says_nothing_until_it_is_resumed(containers: Containers, do: Any) -> None:
    do(lambda faults: faults.pause("proxy-server"))
    assert not fetch(containers, timeout_s=1)

    do(lambda faults: faults.resume("proxy-server"))

    works_again(containers)


def test_a_paused_program_can_be_killed(containers: Containers, do: Any) -> None:
    do(lambda faults: faults.pause("http-target"))
    do(lambda faults: faults.kill("http-target"))
    assert state_of(containers, "http-target")["Status"] == "exited"

    do(lambda faults: faults.start("http-target"))

    works_again(containers)


def test_a_disconnected_server_comes_back_at_its_address(containers: Containers, do: Any) -> None:
    before = address_of(containers, "proxy-server")
    do(lambda faults: faults.disconnect("proxy-server"))
    assert address_of(containers, "proxy-server") == []
    assert not fetch(containers, timeout_s=1)

    do(lambda faults: faults.connect("proxy-server"))

    assert address_of(containers, "proxy-server") == before
    works_again(containers)


def test_a_link_is_a_blackhole_until_it_is_healed(containers: Containers, do: Any) -> None:
    works_again(containers)
    do(lambda faults: faults.impair([Window(from_s=0, blackhole=True)]))
    assert not fetch(containers, timeout_s=1)

    do(lambda faults: faults.impair([]))

    works_again(containers)


def test_a_rebind_is_survived(containers: Containers, do: Any) -> None:
    works_again(containers)

    do(lambda faults: faults.rebind())

    assert fetch(containers, timeout_s=10)


def test_a_generator_tells_its_lines_and_sees_the_marks(containers: Containers, tmp_path: Path) -> None:
    marks, lines = tmp_path / "marks", list[str]()
    marks.mkdir(mode=0o700)
    (marks / "config.toml").write_text('duration = "1s"\n')
    stack = containers.stack
    where = ["--proxy", f"socks5://{stack.proxy}", "--target", f"http://{stack.target}"]
    soak = ["--stack", "external", *where, "--config", "/marks/config.toml", "--scenario", "get"]

    code = containers._run(stack.soak(soak, tmp_path / "report", on_line=lines.append, marks=marks))

    document = json.loads((tmp_path / "report" / "verdict.json").read_text())
    assert code == {"pass": 0, "fail": 1, "inconclusive": 3}[document["verdict"]]
    assert document["outcomes"]["ok"] == document["totals"]["completed"] > 0
    assert document["run"]["duration_s"] < 3  # what the mounted file says
    assert [line for line in lines if line.startswith("{") and json.loads(line)["event"] == "ready"]
