"""`loadgen link`: the command line of the link.

SIGHUP reads the plan's file again, SIGUSR1 rebinds (`control`); SIGTERM and SIGINT end it at once, there is nothing to
drain.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from loadgen.link.control import Control
from loadgen.link.metrics import LinkCollector
from loadgen.link.plan import Conditions, Plan, Window, read
from loadgen.link.relay import Relay
from servicekit import logs
from servicekit.address import Address
from servicekit.metrics import MetricsServer, registry
from servicekit.run import Stop, run
from servicekit.settings import MetricsListen, Settings, load

log = logs.get_logger()


class LinkSettings(Settings, Conditions):
    """A UDP relay between proxy-client and proxy-server that behaves like a bad network, from a seeded plan.

    While it runs, SIGHUP reads the plan's file again, and SIGUSR1 gives each client a new source port towards the
    server, as behind a NAT that forgot.
    """

    model_config = SettingsConfigDict(env_prefix="LOADGEN_LINK_")

    listen: Address = Field(Address("127.0.0.1", 4434), description="where the client side sends to")
    upstream: Address = Field(description="where the server side listens, an address or a name")
    plan: Path | None = Field(
        None, description="TOML file with what happens when; flags go before its base; SIGHUP reads it again"
    )
    blackhole_at: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (), description="second from which on nothing gets through"
    )
    blackhole_for: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (), description="for how many seconds: one for each, or one for all"
    )
    seed: int = Field(1, description="seed of every random decision")
    metrics_listen: MetricsListen = Address("127.0.0.1", 9105)

    @model_validator(mode="after")
    def _plan_is_usable(self) -> Self:
        self.whole_plan()
        return self

    def whole_plan(self) -> Plan:
        """Returns the plan of the file, changed by the flags. Raises ValueError."""
        starts_s, lengths_s = self.blackhole_at, self.blackhole_for
        if len(lengths_s) == 1:
            lengths_s *= len(starts_s)
        if len(lengths_s) != len(starts_s) or (self.blackhole_for and not starts_s):
            raise ValueError(
                f"--blackhole-at is there {len(starts_s)} times and --blackhole-for {len(self.blackhole_for)} times:"
                " each start needs a length, or one length is for all"
            )
        holes = [
            Window(from_s=start_s, to_s=start_s + length_s, blackhole=True)
            for start_s, length_s in zip(starts_s, lengths_s, strict=True)
        ]
        return (read(self.plan) if self.plan else Plan()).overridden(self, holes)


def main(argv: Sequence[str]) -> int:
    """Runs `loadgen link` until it is told to stop; returns the exit code."""
    settings = load(LinkSettings, argv, prog="loadgen link")
    logs.configure(settings.log_format, settings.log_level, "link")
    return run(lambda stop: _serve(settings, stop))


async def _serve(settings: LinkSettings, stop: Stop) -> int:
    plan = settings.whole_plan()
    relay = Relay(settings.listen, settings.upstream, plan, settings.seed)
    control = Control(relay, settings.whole_plan if settings.plan else None)
    control.obey_signals()
    metrics = registry()
    metrics.register(LinkCollector(relay, control))

    def ready() -> str | None:
        return None if relay.resolved.is_set() else f"{settings.upstream} is not resolved yet"

    with MetricsServer(settings.metrics_listen, metrics, ready):
        log.info("listening", listener="link", address=str(relay.open()))
        control.expect(plan)
        try:
            async with asyncio.TaskGroup() as tasks:
                upkeep = (tasks.create_task(relay.run()), tasks.create_task(_announce(relay)))
                await stop.draining.wait()
                log.info("draining")
                for task in upkeep:
                    task.cancel()
        finally:
            control.close()
            relay.close()
    log.info("stopped")
    return 0


async def _announce(relay: Relay) -> None:
    await relay.resolved.wait()
    log.info("ready")
