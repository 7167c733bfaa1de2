"""What the compose stack does to itself, with an engine that is slow, fails, or does half of it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from docker.errors import APIError, NotFound
from requests.exceptions import ReadTimeout

from loadgen.stack_api import ProgramEndedBadlyError, StackError
from loadgen.stacks import compose_faults
from loadgen.stacks.compose_faults import ComposeFaults
from loadgen.stacks.link_control import LinkPlan
from loadgen.stacks.project import Project

SERVER = "proxy-server"


class FakeContainer:
    """A container that does what it is told, and notes it; each `pause` and `kill` waits until the test lets it."""

    def __init__(self, name: str = SERVER) -> None:
        self.labels = {"com.docker.compose.service": name}
        self.now = "running"
        self.networks: dict[str, Any] = {name: endpoint(name) for name in ("finback", "other")}
        self.ends_with = 0
        self.log = b"the last line\n"
        self.asked_of_log: dict[str, Any] = {}
        self.began, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()
        self.signals: list[str] = []
        self.reload()

    def reload(self) -> None:
        state = {"ExitCode": self.ends_with, "Status": self.now, "StartedAt": "2026-01-02T03:04:05.123456789Z"}
        self.attrs: dict[str, Any] = {"NetworkSettings": {"Networks": dict(self.networks)}, "State": state}

    @property
    def status(self) -> str:
        return str(self.attrs["State"]["Status"])

    def _wait_for_the_test(self) -> None:
        self.began.set()
        assert self.may_go_on.wait(10)

    def pause(self) -> None:
        self._wait_for_the_test()
        self.now = "paused"

    def unpause(self) -> None:
        self.now = "running"

    def kill(self, signal: str = "SIGKILL") -> None:
        self._wait_for_the_test()
        self.signals.append(signal)
        self.now = "exited"

    def wait(self, timeout: float) -> None:
        pass

    def stop(self, timeout: float) -> None:
        self.now = "exited"

    def start(self) -> None:
        self.now = "running"

    def logs(self, **asked: Any) -> bytes:
        self.asked_of_log = asked
        return self.log


def endpoint(name: str) -> dict[str, Any]:
    return {"IPAddress": f"10.0.0.{len(name)}", "Aliases": [SERVER]}


class FakeProject:
    """A project of one container, and the engine's networks. `refuses` are calls that it will not do."""

    def __init__(self) -> None:
        self.one = FakeContainer()
        self.refuses: list[str] = []
        self.not_ready: Exception | None = None
        self.client = self.networks = self

    def container(self, service: str) -> FakeContainer:
        self.one.reload()
        return self.one

    def get(self, name: str) -> "FakeNetwork":
        return FakeNetwork(self, name)

    async def wait_ready(self, service: str) -> None:
        if self.not_ready is not None:
            raise self.not_ready


class FakeNetwork:
    def __init__(self, project: FakeProject, name: str) -> None:
        self.project, self.name = project, name

    def connect(self, container: FakeContainer, **how: Any) -> None:
        if f"connect {self.name}" in self.project.refuses or self.name in container.networks:
            raise APIError("the engine has a cold")
        container.networks[self.name] = endpoint(self.name)

    def disconnect(self, container: FakeContainer) -> None:
        if f"disconnect {self.name}" in self.project.refuses:
            raise APIError("the engine has a cold")
        del container.networks[self.name]


@pytest.fixture
def project() -> FakeProject:
    return FakeProject()


def make_faults(project: FakeProject, plan: LinkPlan | None = None) -> ComposeFaults:
    return ComposeFaults(cast(Project, project), [SERVER, "link"], plan)


@pytest.fixture
def faults(project: FakeProject) -> ComposeFaults:
    return make_faults(project)


@pytest.mark.parametrize(
    ("begin", "heal"),
    [(ComposeFaults.pause, ComposeFaults.resume), (ComposeFaults.kill, ComposeFaults.start)],
    ids=["pause", "kill"],
)
async def test_a_fault_that_was_cancelled_half_way_is_healed_all_the_same(
    project: FakeProject,
    faults: ComposeFaults,
    begin: Callable[[ComposeFaults, str], Awaitable[None]],
    heal: Callable[[ComposeFaults, str], Awaitable[None]],
) -> None:
    """The engine goes on with what it was asked for: the healing comes after it."""
    project.one.may_go_on.clear()
    beginning = asyncio.ensure_future(begin(faults, SERVER))
    await asyncio.to_thread(project.one.began.wait, 10)
    beginning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beginning

    healing = asyncio.ensure_future(heal(faults, SERVER))
    await asyncio.wait([healing], timeout=0.05)
    assert not healing.done()
    project.one.may_go_on.set()
    await healing

    assert project.one.now == "running"


async def test_a_healing_that_was_cancelled_can_be_done_again(project: FakeProject, faults: ComposeFaults) -> None:
    project.one.may_go_on.clear()
    pausing = asyncio.ensure_future(faults.pause(SERVER))
    await asyncio.to_thread(project.one.began.wait, 10)
    healing = asyncio.ensure_future(faults.resume(SERVER))
    await asyncio.sleep(0)
    healing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await healing
    project.one.may_go_on.set()
    await pausing

    await faults.resume(SERVER)

    assert project.one.now == "running"


async def test_a_container_is_on_its_networks_again_however_often_that_fails(
    project: FakeProject, faults: ComposeFaults
) -> None:
    before = dict(project.one.networks)
    await faults.disconnect(SERVER)
    assert project.one.networks == {}
    with pytest.raises(StackError, match="is disconnected already"):
        await faults.disconnect(SERVER)

    project.refuses = ["connect other"]
    for _ in range(2):
        with pytest.raises(StackError, match="the engine has a cold"):
            await faults.connect(SERVER)
    project.refuses = []
    await faults.connect(SERVER)

    assert project.one.networks == before


async def test_a_container_that_left_one_network_of_two_comes_back(project: FakeProject, faults: ComposeFaults) -> None:
    before = dict(project.one.networks)
    project.refuses = ["disconnect other"]
    with pytest.raises(StackError, match="the engine has a cold"):
        await faults.disconnect(SERVER)
    assert list(project.one.networks) == ["other"]

    await faults.connect(SERVER)
    assert project.one.networks == before

    project.refuses = []
    await faults.disconnect(SERVER)
    assert project.one.networks == {}


async def test_what_somebody_else_took_off_the_network_cannot_be_put_back(
    project: FakeProject, faults: ComposeFaults
) -> None:
    await faults.connect(SERVER)  # on all of its networks
    project.one.networks = {}

    with pytest.raises(StackError, match="is on no network, and it was not taken off one here"):
        await faults.connect(SERVER)


@pytest.mark.parametrize("error", [NotFound("no such container"), APIError("oh"), ReadTimeout("too slow")])
async def test_what_the_engine_says_while_a_program_gets_ready_is_a_stack_error(
    project: FakeProject, faults: ComposeFaults, error: Exception
) -> None:
    project.not_ready = error

    with pytest.raises(StackError, match=f"proxy-server: {error}"):
        await faults.start(SERVER)


@pytest.mark.parametrize(("code", "at_once"), [(137, False), (1, False), (70, True)])
async def test_a_bad_end_is_the_programs_failure(
    project: FakeProject, faults: ComposeFaults, code: int, at_once: bool
) -> None:
    project.one.ends_with = code

    with pytest.raises(ProgramEndedBadlyError, match=f"(?s)proxy-server.*exit code {code}.*the last line") as caught:
        await faults.stop(SERVER, at_once=at_once)

    assert (caught.value.exit_code, caught.value.program) == (code, SERVER)
    assert project.one.now == "exited"


async def test_what_was_cut_at_once_is_no_bad_end(project: FakeProject, faults: ComposeFaults) -> None:
    project.one.ends_with = 1

    await faults.stop(SERVER, at_once=True)


async def test_a_paused_container_is_told_to_stop_at_once_too(project: FakeProject, faults: ComposeFaults) -> None:
    await faults.pause(SERVER)

    await faults.stop(SERVER, at_once=True)

    assert project.one.signals == ["SIGTERM"]


async def test_of_the_links_log_only_the_end_of_its_present_run_is_read(project: FakeProject) -> None:
    project.one = FakeContainer("link")
    project.one.log = b'{"event": "rebound"}\n'

    assert await make_faults(project)._events_of_link() == [{"event": "rebound"}]
    assert project.one.asked_of_log["since"] == pytest.approx(1767323045.123456)
    assert project.one.asked_of_log["tail"] == compose_faults._LOG_LINES
