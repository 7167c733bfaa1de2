"""A soak in a stack that has a generator of its own: it runs in there, and what it cannot do is done from here.

Rules
- What the generator needs of this machine is handed over in a directory that it sees as HANDED_OVER, read-only: the
  mix, where it is a file, and the marks of the faults.
- The faults' time begins when the generator says that its load does. It learns of each one before it happens.
- Verdict and report are the generator's.
"""

import asyncio
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from time import monotonic

from loadgen.faults.driver import Driver
from loadgen.faults.marks import AHEAD_S, MarksFile
from loadgen.load import mix as mixes
from loadgen.measure.sampler import stop as stop_task
from loadgen.soak.settings import SoakSettings
from loadgen.stack_api import GeneratingStack
from loadgen.verdict.verdict import Verdict
from servicekit.run import Stop

HANDED_OVER = "/marks"


async def soak_inside(
    settings: SoakSettings, stop: Stop, stack: GeneratingStack, directory: Path, revision: str, command: str
) -> int:
    """Runs the soak, its report into `directory`; the summary is printed in there. Returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="finback-") as temporary:
        os.chmod(temporary, 0o755)  # The generator is another user.
        handed_over = Path(temporary)
        begun = asyncio.Event()

        def on_line(line: str) -> None:
            if not begun.is_set() and _says_ready(line):
                begun.set()

        arguments = arguments_inside(settings, stack, revision, _hand_over_mix(settings, handed_over), command)
        driving = asyncio.create_task(_drive(settings, stack, handed_over, begun))
        soak = asyncio.create_task(stack.soak(arguments, directory, on_line=on_line, marks=handed_over))
        stopped = asyncio.create_task(stop.draining.wait())
        try:
            await asyncio.wait({soak, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            try:
                await stop_task(driving)  # What is broken is healed before the generator drains.
            finally:
                if not soak.done():
                    soak.cancel()
        with suppress(asyncio.CancelledError):
            code = await soak
            print(f"the report, copied out of the container: {directory}")
            return code
        return _exit_code_of(directory)


def arguments_inside(
    settings: SoakSettings, stack: GeneratingStack, revision: str, mix: str, command: str
) -> list[str]:
    """The arguments for the generator that `stack` has, so that it does there what was asked for here."""
    arguments = ["--stack", "external", "--stack-label", settings.stack, "--metrics-listen", "127.0.0.1:0"]
    arguments += ["--proxy", f"socks5://{stack.proxy}", "--target", f"http://{stack.target}"]
    arguments += ["--server-first", str(stack.server_first), "--no-preflight", "--asked", command]
    arguments += ["--link-label", link] if (link := settings.link_said()) is not None else []
    for program, url in stack.metrics.items():
        arguments += ["--metrics-of", f"{program}={url}"]
    arguments += ["--duration", f"{settings.duration_s()}", "--mix", mix, "--seed", f"{settings.seed}"]
    arguments += ["--max-in-flight", f"{settings.max_in_flight}", "--revision", revision]
    arguments += ["--rate", f"{settings.rate}"] if settings.rate is not None else []
    arguments += ["--arrivals", settings.arrivals] if settings.arrivals is not None else []
    arguments += ["--warm-up", f"{settings.warm_up}"] if settings.warm_up is not None else []
    arguments += ["--continuous"] if settings.continuous else []
    arguments += ["--marks", HANDED_OVER] if settings.faults is not None else []
    for flag, values in (
        ("--scenario", settings.scenario),
        ("--threshold", settings.threshold),
        ("--stall", settings.stall),
        ("--timeout", settings.timeout),
    ):
        for value in values:
            arguments += [flag, value]
    return arguments


async def _drive(settings: SoakSettings, stack: GeneratingStack, handed_over: Path, begun: asyncio.Event) -> None:
    """Drives the plan, if there is one, from the moment when the load has begun."""
    plan = settings.fault_plan()
    if plan is None:
        return
    assert stack.faults is not None, "a stack that is made here can be broken"
    marks = MarksFile(handed_over)
    marks.planned(plan.faults)
    await begun.wait()
    await Driver(plan, stack.faults, marks, ahead_s=AHEAD_S).run(monotonic())


def _hand_over_mix(settings: SoakSettings, handed_over: Path) -> str:
    """What the mix is called inside."""
    if settings.mix in mixes.names():
        return settings.mix
    copy = handed_over / "mix" / Path(settings.mix).name
    copy.parent.mkdir()
    shutil.copyfile(settings.mix, copy)
    copy.parent.chmod(0o755)
    copy.chmod(0o644)
    return f"{HANDED_OVER}/mix/{copy.name}"


def _says_ready(line: str) -> bool:
    try:
        return bool(json.loads(line)["event"] == "ready")
    except (ValueError, KeyError, TypeError):
        return False


def _exit_code_of(directory: Path) -> int:
    try:
        document = json.loads((directory / "verdict.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Verdict.INCONCLUSIVE.exit_code
    return Verdict(document["verdict"]).exit_code
