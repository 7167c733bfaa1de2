"""promtool, from PATH or from the image of Prometheus. It sees deploy/prometheus as its working directory."""

import os
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from shutil import which

import pytest

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deploy/prometheus"
REQUIRE = "FINBACK_REQUIRE_DOCKER"
CI_IMAGE = "finback-ci/prometheus:debian"


def promtool(*arguments: str) -> str:
    """What it says; fails the test where it complains, skips it where there is none."""
    command = _command()
    if command is None:
        reason = "promtool is not installed, and no image of Prometheus is here"
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"{reason} ({REQUIRE}=1)", pytrace=False)
        pytest.skip(reason)
    done = subprocess.run([*command, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@cache
def _command() -> Sequence[str] | None:
    if which("promtool"):
        return ("promtool",)
    image = next(filter(_is_here, _images()), None) if which("docker") else None
    if image is None:
        return None
    inside = "/etc/prometheus"  # where docker-compose.yml has it
    where = ("--network", "none", "--volume", f"{PROMETHEUS}:{inside}:ro", "--workdir", inside)
    return ("docker", "run", "--rm", *where, "--entrypoint", "promtool", image)


def _images() -> Sequence[str]:
    """The one that is asked for; else the one that CI has made, else that of docker-compose.yml."""
    if asked_for := os.environ.get("PROMETHEUS_IMAGE"):
        return (asked_for,)
    default = re.search(r"\$\{PROMETHEUS_IMAGE:-(.+?)\}", (ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert default is not None
    return CI_IMAGE, default[1]


def _is_here(image: str) -> bool:
    """Nothing is pulled for a unit test."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0
