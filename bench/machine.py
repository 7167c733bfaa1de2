"""Where and with what a run was made."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.install import Peer

_load_before = os.getloadavg()[1]
"""Of the five minutes before the run: what others do on this machine."""


def _cpu_times() -> list[int]:
    """Of all cores: user, nice, system, idle, iowait, irq, softirq, steal (proc(5))."""
    with Path("/proc/stat").open() as file:
        return [int(word) for word in file.readline().split()[1:9]]


_cpu_times_before = _cpu_times()

ROOT = Path(__file__).parent.parent


def about(peers: Mapping[str, Peer]) -> dict[str, Any]:
    """machine, versions, commit and date."""
    libraries = {name: _library(name) for name in ("quinn-engine", "aioquic", "uvloop")}
    programs = {name: peer.version or f"not available: {peer.missing}" for name, peer in peers.items()}
    return {
        "machine": {
            "processor": _first(r"model name\s*: (.*)", Path("/proc/cpuinfo")),
            "cores": os.cpu_count(),
            "memory_gb": round(int(_first(r"MemTotal:\s+(\d+)", Path("/proc/meminfo")) or 0) / 1e6),
            "kernel": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "load_before": round(_load_before, 2),
            "stolen_percent": _stolen_percent(),
        },
        "versions": {**programs, **libraries},
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _stolen_percent() -> float:
    """Of the cores' time since the run began: what the host of a virtual machine gave to others."""
    spent = [now - before for now, before in zip(_cpu_times(), _cpu_times_before, strict=True)]
    return round(100 * spent[-1] / max(sum(spent), 1), 1)


def _library(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


@cache
def _commit() -> str:
    """Of what ran; with a mark where files differ from it. Asked once: the results themselves are files that change."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _first(pattern: str, file: Path) -> str:
    found = re.search(pattern, file.read_text()) if file.exists() else None
    return found[1].strip() if found else ""
