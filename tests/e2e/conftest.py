"""The containers: one stack for all tests of this folder, and one more for each pairing of engines.

Rules
- Tests look at containers through the docker SDK and at series through Prometheus; no proxy's code is in this process.
- Quinn is in the images where its wheel was in wheelhouse/ when they were built.
- Without a Docker engine the tests are skipped, with the reason; FINBACK_REQUIRE_DOCKER=1 makes that a failure.
- The project has a name, ports and a subnet of its own, and nothing of it is left behind.
- A test that stops or pauses something leaves it running and healthy.
"""

import asyncio
import json
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import pytest
from docker.models.containers import Container
from tests.pairings import AUTO, Pairing, need_quinn

from loadgen.stack_api import RTT_20_MS, StackError, StackSettings
from loadgen.stacks.compose import ComposeStack, compose_stack
from loadgen.stacks.project import compose_command, connect

REQUIRE = "FINBACK_REQUIRE_DOCKER"
SECONDS_A_TEST = 300  # the first one builds the images and starts the containers
CI_PROMETHEUS = "finback-ci/prometheus:debian"
HERE = Path(__file__).parent
WHEELS = HERE.parents[1] / "wheelhouse"

T = TypeVar("T")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Also what runs once has its pairing said, so that pytest puts together what shares a stack."""
    marks = metafunc.definition.iter_markers("parametrize")
    if "pairing" in metafunc.fixturenames and not any("pairing" in mark.args[0] for mark in marks):
        metafunc.parametrize("pairing", [AUTO], indirect=True, ids=str)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.timeout(SECONDS_A_TEST))


class Prometheus:
    """The Prometheus of the stack."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._open = build_opener(ProxyHandler({})).open

    def query(self, expression: str, at: float | None = None) -> dict[tuple[str, ...], float]:
        """An instant query, of now or of a time of day: value by the values of the labels (sorted by name, without job
        and instance)."""
        asked = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
        url = f"http://{self.address}/api/v1/query?{urlencode(asked)}"
        with self._open(url, timeout=10) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return {
            tuple(
                value for name, value in sorted(series["metric"].items()) if name not in ("__name__", "job", "instance")
            ): float(series["value"][1])
            for series in answer["data"]["result"]
        }

    def wait_for(
        self, expression: str, holds: Callable[[dict[tuple[str, ...], float]], bool], bound_s: float = 30.0
    ) -> dict[tuple[str, ...], float]:
        """Asks until `holds` says yes of the answer, which is returned."""
        end_s = monotonic() + bound_s
        while True:
            answer = self.query(expression)
            if holds(answer):
                return answer
            assert monotonic() < end_s, f"{expression} is {answer} after {bound_s:g} s"
            sleep(0.5)


class Containers:
    """The running stack, for tests that do not await."""

    def __init__(self, stack: ComposeStack, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.stack = stack
        self.project = stack.project
        self._run = run

    # Asked for each time: a container that is started again is published on another port.
    @property
    def socks(self) -> tuple[str, int]:
        return "127.0.0.1", self.project.host_port("proxy-client", 1080)

    @property
    def prometheus(self) -> Prometheus:
        return Prometheus(f"127.0.0.1:{self.project.host_port('prometheus', 9090)}")

    def up(self, service: str) -> None:
        """Starts a service whose dependencies run, and waits until it is healthy."""
        self._run(self.project.up([service], dependencies=False))

    def scale(self, service: str, replicas: int) -> list[Container]:
        """The same, with so many containers; nobody waits."""
        scaled = ("--scale", f"{service}={replicas}", service)
        self._run(self.project.compose("up", "-d", "--no-deps", *scaled))
        return self.project.containers(service)

    def wait_healthy(self, service: str) -> None:
        self._run(self.project.wait_healthy(service))

    def soak(self, arguments: Sequence[str], report: Path) -> tuple[int, Any]:
        """Runs a soak in a container of its own; returns its exit code and verdict.json."""
        stack = self.stack
        watched = [part for name, url in stack.metrics.items() for part in ("--metrics-of", f"{name}={url}")]
        where = ["--proxy", f"socks5://{stack.proxy}", "--target", f"http://{stack.target}"]
        code = self._run(stack.soak(["--stack", "external", *where, *watched, *arguments], report))
        return code, json.loads((report / "verdict.json").read_text())


def prometheus_image() -> dict[str, str]:
    """The variable for docker-compose.yml where CI has made an image because none can be pulled; else nothing."""
    with closing(connect()) as client:
        made = client.images.list(filters={"reference": CI_PROMETHEUS})
    return {"PROMETHEUS_IMAGE": CI_PROMETHEUS} if made and not os.environ.get("PROMETHEUS_IMAGE") else {}


@pytest.fixture(scope="session")
def pairing(request: pytest.FixtureRequest) -> Pairing:
    """The engines of the proxies."""
    found: Pairing = request.param
    if "quinn" in found:
        need_quinn(there=any(WHEELS.glob("quinn_engine-*linux*.whl")))
    return found


@pytest.fixture(scope="session")
def containers(pairing: Pairing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """proxy-server, link (20 ms round trip), proxy-client, http-target and Prometheus; no generator yet."""
    try:
        connect().close()
        compose_command()
    except StackError as error:
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"{error} ({REQUIRE}=1)", pytrace=False)
        pytest.skip(str(error))
    settings = StackSettings(link=RTT_20_MS, logs_directory=tmp_path_factory.mktemp("logs"))
    engines = {"ENGINE_CLIENT": pairing.client, "ENGINE_SERVER": pairing.server}
    with asyncio.Runner() as runner:
        opened = compose_stack(settings, also=["prometheus"], environment={**prometheus_image(), **engines})
        stack = runner.run(opened.__aenter__())
        try:
            yield Containers(stack, runner.run)
        finally:
            runner.run(opened.__aexit__(None, None, None))
