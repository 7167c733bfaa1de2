"""What every container is allowed, and how it stops."""

from time import monotonic
from typing import Any

import pytest

Containers = Any  # conftest.Containers: a conftest cannot be imported

SERVICES = ("proxy-server", "link", "proxy-client", "http-target", "prometheus")
GRACE_S = 30
NO_CAPABILITIES = "0000000000000000"


def process_status(container: Any) -> dict[str, str]:
    """/proc/1/status as a mapping."""
    code, output = container.exec_run(["cat", "/proc/1/status"])
    assert code == 0, output
    return dict(line.split(":\t", 1) for line in output.decode().splitlines() if ":\t" in line)


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_has_no_rights_it_does_not_need(containers: Containers, service: str) -> None:
    container = containers.project.container(service)
    host = container.attrs["HostConfig"]
    status = process_status(container)

    assert set(status["Uid"].split()) in ({"10001"}, {"65534"})
    assert {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {NO_CAPABILITIES}
    assert status["NoNewPrivs"].strip() == "1"
    assert host["ReadonlyRootfs"]
    assert not host["Privileged"]
    assert host["Memory"] > 0
    assert not any(mount["Source"].endswith("docker.sock") for mount in container.attrs["Mounts"])


@pytest.mark.parametrize("service", SERVICES)
def test_the_root_file_system_cannot_be_written(containers: Containers, service: str) -> None:
    code, _ = containers.project.container(service).exec_run(["touch", "/written"], user="0")

    assert code != 0


def test_the_key_and_the_token_are_for_their_owner_only(containers: Containers) -> None:
    script = "import os; print(*[oct(os.stat(f'/certificates/{n}').st_mode & 0o777) for n in ('key.pem', 'token')])"
    code, output = containers.project.container("proxy-server").exec_run(["python", "-c", script])

    assert (code, output.decode().split()) == (0, ["0o600", "0o600"])


def test_only_loopback_of_the_host_is_listened_on(containers: Containers) -> None:
    published = [
        binding["HostIp"]
        for container in containers.project.containers()
        for bindings in container.ports.values()
        for binding in bindings or []
    ]

    assert set(published) == {"127.0.0.1"}


@pytest.mark.parametrize("service", SERVICES)
def test_sigterm_stops_a_container_within_its_grace_with_exit_code_0(containers: Containers, service: str) -> None:
    container = containers.project.container(service)
    assert container.attrs["Config"].get("StopTimeout") == GRACE_S
    try:
        began_s = monotonic()
        container.stop()
        took_s = monotonic() - began_s
        container.reload()
        state = container.attrs["State"]
    finally:
        container.start()
        containers.wait_healthy(service)
        containers.wait_healthy("proxy-client")

    assert state["ExitCode"] == 0
    assert not state["OOMKilled"]
    assert took_s < GRACE_S
