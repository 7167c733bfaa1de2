"""The bug that started it: aioquic 1.7.0 at proxy-server loses ends of stream. Found, rescued, and gone when pinned.

Rules
- proxy-server alone is another one: the same code and the same locked dependencies, in a virtual environment of its
  own, with aioquic replaced. Nothing looks at the version.
- The same load for all three: examples/mixes/endings.toml through a link of 20 ms round trip.
"""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import BIN, ROOT, report

from loadgen.report import evidence
from loadgen.report.evidence import Evidence

SECONDS = 30
MIX = ROOT / "examples" / "mixes" / "endings.toml"
OLD = "1.7.0"
OLD_LOCK = ROOT / "acceptance" / f"aioquic-{OLD}.lock"
DISTRIBUTIONS = ("packages/servicekit", "packages/tunnel", "services/proxy-server")


@dataclass(frozen=True)
class Run:
    """What a soak came to."""

    exit_code: int
    document: dict[str, Any]
    traced: float
    """The share of the missing ends from which ids lead to log lines of both proxies."""
    asked: frozenset[str]
    """The proxies that logged what they know because they were asked."""

    @property
    def verdict(self) -> str:
        return str(self.document["verdict"])

    @property
    def outcomes(self) -> dict[str, int]:
        return {name: number for name, number in self.document["outcomes"].items() if number}

    @property
    def rescued(self) -> int:
        return sum(events["rescued"] for ways in self.document["ends"].values() for events in ways.values())

    @property
    def way(self) -> str:
        """The reason that says where ends were lost; empty where none does."""
        return next((reason for reason in self.document["reasons"] if "target_to_client" in reason), "")

    def __str__(self) -> str:
        counted = ", ".join(f"{name} {number}" for name, number in self.outcomes.items())
        stall = self.document["stalls"]["eof_wait"]
        late = f"{stall['count']} ends late or never, the longest wait {stall['longest_s']:.1f} s"
        waits = late if stall["count"] else "no end late"
        return f"verdict {self.verdict}, exit code {self.exit_code}; {counted}; {waits}; {self.rescued} rescued"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="finback-") as scratch:
        program = install(Path(scratch) / "venv")
        version = aioquic_of(program)
        report("proxy-server of its own", f"aioquic {version}", version == OLD)

        bare = soak(f"--program=proxy-server={program}", "--argument=proxy-server=--no-end-rescue")
        found = (bare.exit_code, bare.verdict) == (1, "fail") and bare.outcomes.get("eof_missing", 0) > 0
        report(f"aioquic {OLD} without the rescue", bare, found and not bare.rescued)
        report("the hop and the direction", bare.way, "from server to client" in bare.way)
        report("missing ends that lead to the logs of both proxies", f"{bare.traced:.0%}", bare.traced > 0)
        report(
            "asked about them, and told", ", ".join(sorted(bare.asked)), bare.asked == {"proxy-client", "proxy-server"}
        )

        saved = soak(f"--program=proxy-server={program}")
        report(f"aioquic {OLD} with the rescue", saved, passed(saved) and saved.rescued > 0)

    pinned = soak()
    report(f"aioquic {aioquic_of(BIN / 'proxy-server')}, as pinned", pinned, passed(pinned) and not pinned.rescued)


def passed(run: Run) -> bool:
    return (run.exit_code, run.verdict) == (0, "pass") and run.outcomes.keys() == {"ok"}


def install(directory: Path) -> Path:
    """A proxy-server with the old aioquic, and everything else as locked."""
    python = str(directory / "bin" / "python")
    uv("venv", "--python", str(BIN / "python"), str(directory))
    locks = ("services/requirements.lock", "requirements-build.lock")
    uv("pip", "install", "--python", python, "--require-hashes", *(f"-r{ROOT / lock}" for lock in locks))
    uv("pip", "install", "--python", python, "--require-hashes", "--no-deps", f"-r{OLD_LOCK}")
    packages = (str(ROOT / name) for name in DISTRIBUTIONS)
    uv("pip", "install", "--python", python, "--no-deps", "--no-build-isolation", *packages)
    return directory / "bin" / "proxy-server"


def uv(*arguments: str) -> None:
    subprocess.run([BIN / "uv", *arguments, "-q"], check=True, env={**os.environ, "UV_SYSTEM_CERTS": "1"})


def aioquic_of(program: Path) -> str:
    command = [program.parent / "python", "-c", "import aioquic; print(aioquic.__version__)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def soak(*arguments: str) -> Run:
    with tempfile.TemporaryDirectory(prefix="finback-") as directory:
        command = [BIN / "loadgen", "soak", "--stack=local", f"--mix={MIX}", f"--duration={SECONDS}s"]
        command += [
            "--engine=aioquic",
            "--metrics-listen=127.0.0.1:0",
            "--log-level=error",
            f"--report={directory}",
            *arguments,
        ]
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        return Run(code, json.loads((Path(directory) / "verdict.json").read_text()), *traced(Path(directory)))


def traced(directory: Path) -> tuple[float, frozenset[str]]:
    found = Evidence(evidence.read(directory))
    anomalies = map(json.loads, (directory / "anomalies.jsonl").read_text().splitlines())
    missing = [line for line in anomalies if line.get("outcome") == "eof_missing"]
    led_to = [found.of(line) for line in missing]
    program = {entry.anchor: entry.program for entry in found.entries}
    share = sum(len({program[anchor] for anchor in anchors}) == 2 for anchors in led_to) / max(len(missing), 1)
    return share, frozenset(entry.program for entry in found.entries if entry.why == "asked")


if __name__ == "__main__":
    main()
