"""The container stack as `recovery.py` needs it: a resolver that can fall silent, small disks, few descriptors.

Rules
- The link between the proxies is one address of the name `tunnel`, which is all that the client knows.
- Names reach the proxies through `names`, another `loadgen link`, in front of the engine's own resolver.
- /logs and /qlog of the proxies are tmpfs, a megabyte each: what they write to a disk can fill one.
- Times are of the clock that the programs' logs have.
"""

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import datetime
from ipaddress import IPv4Network
from pathlib import Path
from time import time
from typing import Any

import docker
from application import Asked, ask, path_of
from docker.errors import APIError
from docker.models.containers import Container

from loadgen.link.plan import Window
from loadgen.stack_api import RTT_20_MS, Faults, StackSettings
from loadgen.stacks.compose import ComposeStack, compose_stack
from loadgen.stacks.link_control import LinkControl, LinkPlan
from loadgen.stacks.program_log import Event, events
from loadgen.stacks.project import connect, free_subnet
from servicekit.address import Address

PROXIES = ("proxy-client", "proxy-server")
DESCRIPTORS = {"proxy-client": 400, "proxy-server": 200}
BLACKHOLE = [Window(from_s=0, blackhole=True)]
START_S = 30.0
SETTLED_S = 60.0
REQUEST_BYTES = 1_000
_POLL_S = 0.1


class Lab:
    """A running stack to break, and an application at its proxy."""

    def __init__(self, stack: ComposeStack, names: LinkControl | None = None) -> None:
        self.stack = stack
        self.faults: Faults = stack.faults
        self.target = Address("http-target", 8080)
        self.target_address = Address(str(_address(self.container("http-target"))), 8080)
        self.began_s = self.ended_s = 0.0
        self.ended = asyncio.Event()
        self.transfer: asyncio.Task[Asked] | None = None
        self._names = names

    # When.

    def begins(self) -> None:
        """The fault does, now."""
        self.began_s = time()
        self.ended.clear()

    def ends(self, at_s: float | None = None) -> None:
        """The fault did, now or earlier."""
        self.ended_s = at_s or time()
        self.ended.set()

    # The application.

    async def proxy(self) -> Address | None:
        """Where SOCKS5 is spoken now, if anywhere. Not the published port: what forwards that hides resets."""
        host = _address(await asyncio.to_thread(self.container, "proxy-client"))
        return Address(host, 1080) if host else None

    async def ask(self, within_s: float, target: Address | None = None) -> Asked:
        return await ask(await self.proxy(), target or self.target, path_of(REQUEST_BYTES), within_s)

    async def settled(self) -> None:
        """Waits until requests are served as if nothing had ever happened."""
        async with asyncio.timeout(SETTLED_S):
            in_a_row = 0
            while in_a_row < 5:
                asked = await self.ask(5)
                in_a_row = in_a_row + 1 if asked.ending == "served" and asked.took_s < 0.5 else 0

    # Programs.

    def container(self, program: str) -> Container:
        return self.stack.project.container(program)

    async def execute(self, program: str, *command: str) -> str:
        """What a command in its container says."""
        container = await asyncio.to_thread(self.container, program)
        try:
            output: bytes = (await asyncio.to_thread(container.exec_run, list(command))).output
            return output.decode(errors="replace")
        except APIError as error:  # It does not run.
            return str(error)

    async def log(self, program: str) -> list[dict[str, Any]]:
        """Its log since its start, as far as it could be written."""
        text = await self.execute(program, "cat", f"/logs/{program}.log")
        if "No such file" in text:
            text = (await asyncio.to_thread(self.container(program).logs)).decode(errors="replace")
        lines = []
        for line in text.splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:  # The disk was full in the middle of it.
                continue
        return lines

    async def ready_s(self, program: str) -> float:
        """When it last became ready, by its own word: the engine's health check looks later."""
        word = "listening" if program == "http-target" else "ready"
        return max(_when(line) for line in await self.log(program) if line["event"] == word)

    async def listens_s(self, program: str) -> float:
        return max(_when(line) for line in await self.log(program) if line["event"] == "listening")

    async def another_server(self) -> Container:
        """One more proxy-server; it has the name `tunnel` too, and is ready."""
        project = self.stack.project
        before = {container.id for container in project.containers("proxy-server")}
        scaled = ("--scale", "proxy-server=2", "proxy-server")
        await project.compose("up", "-d", "--no-deps", "--no-recreate", *scaled)
        (new,) = [container for container in project.containers("proxy-server") if container.id not in before]
        await asyncio.to_thread(_rename, project.client, new, "tunnel")
        await until_ready(new)
        return new

    async def names_silent(self, silent: bool) -> None:
        assert self._names is not None, "this stack has no resolver of its own"
        await self._names.impair(BLACKHOLE if silent else [])


async def until_ready(container: Container) -> None:
    """By its own health check, asked here."""
    check = container.attrs["Config"]["Healthcheck"]["Test"]
    async with asyncio.timeout(START_S):
        while True:
            if (await asyncio.to_thread(container.exec_run, check[1:])).exit_code == 0:
                return
            await asyncio.sleep(_POLL_S)


def _when(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()


def _address(container: Container) -> str:
    networks = container.attrs["NetworkSettings"]["Networks"]
    return next((str(network["IPAddress"]) for network in networks.values()), "")


def _rename(connected: docker.DockerClient, container: Container, alias: str) -> None:
    container.reload()
    (network,) = container.attrs["NetworkSettings"]["Networks"]
    found = connected.networks.get(network)
    found.disconnect(container)
    found.connect(container, aliases=[alias])


@asynccontextmanager
async def recovery_lab(engine: str) -> AsyncIterator[Lab]:
    """The stack with this engine on both sides."""
    with tempfile.TemporaryDirectory(prefix="finback-") as scratch:
        directory = Path(scratch)
        os.chmod(directory, 0o755)
        with closing(connect()) as client:
            subnet = free_subnet(client)
        names = str(IPv4Network(subnet)[53])
        plan = LinkPlan((), directory / "names")
        resolver = directory / "resolv.conf"
        resolver.write_text(f"nameserver {names}\n")
        resolver.chmod(0o644)
        environment = {
            "ENGINE_CLIENT": engine,
            "ENGINE_SERVER": engine,
            "FINBACK_SUBNET": subnet,
            "TUNNEL_SERVER": "tunnel:4433",
        }
        services = {
            "names": _names_service(names, plan),
            "link": _link_service(),
            **{program: _proxy_service(program, resolver) for program in PROXIES},
        }
        settings = StackSettings(link=RTT_20_MS)
        async with compose_stack(settings, also=["names"], environment=environment, services=services) as stack:
            yield Lab(stack, _control(stack, plan))


def _names_service(address: str, plan: LinkPlan) -> dict[str, Any]:
    listening = ["--listen", "0.0.0.0:53", "--upstream", "127.0.0.11:53", "--metrics-listen", "0.0.0.0:9105"]
    return {
        "image": "finback/link:${FINBACK_TAG:-dev}",
        "command": ["link", *listening, *plan.arguments("/plan")],
        "init": True,
        "volumes": [f"{plan.directory.resolve()}:/plan:ro"],
        "networks": {"finback": {"ipv4_address": address}},
        "healthcheck": {"test": ["CMD", "probe", "9105", "readyz"], "interval": "1s", "retries": 20},
    }


def _proxy_service(program: str, resolver: Path) -> dict[str, Any]:
    prefix = program.replace("-", "_").upper()
    return {
        "entrypoint": ["sh", "-c", f"exec {program} 2>>/logs/{program}.log"],
        "environment": {f"{prefix}_QLOG": "/qlog"},
        "tmpfs": [f"{disk}:size=1m,uid=10001,gid=10001" for disk in ("/logs", "/qlog")],
        "volumes": [f"{resolver}:/etc/resolv.conf:ro"],
        "ulimits": {"nofile": DESCRIPTORS[program]},
        "depends_on": {"names": {"condition": "service_healthy"}},
    }


def _link_service() -> dict[str, Any]:
    return {"networks": {"finback": {"aliases": ["tunnel"]}}}


def _control(stack: ComposeStack, plan: LinkPlan) -> LinkControl:
    async def send(number: Any) -> None:
        await asyncio.to_thread(stack.project.container("names").kill, signal=number.name)

    async def said() -> Sequence[Event]:
        container = stack.project.container("names")
        return events((await asyncio.to_thread(container.logs, stdout=False)).decode(errors="replace"))

    return LinkControl(plan, send, said)
