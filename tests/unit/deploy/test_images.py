"""What containers may do, and what images are made of, as the files say it. (tests/e2e looks at those that run.)"""

import re
from pathlib import Path

import pytest
from tests.unit.deploy.promtool import ROOT

COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
LOCKS = [
    *(Path("loadgen/requirements.lock"), Path("services/requirements.lock")),
    *(Path("requirements-build.lock"), Path("requirements.lock")),
]
RIGHTS = ("privileged", "cap_", "read_only", "security_opt", "docker.sock", "network_mode", "pid:", "devices:")


def block(text: str, name: str, indent: int) -> str:
    """What stands under a key of the compose file."""
    found = re.search(rf"^ {{{indent}}}{name}:.*\n((?: {{{indent + 1},}}.*\n|\n|#.*\n)*)", text, re.MULTILINE)
    assert found is not None, name
    return found[1]


PROGRAM = block(COMPOSE, "x-program", 0)
SERVICES = block(COMPOSE, "services", 0)
NAMES = re.findall(r"^  ([a-z-]+):$", SERVICES, re.MULTILINE)


def test_every_container_begins_without_rights() -> None:
    for line in (
        *("read_only: true", 'user: "10001:10001"', "cap_drop: [ALL]"),
        'security_opt: ["no-new-privileges:true"]',
    ):
        assert f"  {line}\n" in PROGRAM


@pytest.mark.parametrize("name", NAMES)
def test_no_service_takes_rights_back(name: str) -> None:
    service = block(SERVICES, name, 2)
    assert service.startswith("    <<: *program\n")
    assert "memory:" in service
    for right in RIGHTS:
        assert right not in service
    users = re.findall(r"^    user: \"(\d+):", service, re.MULTILINE)
    assert "0" not in users
    published = re.findall(r"^    ports: \[\"(.*)\"\]$", service, re.MULTILINE)
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert ("\n    ports:" in service) == bool(published)


def test_there_are_as_many_services_as_are_looked_at() -> None:
    assert {"proxy-server", "proxy-client", "link", "http-target", "loadgen", "prometheus", "grafana"} == set(NAMES)


def test_every_final_image_runs_as_nobody() -> None:
    runtime = DOCKERFILE[DOCKERFILE.index(" AS runtime\n") :]
    assert re.search(r"^USER 10001:10001$", runtime[: runtime.index("\nFROM ")], re.MULTILINE)
    assert len(re.findall(r"^USER ", DOCKERFILE, re.MULTILINE)) == 1, "nobody changes it back"
    for program in ("proxy-client", "proxy-server", "http-target", "loadgen"):
        assert f"\nFROM runtime AS {program}\n" in DOCKERFILE


def test_images_install_what_is_pinned_with_its_hash_and_what_was_built_here() -> None:
    installs = re.findall(r"(?:pip|python) (?:--python \S+ )?install .*", DOCKERFILE)
    assert len(installs) >= 6
    for install in installs:
        assert "--require-hashes -r " in install or "--no-index --no-deps" in install, install
    assert "uv " not in DOCKERFILE
    [wheels] = re.findall(r"pip wheel .*", DOCKERFILE)
    assert "--no-deps --no-build-isolation" in wheels


@pytest.mark.parametrize("path", LOCKS, ids=str)
def test_a_lock_has_a_hash_for_each_distribution_and_no_address(path: Path) -> None:
    text = (ROOT / path).read_text(encoding="utf-8").replace("\\\n", " ")
    pinned = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert pinned
    for line in pinned:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,-]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line
    assert "://" not in text
    assert "index-url" not in text


def test_the_locks_are_those_that_are_installed() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--require-hashes -r requirements.lock" in makefile
    copied = re.findall(r"^COPY (\S+\.lock) ", DOCKERFILE, re.MULTILINE)
    assert {*map(Path, copied), Path("requirements.lock")} == set(LOCKS)
