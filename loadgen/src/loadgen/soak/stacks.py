"""The stack that was asked for, opened. The ones that are made here are imported only when they are asked for."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import cast

from loadgen.soak.settings import NO_LINK, SoakSettings
from loadgen.stack_api import RTT_20_MS, Faults, Stack, StackFactory, StackSettings
from servicekit.address import Address

_FACTORIES = {"local": "loadgen.stacks.local:local_stack", "compose": "loadgen.stacks.compose:compose_stack"}


@dataclass(frozen=True, slots=True)
class ExternalStack:
    """What somebody else runs: as much as was said on the command line."""

    proxy: Address
    target: Address
    server_first: Address
    metrics: Mapping[str, str] = field(default_factory=dict)
    pids: Mapping[str, int] = field(default_factory=dict)
    faults: Faults | None = None


@asynccontextmanager
async def open_stack(settings: SoakSettings, directory: Path) -> AsyncIterator[Stack]:
    """The running stack, its logs in `directory`. Raises StackError."""
    factory = _FACTORIES.get(settings.stack)
    if factory is None:
        yield external(settings)
        return
    module, function = factory.split(":")
    make = cast(StackFactory, getattr(import_module(module), function))
    asked = StackSettings(_link(settings.link), settings.arguments(), directory, settings.programs())
    async with make(asked) as stack:
        yield stack


def external(settings: SoakSettings) -> Stack:
    """The stack of --stack external."""
    proxy, target = settings.proxy, settings.target
    assert proxy is not None, "settings check it"
    assert target is not None, "settings check it"
    server_first = settings.server_first or Address(target.host, target.port + 1)
    return ExternalStack(proxy, target, server_first, settings.metrics_urls())


def _link(asked: str | None) -> tuple[str, ...] | None:
    if asked is None:
        return RTT_20_MS
    return None if asked == NO_LINK else ("--plan", asked)
