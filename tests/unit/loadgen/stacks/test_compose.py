"""The parts of the compose stack that need no engine."""

import io
import os
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest

from loadgen.stack_api import RTT_20_MS, StackError, StackSettings
from loadgen.stacks import project as project_module
from loadgen.stacks.compose import Lines, _overrides, _plan, compose_stack, copy_out
from loadgen.stacks.project import compose_command, free_subnet, repository


def test_arguments_become_command_lines_and_the_environment_stays() -> None:
    settings = StackSettings(arguments={"proxy-client": ("--engine", "quinn"), "proxy-server": ()})

    assert _overrides(settings, None, {}) == {"proxy-client": {"command": ["--engine", "quinn"]}}


def test_what_else_is_asked_for_is_laid_over_what_arguments_say() -> None:
    settings = StackSettings(arguments={"proxy-client": ("--engine", "quinn")})
    further: dict[str, dict[str, object]] = {
        "proxy-client": {"ulimits": {"nofile": 400}},
        "names": {"image": "finback/link"},
    }

    assert _overrides(settings, None, further) == {
        "proxy-client": {"command": ["--engine", "quinn"], "ulimits": {"nofile": 400}},
        "names": {"image": "finback/link"},
    }


def test_a_link_is_what_its_arguments_say_and_not_what_the_file_says(tmp_path: Path) -> None:
    settings = StackSettings(link=RTT_20_MS, arguments={"link": ("--seed", "3")})

    (link,) = _overrides(settings, _plan(settings, tmp_path), {}).values()

    assert link["command"] == ["link", "--delay-ms", "10", "--seed", "3", "--plan", "/plan/plan.toml"]
    assert link["environment"] == {"LOADGEN_LINK_DELAY_MS": "", "LOADGEN_LINK_LOSS": ""}


def test_the_directory_of_the_links_plan_is_mounted_and_any_user_can_read_it(tmp_path: Path) -> None:
    settings = StackSettings(link=RTT_20_MS)
    umask = os.umask(0o077)
    try:
        plan = _plan(settings, tmp_path / "link")
    finally:
        os.umask(umask)

    (link,) = _overrides(settings, plan, {}).values()

    assert link["volumes"] == [f"{tmp_path}/link:/plan:ro"]
    assert (tmp_path / "link").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "link" / "plan.toml").stat().st_mode & 0o777 == 0o644


async def test_containers_run_nothing_but_their_images() -> None:
    with pytest.raises(StackError, match="only in the local stack"):
        async with compose_stack(StackSettings(programs={"proxy-server": Path("/bin/true")})):
            pass


def test_lines_are_made_of_chunks_however_these_were_cut() -> None:
    lines = Lines()

    assert [lines.of(chunk) for chunk in (b"one\ntw", b"o", b"\n\nthr")] == [["one"], [], ["two", ""]]


class FakeContainer:
    """A container that is an archive."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def get_archive(self, path: str) -> tuple[list[bytes], dict[str, object]]:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, data in self.files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            link = tarfile.TarInfo("run/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        return [buffer.getvalue()], {}


def test_a_report_is_copied_out_files_only_and_nowhere_else(tmp_path: Path) -> None:
    files = {"run/verdict.json": b"{}", "run/logs/a.log": b"a", "run/../../escaped": b"no"}

    copy_out(cast(Any, FakeContainer(files)), "/reports/run", tmp_path / "report")

    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"report/verdict.json": b"{}", "report/logs/a.log": b"a"}


class FakeEngine:
    """An engine with networks."""

    def __init__(self, *subnets: str) -> None:
        self.networks = self
        self.subnets = subnets

    def list(self) -> list[Any]:
        def network(config: object) -> Any:
            return type("Network", (), {"attrs": {"IPAM": {"Config": config}}})

        return [
            network(None),
            network([{"Subnet": "fd00::/64"}]),
            *(network([{"Subnet": each}]) for each in self.subnets),
        ]


def test_a_free_subnet_overlaps_none_of_the_engines_networks() -> None:
    halves = "10.213.0.0/17", "10.213.128.0/18", "10.213.192.0/19", "10.213.224.0/20", "10.213.240.0/21"
    rest = [f"10.213.{third}.0/24" for third in range(248, 255)]

    assert free_subnet(cast(Any, FakeEngine("172.17.0.0/16", *halves, *rest))) == "10.213.255.0/24"


def test_no_free_subnet_is_an_error_that_helps() -> None:
    with pytest.raises(StackError, match="docker network prune"):
        free_subnet(cast(Any, FakeEngine("10.213.0.0/16")))


def test_the_repository_is_found_from_below_and_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[4]
    monkeypatch.chdir(root / "docs")
    assert repository() == root
    monkeypatch.chdir(tmp_path)
    assert repository() == root


@pytest.mark.parametrize(
    ("installed", "found"),
    [(["docker-compose"], ("docker-compose",)), (["docker", "docker-compose"], ("docker", "compose"))],
)
def test_docker_compose_is_preferred_to_its_predecessor(
    installed: list[str], found: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project_module, "which", lambda name: name if name in installed else None)
    monkeypatch.setattr(project_module, "run", lambda *_, **__: type("Done", (), {"returncode": 0}))

    assert compose_command.__wrapped__() == found


def test_without_compose_there_is_no_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project_module, "which", lambda name: None)

    with pytest.raises(StackError, match="neither"):
        compose_command.__wrapped__()
