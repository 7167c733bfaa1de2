"""`loadgen soak`: the command line of the soak.

Exit codes: 0 pass, 1 fail, 3 inconclusive (a stack that did not come up is that too: nothing was measured; so is a pass
whose verdict could not be written), 2 usage, 70 internal.
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from loadgen.report import directory as report_directory
from loadgen.report.command import render
from loadgen.report.files import ReportError
from loadgen.soak.inside import soak_inside
from loadgen.soak.run import SoakRun
from loadgen.soak.settings import SoakSettings
from loadgen.soak.stacks import open_stack
from loadgen.soak.summary import summarise
from loadgen.stack_api import GeneratingStack, StackError
from loadgen.verdict.document import document, timeline
from loadgen.verdict.verdict import Verdict
from servicekit import logs
from servicekit.errors import CannotStartError
from servicekit.run import Stop, run
from servicekit.settings import load


def main(argv: Sequence[str]) -> int:
    """Runs `loadgen soak`; returns the exit code."""
    settings = load(SoakSettings, argv, prog="loadgen soak")
    quiet = sys.stderr.isatty() and "log_level" not in settings.model_fields_set
    logs.configure(settings.log_format, "warning" if quiet else settings.log_level, "loadgen")
    revision = settings.revision or _revision()
    command = settings.asked or shlex.join(["loadgen", "soak", *argv])
    return run(lambda stop: _soak(settings, stop, revision, command))


async def _soak(settings: SoakSettings, stop: Stop, revision: str, command: str) -> int:
    started_at = datetime.now(UTC)
    try:
        directory = report_directory.create(settings.report, started_at)
        for name, asked in (("faults.toml", settings.faults), ("mix.toml", settings.mix_file())):
            report_directory.keep(directory, name, asked)
        if settings.stack == "compose":
            async with open_stack(settings, directory) as stack:
                inside = cast(GeneratingStack, stack)
                code = await soak_inside(settings, stop, inside, directory, revision, command)
            _render(directory)  # Again: what the containers logged is beside it only now.
            return code
        soak = SoakRun(settings, stop, directory, started_at, revision, command)
        return await _soak_here(settings, directory, soak)
    except (StackError, CannotStartError) as error:
        logs.get_logger().error("cannot_start", reason=str(error))
        return Verdict.INCONCLUSIVE.exit_code


async def _soak_here(settings: SoakSettings, directory: Path, soak: SoakRun) -> int:
    with soak.serve_metrics():
        async with open_stack(settings, directory) as stack:
            result = await soak.run(stack)
        verdict = document(result)
        judged = _written(directory, "verdict.json", verdict)
        rendered = _written(directory, "timeline.json", timeline(result, soak.used)) and judged and _render(directory)
        summarise(verdict, str(directory / "report.html") if rendered else "not written")
    return result.verdict.exit_code or (0 if judged else Verdict.INCONCLUSIVE.exit_code)


def _written(directory: Path, name: str, content: dict[str, Any]) -> bool:
    """Whether there was room for it: a full disk takes files, not what is told of the run, nor its exit code."""
    try:
        report_directory.write(directory, name, content)
    except OSError as error:
        logs.get_logger().error("report_not_written", file=name, reason=error.strerror)
        return False
    return True


def _render(directory: Path) -> bool:
    """The same for what is made of these."""
    try:
        render(directory)
    except (ReportError, OSError) as error:
        logs.get_logger().error("report_not_written", reason=str(error))
        return False
    return True


def _revision() -> str:
    """The revision of the working directory, `-dirty` where it has changes; `unknown` where git knows nothing."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()
