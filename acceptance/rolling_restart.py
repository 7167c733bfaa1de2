"""Three rolling restarts of proxy-server under a soak of 60 s, in containers: no transaction is lost.

A new instance starts behind the name of the old one; the old one gets SIGTERM, finishes its streams and ends. For a
while the name has two addresses, of which one refuses. The client knows nothing but the name.

python acceptance/rolling_restart.py [ENGINE ...]      (default: aioquic quinn)
"""

import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from docker.models.containers import Container
from engines import ENGINES
from serving import ROOT, report

from loadgen.stack_api import StackSettings
from loadgen.stacks.compose import ComposeStack, compose_stack
from servicekit import logs

MIX = ROOT / "examples" / "mixes" / "restarts.toml"
SECONDS = 60
RESTARTS = 3
FIRST_S = 8.0
APART_S = 14.0
START_S = 30.0
ENDED_S = 25
"""From SIGTERM to the end: the drain's own bound is 20 s, and nothing may be cut."""


@dataclass
class Restart:
    """What became of one old instance."""

    streams: int
    drained_s: float
    exit_code: int
    cut: bool


def main() -> None:
    logs.configure("text", "warning", "acceptance")
    for engine in sys.argv[1:] or ENGINES:
        restarts, document = asyncio.run(roll(engine))
        judge(engine, restarts, document)


async def roll(engine: str) -> tuple[list[Restart], dict[str, Any]]:
    """The restarts, and verdict.json of the soak meanwhile."""
    engines = {"ENGINE_CLIENT": engine, "ENGINE_SERVER": engine}
    with tempfile.TemporaryDirectory() as scratch:
        async with compose_stack(StackSettings(), environment=engines) as stack:
            began = asyncio.Event()
            restarting = asyncio.create_task(restart_by_and_by(stack, began))
            document = await soak(stack, Path(scratch), began)
            return await restarting, document


async def soak(stack: ComposeStack, scratch: Path, began: asyncio.Event) -> dict[str, Any]:
    mounted, directory = scratch / "mix", scratch / "report"
    mounted.mkdir()
    (mounted / MIX.name).write_bytes(MIX.read_bytes())
    (mounted / MIX.name).chmod(0o644)
    where = ["--proxy", f"socks5://{stack.proxy}", "--target", f"http://{stack.target}"]
    # Not of proxy-server: its name is of two instances, and each begins at zero.
    watched = ["--metrics-of", f"proxy-client={stack.metrics['proxy-client']}"]
    flags = ["--stack", "external", "--mix", f"/marks/{MIX.name}", "--duration", f"{SECONDS}s", *where, *watched]

    def on_line(line: str) -> None:
        if line.startswith("{") and json.loads(line).get("event") == "ready":
            began.set()

    await stack.soak(flags, directory, on_line=on_line, marks=mounted)
    document: dict[str, Any] = json.loads((directory / "verdict.json").read_text())
    return document


async def restart_by_and_by(stack: ComposeStack, began: asyncio.Event) -> list[Restart]:
    await began.wait()
    began_s, restarts = monotonic(), []
    for number in range(RESTARTS):
        await asyncio.sleep(began_s + FIRST_S + number * APART_S - monotonic())
        restarts.append(await restart(stack))
    return restarts


async def restart(stack: ComposeStack) -> Restart:
    """One more behind the name; when it is ready, the old one is asked to end."""
    (old,) = stack.project.containers("proxy-server")
    scaled = ("--scale", "proxy-server=2", "proxy-server")
    await stack.project.compose("up", "-d", "--no-deps", "--no-recreate", *scaled)
    (new,) = [container for container in stack.project.containers("proxy-server") if container.id != old.id]
    await until_ready(new)
    asked_s = monotonic()
    await asyncio.to_thread(old.stop, timeout=ENDED_S)
    drained_s = monotonic() - asked_s
    await asyncio.to_thread(old.reload)
    lines = [json.loads(line) for line in old.logs().decode().splitlines() if line.startswith("{")]
    (draining,) = [line for line in lines if line["event"] == "draining"]
    cut = any(line["event"] == "drain_cut" for line in lines)
    code = int(old.attrs["State"]["ExitCode"])
    await asyncio.to_thread(old.remove)
    return Restart(int(draining["streams"]), drained_s, code, cut)


async def until_ready(container: Container) -> None:
    check = container.attrs["Config"]["Healthcheck"]["Test"]
    async with asyncio.timeout(START_S):
        while True:
            if (await asyncio.to_thread(container.exec_run, check[1:])).exit_code == 0:
                return
            await asyncio.sleep(0.2)


def judge(engine: str, restarts: list[Restart], document: dict[str, Any]) -> None:
    for number, one in enumerate(restarts, 1):
        figure = f"{one.streams} streams open at SIGTERM, ended after {one.drained_s:.1f} s, exit code {one.exit_code}"
        report(f"{engine}, restart {number}", figure, one.streams > 0 and one.exit_code == 0 and not one.cut)
    report(f"{engine}, restarts", len(restarts), len(restarts) == RESTARTS)
    outcomes = {name: count for name, count in document["outcomes"].items() if count}
    failed = sum(count for name, count in outcomes.items() if name != "ok")
    totals = document["totals"]
    stalls = sum(stall["count"] for stall in document["stalls"].values())
    figure = f"{failed} failed, {outcomes}, {totals['dropped']} dropped, {stalls} stalls, verdict {document['verdict']}"
    told = f"{engine}, soak of {document['run']['duration_s']:.0f} s"
    held = not failed and outcomes.get("ok") == totals["scheduled"] and document["verdict"] == "pass"
    report(told, figure, held)


if __name__ == "__main__":
    main()
