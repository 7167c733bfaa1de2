"""A project's end, whatever the engine says meanwhile; and a generator that takes its time to end."""

import io
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest
from docker.errors import APIError, NotFound

from loadgen.stack_api import StackError, StackSettings
from loadgen.stacks import compose, project
from loadgen.stacks.compose import ComposeStack
from loadgen.stacks.project import Project


class FakeContainer:
    """A container of the service `name`; `fails` is what everything done to it raises."""

    def __init__(
        self, name: str, status: str = "running", oneoff: str = "False", fails: Exception | None = None
    ) -> None:
        self.id = f"{name}/{oneoff}"
        self.labels = {"com.docker.compose.service": name, "com.docker.compose.oneoff": oneoff}
        self.status = status
        self.fails = fails
        self.done: list[str] = []

    def _do(self, what: str) -> None:
        if self.fails is not None:
            raise self.fails
        self.done.append(what)

    def unpause(self) -> None:
        self._do("unpause")

    def remove(self, *, force: bool = False) -> None:
        self._do("remove")

    def stop(self, *, timeout: int) -> None:
        self._do(f"stop {timeout}")

    def wait(self) -> dict[str, int]:
        return {"StatusCode": 0}

    def logs(self, **how: Any) -> list[bytes]:
        return []

    def get_archive(self, path: str) -> tuple[list[bytes], dict[str, Any]]:
        buffer = io.BytesIO()
        tarfile.open(fileobj=buffer, mode="w").close()
        return [buffer.getvalue()], {}


class FakeEngine:
    """An engine that lists these containers, or fails."""

    def __init__(self, *present: FakeContainer, fails: Exception | None = None) -> None:
        self.containers = self
        self.present = present
        self.fails = fails
        self.asked: dict[str, Any] = {}

    def list(self, **asked: Any) -> list[FakeContainer]:
        self.asked = asked
        if self.fails is not None:
            raise self.fails
        return list(self.present)


class FakeProject(Project):
    """A project on such an engine, and a Compose that notes what it is asked."""

    def __init__(self, engine: FakeEngine) -> None:
        self.client = cast(Any, engine)
        self.name = "finback-test"
        self.composed: list[str] = []

    async def compose(self, *arguments: str) -> None:
        self.composed.append(arguments[0])


async def test_one_container_that_the_engine_fails_on_keeps_none_of_the_others() -> None:
    gone = FakeContainer("a", "paused", fails=NotFound("no such container"))
    stubborn = FakeContainer("b", oneoff="True", fails=APIError("removal is already in progress"))
    paused, one_off = FakeContainer("c", "paused"), FakeContainer("loadgen", oneoff="True")
    ending = FakeProject(FakeEngine(gone, stubborn, paused, one_off))

    await ending.down()

    assert (paused.done, one_off.done, ending.composed) == (["unpause"], ["remove"], ["down"])


@pytest.mark.parametrize("error", [APIError("oh"), ConnectionError("the engine restarts")])
async def test_compose_takes_the_project_down_where_the_engine_cannot_be_asked(error: Exception) -> None:
    ending = FakeProject(FakeEngine(fails=error))

    await ending.down()

    assert ending.composed == ["down"]


def test_the_container_of_a_service_is_not_its_one_off_and_one_that_was_just_removed_is_none() -> None:
    engine = FakeEngine(FakeContainer("loadgen", oneoff="true"), service := FakeContainer("loadgen"))
    asking = FakeProject(engine)

    assert asking.container("loadgen") is cast(Any, service)

    assert engine.asked["ignore_removed"]
    labels = ["com.docker.compose.project=finback-test", "com.docker.compose.service=loadgen"]
    assert engine.asked["filters"] == {"label": labels}
    engine.present = ()
    with pytest.raises(StackError, match="there is no container of loadgen in finback-test"):
        asking.container("loadgen")


async def test_a_generator_has_the_time_that_its_drain_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = FakeContainer("generator")
    stack = ComposeStack(StackSettings(), FakeProject(FakeEngine()), None)

    async def start(*_: Any) -> FakeContainer:
        return running

    monkeypatch.setattr(stack, "_start_generator", start)

    assert await stack.soak([], tmp_path) == 0

    assert running.done == [f"stop {compose.GENERATOR_STOP_TIMEOUT_S}", "remove"]
    assert compose.GENERATOR_STOP_TIMEOUT_S > 105 + project.STOP_TIMEOUT_S  # it settles, and drains
