"""`loadgen stack`: a stack alone, in the foreground, until interrupted.

Rules
- SOCKS5 on 127.0.0.1:1080 and http-target on 127.0.0.1:8080 where these ports are free, else on other ones; a port that
  was asked for and is taken is an error. What is where is printed, on stdout.
- No link between the proxies unless asked for: by a plan, or by what a link does.
- An interrupt ends it at any moment, while it starts too, and nothing of it is left.
"""

import asyncio
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from loadgen.link.plan import Conditions
from loadgen.stack_api import StackError, StackSettings
from loadgen.stacks.choices import ProgramChoices
from servicekit import logs
from servicekit.run import EXIT_CANNOT_START, Stop, run
from servicekit.settings import CommandSettings, load

SOCKS_PORT, TARGET_PORT = 1080, 8080
LAST_PORT = 65535
_CURL = "curl -x socks5h://{} 'http://{}/bytes?seed=1&size=1000000&framing=length' | sha256sum"


class StackCommandSettings(CommandSettings, Conditions, ProgramChoices):
    """Runs proxy-client, proxy-server and http-target together until interrupted, and prints where they are."""

    model_config = SettingsConfigDict(env_prefix="LOADGEN_STACK_")

    stack: Literal["local", "compose"] = Field("local", description="processes of this machine, or containers")
    link: Path | None = Field(None, description="a link between the proxies, with this plan")
    socks_port: int | None = Field(None, ge=0, le=65535, description="port of SOCKS5 (1080, or a free one)")
    target_port: int | None = Field(
        None, ge=0, le=65535, description="stack local: port of http-target (8080, or a free one)"
    )
    logs_directory: Path | None = Field(None, description="directory for the programs' logs, one file each")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.target_port == LAST_PORT:
            raise ValueError(f"--target-port {LAST_PORT}: must be less; http-target speaks first on the next port")
        self.check_programs(self.stack, link=self.link_arguments() is not None)
        return self

    def link_arguments(self) -> tuple[str, ...] | None:
        """Arguments for `loadgen link`; None where nothing of a link was asked for."""
        plan = () if self.link is None else ("--plan", str(self.link))
        given = {name: getattr(self, name) for name in Conditions.model_fields}
        conditions = [
            part
            for name, value in given.items()
            if value is not None
            for part in (f"--{name.replace('_', '-')}", f"{value}")
        ]
        return (*plan, *conditions) or None

    def for_stack(self, own: Mapping[str, tuple[str, ...]]) -> StackSettings:
        """What the stack is asked for; `own` arguments by program come before those of the command line."""
        further = self.arguments()
        arguments = {name: (*own.get(name, ()), *further.get(name, ())) for name in {**own, **further}}
        return StackSettings(self.link_arguments(), arguments, self.logs_directory, self.programs())


def main(argv: Sequence[str]) -> int:
    """Runs `loadgen stack` until it is interrupted; returns the exit code."""
    settings = load(StackCommandSettings, argv, prog="loadgen stack")
    logs.configure("text", "info", "loadgen")
    return run(lambda stop: _serve(settings, stop))


async def _serve(settings: StackCommandSettings, stop: Stop) -> int:
    serving = asyncio.create_task((_local if settings.stack == "local" else _compose)(settings))
    interrupted = asyncio.create_task(stop.draining.wait())
    await asyncio.wait({serving, interrupted}, return_when=asyncio.FIRST_COMPLETED)
    interrupted.cancel()
    serving.cancel()
    try:
        await serving
    except asyncio.CancelledError:
        return 0
    except StackError as error:
        print(f"loadgen stack: {error}", file=sys.stderr)
    return EXIT_CANNOT_START


async def _local(settings: StackCommandSettings) -> None:
    from loadgen.stacks.local import local_stack

    socks, target = _port(settings.socks_port, SOCKS_PORT), _port(settings.target_port, TARGET_PORT)
    server_first = _port(None, target + 1 if target else 0)
    arguments = {
        "proxy-client": ("--listen", f"127.0.0.1:{socks}"),
        "http-target": ("--listen", f"127.0.0.1:{target}", "--server-first-listen", f"127.0.0.1:{server_first}"),
    }
    async with local_stack(settings.for_stack(arguments)) as stack:
        _show("SOCKS5", stack.proxy)
        _show("http-target", f"http://{stack.target}")
        _show("server first", stack.server_first)
        for name, url in stack.metrics.items():
            _show(f"{name} (pid {stack.pids[name]})", url)
        _show("try", _CURL.format(stack.proxy, stack.target))
        await asyncio.Event().wait()


async def _compose(settings: StackCommandSettings) -> None:
    from loadgen.stacks.compose import compose_stack

    ports = {"SOCKS_PORT": f"{_port(settings.socks_port, SOCKS_PORT)}"}
    async with compose_stack(settings.for_stack({}), environment=ports) as stack:
        proxy = f"127.0.0.1:{stack.project.host_port('proxy-client', 1080)}"
        _show("SOCKS5", proxy)
        _show("http-target", f"http://{stack.target}, through SOCKS5")
        _show("Compose project", stack.project.name)
        _show("try", _CURL.format(proxy, stack.target))
        await asyncio.Event().wait()


def _show(name: str, value: object) -> None:
    print(f"{name:<28} {value}", flush=True)


def _port(asked: int | None, usual: int) -> int:
    """The port to listen on: what was asked for, else the usual one where it is free, else any (0)."""
    if asked is not None:
        return asked
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            return 0
    return usual
