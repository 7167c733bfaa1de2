"""The directory of a run: `reports/<start time>/`, which `reports/latest` points at; or the one that was asked for.

The path that is given is the directory itself: nothing is added to it, and what an earlier run left in it is
overwritten.
"""

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from servicekit.errors import CannotStartError

ROOT = Path("reports")


def create(asked: Path | None, started_at: datetime) -> Path:
    """Makes the directory and returns it. Raises CannotStartError."""
    try:
        if asked is not None:
            asked.mkdir(parents=True, exist_ok=True)
            (asked / "verdict.json").unlink(missing_ok=True)  # A run that dies must not leave an older one's verdict.
            return asked
        return _dated(started_at)
    except OSError as error:
        raise CannotStartError(f"cannot make the report directory {asked or ROOT}: {error.strerror}") from error


def write(directory: Path, name: str, document: dict[str, Any]) -> Path:
    """Writes a JSON file, whole or not at all, and returns its path. Raises OSError."""
    text = json.dumps(document, indent=2 if name == "verdict.json" else None) + "\n"
    return write_whole(directory / name, text.encode())


def write_whole(path: Path, content: bytes) -> Path:
    """Writes a file, whole or not at all: of a full disk no part of it is left. Returns its path. Raises OSError."""
    draft = path.with_suffix(".tmp")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return path


def keep(directory: Path, name: str, file: Path | None) -> None:
    """Keeps a copy of what the run was asked for, as `name`. Raises CannotStartError."""
    if file is None:
        return
    try:
        shutil.copyfile(file, directory / name)
    except OSError as error:
        raise CannotStartError(f"cannot keep {file} in {directory}: {error.strerror}") from error


def run_id(started_at: datetime) -> str:
    """The start time in UTC, as it names a run and its directory."""
    return started_at.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def _dated(started_at: datetime) -> Path:
    name = run_id(started_at)
    ROOT.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, 100):
        directory = ROOT / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        _point_at(directory)
        return directory
    raise FileExistsError(None, "a hundred runs in one second", str(ROOT / name))


def _point_at(directory: Path) -> None:
    draft = ROOT / f".latest-{os.getpid()}"
    draft.symlink_to(directory.name)
    draft.replace(ROOT / "latest")
