"""The stack as containers, from the repository's docker-compose.yml, with the generator in a container of its own.

Rules
- What runs is what an operator gets from `docker compose up`; only project name, ports and subnet are the run's own.
- The programs are set through their environment in docker-compose.yml; a soak's further arguments become their command
  line, in an override file: a flag goes before the environment.
- Nothing of this process is on the path of the load: it starts the generator, shows its output, copies its report out.
- Afterwards no container, network or volume of the run is left. Images stay: they are the cache.
"""

import asyncio
import io
import secrets
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TextIO

from docker.errors import NotFound
from docker.models.containers import Container

from loadgen.stack_api import StackError, StackSettings
from loadgen.stacks.compose_faults import ComposeFaults
from loadgen.stacks.link_control import LinkPlan
from loadgen.stacks.project import STOP_TIMEOUT_S, Project
from servicekit.address import Address
from servicekit.logs import get_logger

METRICS_PORTS = {"proxy-client": 9101, "proxy-server": 9102, "http-target": 9103, "link": 9105}

GENERATOR_STOP_TIMEOUT_S = 180
"""A generator that is told to end lets its transactions end, and then watches the drain: each takes its own time."""

log = get_logger()


class ComposeStack:
    """A running stack; see `loadgen.stack_api.GeneratingStack`. Addresses are names in its own network."""

    def __init__(self, settings: StackSettings, project: Project, plan: LinkPlan | None) -> None:
        programs = [name for name in METRICS_PORTS if name != "link" or settings.link is not None]
        self.project = project
        self.proxy = Address("proxy-client", 1080)
        self.target = Address("http-target", 8080)
        self.server_first = Address("http-target", 8081)
        self.metrics = {name: f"http://{name}:{METRICS_PORTS[name]}/metrics" for name in programs}
        self.pids: dict[str, int] = {}  # in other /procs than the generator's
        self.faults = ComposeFaults(project, programs, plan)

    async def soak(
        self,
        arguments: Sequence[str],
        report: Path,
        *,
        on_line: Callable[[str], None] | None = None,
        marks: Path | None = None,
    ) -> int:
        """Runs the generator with these arguments; see `loadgen.stack_api.GeneratingStack.soak`."""
        inside = f"/reports/{secrets.token_hex(4)}"
        async with self._continuous_load_paused():
            reachable = ("--metrics-listen", "0.0.0.0:9104")  # for Prometheus
            command = ["soak", *arguments, *reachable, "--report", inside]
            generator = await self._start_generator(command, marks)
            following = asyncio.ensure_future(_follow(generator, on_line))
            try:
                await asyncio.shield(following)
            finally:
                # After a cancellation: SIGTERM, and the end of the drain is still seen and reported.
                await asyncio.to_thread(generator.stop, timeout=GENERATOR_STOP_TIMEOUT_S)
                await following
                await asyncio.to_thread(copy_out, generator, inside, report)
                code = (await asyncio.to_thread(generator.wait))["StatusCode"]
                await asyncio.to_thread(generator.remove)
        return int(code)

    async def _start_generator(self, command: Sequence[str], marks: Path | None) -> Container:
        before = {container.id for container in await asyncio.to_thread(self.project.containers)}
        mounts = [] if marks is None else ["-v", f"{_readable(marks)}:/marks:ro"]
        # With the service's name in DNS, so that Prometheus finds it.
        await self.project.compose("run", "-d", "-T", "--no-deps", "--use-aliases", *mounts, "loadgen", *command)
        after = await asyncio.to_thread(self.project.containers)
        (generator,) = [container for container in after if container.id not in before]
        return generator

    @asynccontextmanager
    async def _continuous_load_paused(self) -> AsyncIterator[None]:
        running = [
            container
            for container in await asyncio.to_thread(self.project.containers)
            if container.labels["com.docker.compose.service"] == "loadgen" and container.status == "running"
        ]
        for container in running:
            await asyncio.to_thread(container.stop, timeout=STOP_TIMEOUT_S)
        try:
            yield
        finally:
            for container in running:
                await asyncio.to_thread(container.start)


@asynccontextmanager
async def compose_stack(
    settings: StackSettings,
    *,
    also: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    services: Mapping[str, Mapping[str, Any]] | None = None,
) -> AsyncIterator[ComposeStack]:
    """Brings the stack up in containers, and removes them on exit.

    `also` are further services of docker-compose.yml, `environment` further variables of it, `services` what else is
    laid over its services, or services that it does not have. Raises StackError: no engine, no Compose, an image that
    cannot be built, a container that does not get healthy.
    """
    if settings.programs:
        raise StackError("another executable for a program: only in the local stack; containers run their images")
    async with AsyncExitStack() as exits:
        directory = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="finback-")))
        way_round = {} if settings.link is not None else {"TUNNEL_SERVER": "proxy-server:4433"}
        plan = _plan(settings, directory / "link")
        project = Project(directory, {**way_round, **(environment or {})}, _overrides(settings, plan, services or {}))
        exits.callback(project.client.close)
        log.info("building_images")
        await project.build([*METRICS_PORTS, "loadgen"])
        exits.push_async_callback(project.down)
        exits.push_async_callback(_keep_logs, project, settings.logs_directory)
        log.info("starting_containers", project=project.name)
        if settings.link is not None:
            await project.up(["proxy-client", "http-target", *also])
        else:
            await project.up(["proxy-server", "http-target"], dependencies=False)
            await project.up(["proxy-client", *also], dependencies=False)
        yield ComposeStack(settings, project, plan)


def _plan(settings: StackSettings, directory: Path) -> LinkPlan | None:
    if settings.link is None:
        return None
    return LinkPlan([*settings.link, *settings.arguments.get("link", ())], directory)


def _overrides(
    settings: StackSettings, plan: LinkPlan | None, further: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What docker-compose.yml does not say, by service."""
    services: dict[str, Any] = {name: {"command": list(given)} for name, given in settings.arguments.items() if given}
    if plan is not None:
        services["link"] = _link_override(plan)
    return services | {name: services.get(name, {}) | dict(given) for name, given in further.items()}


def _link_override(plan: LinkPlan) -> dict[str, Any]:
    """A link that is what its plan says: docker-compose.yml's own delay is unset.

    The plan's directory is mounted, not the file: a mounted file would stay the old one when it is replaced.
    """
    return {
        "command": ["link", *plan.arguments("/plan")],
        "environment": {"LOADGEN_LINK_DELAY_MS": "", "LOADGEN_LINK_LOSS": ""},
        "volumes": [f"{plan.directory.resolve()}:/plan:ro"],
    }


def _readable(directory: Path) -> Path:
    """The directory, absolute, and open to the containers' user."""
    directory.chmod(0o755)
    return directory.resolve()


async def _keep_logs(project: Project, directory: Path | None) -> None:
    """Writes each container's log as PROGRAM.log, for the soak's report."""
    if directory is not None:
        await asyncio.to_thread(_write_logs, project, directory)


def _write_logs(project: Project, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for container in project.containers():
        (directory / f"{container.labels['com.docker.compose.service']}.log").write_bytes(container.logs())


async def _follow(container: Container, on_line: Callable[[str], None] | None) -> None:
    """Shows a container's output here, as it comes, until it has ended; all of it where it has ended already."""
    loop = asyncio.get_running_loop()

    def show(sink: TextIO, *, stdout: bool) -> None:
        lines = Lines()
        for chunk in container.logs(stdout=stdout, stderr=not stdout, stream=True, follow=True):
            sink.write(chunk.decode(errors="replace"))
            sink.flush()
            if on_line is not None and not stdout:
                for line in lines.of(chunk):
                    loop.call_soon_threadsafe(on_line, line)

    await asyncio.gather(
        asyncio.to_thread(show, sys.stdout, stdout=True), asyncio.to_thread(show, sys.stderr, stdout=False)
    )


class Lines:
    """Makes lines of chunks."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, chunk: bytes) -> list[str]:
        """The lines that end in this chunk, without their ends."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line.decode(errors="replace") for line in lines]


def copy_out(container: Container, inside: str, outside: Path) -> None:
    """Copies the regular files below a directory of a container, if it is there, into a directory here."""
    try:
        chunks, _ = container.get_archive(inside)
    except NotFound:
        return
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        for member in archive:
            path = outside.joinpath(*Path(member.name).parts[1:])
            file = archive.extractfile(member) if member.isfile() and ".." not in path.parts else None
            if file is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.read())
