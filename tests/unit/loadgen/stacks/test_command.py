"""`loadgen stack`: what its flags ask of a stack, and how it ends."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from loadgen.stack_api import StackError
from loadgen.stacks import command, local
from loadgen.stacks.command import StackCommandSettings
from servicekit.run import Stop


def test_there_is_no_link_unless_something_of_it_is_asked_for() -> None:
    assert StackCommandSettings().link_arguments() is None
    assert StackCommandSettings(delay_ms=10, loss=0).link_arguments() == ("--delay-ms", "10.0", "--loss", "0.0")
    assert StackCommandSettings(link=Path("plan.toml"), jitter_ms=2).link_arguments() == (
        *("--plan", "plan.toml"),
        *("--jitter-ms", "2.0"),
    )


def test_an_engine_is_for_both_proxies_and_nobody_else() -> None:
    stack = StackCommandSettings(engine="quinn").for_stack(
        {"proxy-client": ("--listen", "127.0.0.1:1"), "http-target": ()}
    )

    assert stack.arguments == {
        "proxy-client": ("--listen", "127.0.0.1:1", "--engine", "quinn"),
        "proxy-server": ("--engine", "quinn"),
        "http-target": (),
    }


def test_arguments_of_the_command_line_are_the_last_word() -> None:
    stack = StackCommandSettings(
        engine="quinn",
        loss=0,
        argument=("proxy-server=--a=b=c", "proxy-server=--d", "link=--seed=3"),
        program=("http-target=/bin/true",),
    ).for_stack({"proxy-server": ("--own",)})

    assert stack.arguments == {
        "proxy-server": ("--own", "--engine", "quinn", "--a=b=c", "--d"),
        "proxy-client": ("--engine", "quinn"),
        "link": ("--seed=3",),
    }
    assert stack.programs == {"http-target": Path("/bin/true")}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"target_port": 65535}, "must be less; http-target speaks first on the next port"),
        ({"argument": ("proxy=--x",)}, "NAME one of proxy-client, proxy-server, http-target, link"),
        ({"argument": ("proxy-client",)}, "must be NAME=VALUE"),
        ({"engine": "client=quinn,link=quinn"}, "must be NAME, or client=NAME,server=NAME"),
        ({"argument": ("link=--x",)}, "there is no link in this stack"),
        ({"program": ("proxy-client=/a", "proxy-client=/b")}, "proxy-client: is there twice"),
        ({"program": ("proxy-client=/a",), "stack": "compose"}, "only for the stack local"),
    ],
)
def test_what_no_stack_can_be_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        StackCommandSettings(**given)


def test_the_usual_port_is_taken_where_it_is_free_and_any_other_where_it_is_not() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]

        assert command._port(None, taken) == 0
        assert command._port(taken, 1) == taken  # asked for: the program says that it is taken
    assert command._port(None, taken) == taken


async def test_an_interrupt_while_it_starts_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def endless_start(settings: Any) -> AsyncIterator[None]:
        began.set()
        try:
            await asyncio.Event().wait()
            yield
        finally:
            ended.set()

    monkeypatch.setattr(local, "local_stack", endless_start)
    stop = Stop()
    serving = asyncio.create_task(command._serve(StackCommandSettings(), stop))
    await began.wait()

    stop.request()

    assert await serving == 0
    assert ended.is_set()


async def test_a_stack_that_cannot_start_is_said_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def broken(settings: Any) -> AsyncIterator[None]:
        raise StackError("proxy-server ended with exit code 1")
        yield

    monkeypatch.setattr(local, "local_stack", broken)

    assert await command._serve(StackCommandSettings(), Stop()) == 1
    assert capsys.readouterr().err == "loadgen stack: proxy-server ended with exit code 1\n"
