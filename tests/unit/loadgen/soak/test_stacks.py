"""A stack with a generator of its own is asked for exactly what was asked for here."""

from dataclasses import dataclass, field
from pathlib import Path

from loadgen.soak.inside import arguments_inside
from loadgen.soak.settings import SoakSettings
from loadgen.soak.stacks import external, open_stack
from loadgen.stack_api import Faults, Stack
from servicekit.address import Address
from servicekit.settings import load


@dataclass(frozen=True)
class Compose:
    """Stands for the compose stack."""

    proxy: Address = field(default_factory=lambda: Address("proxy-client", 1080))
    target: Address = field(default_factory=lambda: Address("http-target", 8080))
    server_first: Address = field(default_factory=lambda: Address("http-target", 8081))
    metrics: dict[str, str] = field(default_factory=lambda: {"proxy-client": "http://proxy-client:9101/metrics"})
    pids: dict[str, int] = field(default_factory=dict)
    faults: Faults | None = None

    async def soak(self, arguments: object, report: Path, *, on_line: object = None, marks: Path | None = None) -> int:
        raise NotImplementedError


def read(*argv: str) -> SoakSettings:
    return load(SoakSettings, argv, {}, prog="loadgen soak")


def test_what_is_asked_for_inside_is_what_was_asked_for_here() -> None:
    asked = ["--duration", "12s", "--rate", "7", "--mix", "small", "--seed", "9", "--max-in-flight", "50"]
    asked += ["--arrivals", "poisson", "--warm-up", "3s"]
    asked += ["--scenario", "get", "--threshold", "stalls == 0", "--stall", "body=1s", "--timeout", "ttfb=2s"]
    here = read("--stack", "compose", *asked)
    inside = read(*arguments_inside(here, Compose(), "abc", here.mix, "loadgen soak --as-asked"))
    assert inside.stack == "external"
    assert inside.stack_label == "compose"
    assert inside.revision == "abc"
    assert inside.asked == "loadgen soak --as-asked"
    assert inside.link_said() == here.link_said() == "--delay-ms 10"
    assert not inside.looks_ahead
    for name in (
        "duration", "rate", "mix", "seed", "max_in_flight", "scenario", "threshold", "stall", "timeout", "arrivals",
        "warm_up",
    ):  # fmt: skip
        assert getattr(inside, name) == getattr(here, name)
    stack = external(inside)
    for name in ("proxy", "target", "server_first", "metrics"):
        assert getattr(stack, name) == getattr(Compose(), name)


async def test_external(tmp_path: Path) -> None:
    settings = read("--stack", "external", "--proxy", "127.0.0.1:1", "--target", "127.0.0.1:8080")
    stack: Stack
    async with open_stack(settings, tmp_path) as stack:
        assert stack.server_first == Address("127.0.0.1", 8081)
        assert (stack.metrics, stack.pids) == ({}, {})
