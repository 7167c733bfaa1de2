"""One run of the repository's docker-compose.yml, under a project name of its own.

Rules
- `docker compose` where it exists, else `docker-compose`; the engine is asked through the docker SDK.
- Containers are found by the label com.docker.compose.service: their names differ between the two.
- Names, ports and subnet are the run's own, so that several runs and an operator's own stack do not meet.
- `down` removes everything the run made: containers (one-off ones too), network and volumes.
- Whatever Compose says goes to a file, whose end is part of the error when it fails.
"""

import asyncio
import json
import os
import random
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from ipaddress import IPv4Network
from pathlib import Path
from shutil import which
from subprocess import DEVNULL, STDOUT, run
from time import monotonic
from typing import Any

from loadgen.stack_api import StackError

try:
    import docker
    from docker.errors import APIError, DockerException
    from docker.models.containers import Container
    from docker.utils import parse_host
except ImportError as error:
    raise StackError("the docker SDK is missing; it comes with loadgen[orchestrator]") from error

ENGINE_ERRORS = (DockerException, OSError)
"""OSError: what the engine's socket raises."""
READY_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30
_POLL_S = 0.2
LAST_LINES = 20


def repository() -> Path:
    """Returns the directory of docker-compose.yml: here or above, else above this source. Raises StackError."""
    here = Path.cwd()
    for directory in (here, *here.parents, *Path(__file__).parents):
        if (directory / "docker-compose.yml").exists() and (directory / "loadgen" / "pyproject.toml").exists():
            return directory
    raise StackError(f"no docker-compose.yml of finback in {here} or above it")


@cache
def compose_command() -> tuple[str, ...]:
    """Returns how Compose is called on this machine. Raises StackError."""
    if (
        which("docker")
        and run(["docker", "compose", "version"], stdout=DEVNULL, stderr=DEVNULL, check=False).returncode == 0
    ):
        return ("docker", "compose")
    if which("docker-compose"):
        return ("docker-compose",)
    raise StackError("neither `docker compose` nor `docker-compose` is installed")


def connect() -> docker.DockerClient:
    """Returns a client of the engine. Raises StackError where none answers."""
    try:
        _knock(str(parse_host(os.environ.get("DOCKER_HOST"))))
        client = docker.from_env()
        client.ping()
    except (DockerException, OSError) as error:
        raise StackError(f"no Docker engine answers: {error}") from error
    return client


def _knock(host: str) -> None:
    """Raises StackError where nobody listens on the engine's Unix socket; the SDK would leave its own socket open."""
    scheme, _, path = host.partition("://")
    if scheme != "http+unix":
        return
    with socket.socket(socket.AF_UNIX) as knocking:
        try:
            knocking.connect(path)
        except OSError as error:
            raise StackError(f"no Docker engine answers at {path}: {error.strerror}") from error


def free_subnet(client: docker.DockerClient) -> str:
    """Returns a /24 that no network of this engine overlaps; chosen at random, as somebody else may be choosing too."""
    configs = [config for network in client.networks.list() for config in (network.attrs["IPAM"]["Config"] or [])]
    taken = [IPv4Network(config["Subnet"]) for config in configs if ":" not in config.get("Subnet", ":")]
    candidates = [IPv4Network((f"10.213.{third}.0", 24)) for third in range(256)]
    free = [str(subnet) for subnet in candidates if not any(subnet.overlaps(other) for other in taken)]
    if not free:
        raise StackError("no subnet of 10.213.0.0/16 is free; `docker network prune` removes unused networks")
    return random.choice(free)


class Project:
    """A project that is not up yet. The engine's errors after that are docker.errors.DockerException."""

    def __init__(self, directory: Path, environment: Mapping[str, str], services: Mapping[str, Any]) -> None:
        """`directory` takes the override file and Compose's output.

        `environment` are variables of docker-compose.yml, `services` what overrides its services.
        """
        self.client = connect()
        self.name = f"finback-{secrets.token_hex(4)}"
        self.root = repository()
        self.output = directory / "compose.log"
        self._override = directory / "override.json"  # JSON is YAML
        overrides = {"loadgen": {"restart": "no"}, **services}  # a generator that has ended has ended
        self._override.write_text(json.dumps({"services": overrides}))
        own = {"SOCKS_PORT": "0", "PROMETHEUS_PORT": "0", "FINBACK_SUBNET": free_subnet(self.client)}
        self._environment = {**os.environ, **own, **environment}

    async def compose(self, *arguments: str) -> None:
        """Runs one Compose command to its end. Raises StackError; a cancellation ends the command."""
        files = ("-f", str(self.root / "docker-compose.yml"), "-f", str(self._override))
        command = (*compose_command(), "-p", self.name, *files, *arguments)
        with self.output.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=output, stderr=STDOUT, env=self._environment, start_new_session=True
            )
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        if code != 0:
            end = "\n".join(self.output.read_text(errors="replace").splitlines()[-LAST_LINES:])
            raise StackError(f"`{' '.join((*compose_command(), *arguments))}` failed; the end of its output:\n{end}")

    async def build(self, services: Iterable[str]) -> None:
        """Builds the images of the services; quick where nothing has changed."""
        await self.compose("build", *services)

    async def up(self, services: Sequence[str], *, dependencies: bool = True) -> None:
        """Starts services, with what they depend on unless told otherwise, and waits until these are healthy."""
        await self.compose("up", "-d", *(() if dependencies else ("--no-deps",)), *services)
        await asyncio.gather(*(self.wait_healthy(service) for service in services))

    async def down(self) -> None:
        """Removes everything of this project, whatever the engine refuses meanwhile. Raises StackError."""
        try:
            await asyncio.to_thread(self._clear_the_way)
        finally:
            await self.compose("down", "--volumes", "--remove-orphans", "--timeout", str(STOP_TIMEOUT_S))

    def _clear_the_way(self) -> None:
        """For Compose: it takes no one-off containers along, and a paused one would not hear that it shall end."""
        with suppress(*ENGINE_ERRORS):  # Compose will say what is wrong with the engine
            for container in self.containers():
                with suppress(*ENGINE_ERRORS):  # of this one; the others still can
                    if container.labels.get("com.docker.compose.oneoff", "").lower() == "true":
                        container.remove(force=True)
                    elif container.status == "paused":
                        container.unpause()

    def containers(self, service: str | None = None) -> list[Container]:
        """Every container of this project, or of one service of it; stopped ones too."""
        labels = [f"com.docker.compose.project={self.name}"]
        if service is not None:
            labels.append(f"com.docker.compose.service={service}")
        # The list is asked first and each container then: one that is removed in between is none.
        return self.client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)

    def container(self, service: str) -> Container:
        """The container of a service. Raises StackError where there is none."""
        for container in self.containers(service):
            if container.labels.get("com.docker.compose.oneoff", "").lower() != "true":
                return container
        raise StackError(f"there is no container of {service} in {self.name}")

    def host_port(self, service: str, port: int) -> int:
        """The port of the host's loopback that a TCP port of a service is published on."""
        container = self.container(service)
        container.reload()
        published = container.ports[f"{port}/tcp"]
        if not published:
            raise StackError(f"port {port} of {service} is not published")
        return int(published[0]["HostPort"])

    async def wait_healthy(self, service: str) -> None:
        """Waits until a service's health check has passed. Raises StackError, with the last lines of its log."""

        def healthy(container: Container) -> bool:
            return _health(container) in ("healthy", "running")

        await self._wait(service, healthy)

    async def wait_ready(self, service: str) -> None:
        """Like `wait_healthy`, but the health check is run from here: nobody waits for its next turn."""

        def ready(container: Container) -> bool:
            check = container.attrs["Config"]["Healthcheck"]["Test"]
            try:
                return bool(container.exec_run(check[1:]).exit_code == 0)
            except APIError:  # it ended meanwhile
                return False

        await self._wait(service, ready)

    async def _wait(self, service: str, well: Callable[[Container], bool]) -> None:
        deadline_s = monotonic() + READY_TIMEOUT_S
        container = await asyncio.to_thread(self.container, service)
        while True:
            await asyncio.to_thread(container.reload)
            state = container.attrs["State"]
            if state["Running"] and await asyncio.to_thread(well, container):
                return
            if not state["Running"] or monotonic() > deadline_s:
                log = await asyncio.to_thread(container.logs, tail=LAST_LINES)
                raise StackError(
                    f"{service} is {state['Status']} and {_health(container)}, exit code {state['ExitCode']};"
                    f" the end of its log:\n{log.decode(errors='replace').rstrip() or 'nothing was logged'}"
                )
            await asyncio.sleep(_POLL_S)


def _health(container: Container) -> str:
    return str(container.attrs["State"].get("Health", {}).get("Status", "running"))
