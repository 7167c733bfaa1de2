"""Twenty seconds of the default mix through SOCKS5 servers that no one here wrote: microsocks and dante."""

import json
import subprocess
import tempfile
from pathlib import Path

from proxies import PROXIES, http_target, must_be_installed
from serving import BIN, report

SECONDS = 20


def main() -> None:
    for name in PROXIES:
        must_be_installed(name)
        with tempfile.TemporaryDirectory() as scratch:
            through(name, Path(scratch))


def through(name: str, directory: Path) -> None:
    with http_target(directory) as target, PROXIES[name](directory) as proxy:
        command = [BIN / "loadgen", "soak", *target.flags(proxy), f"--duration={SECONDS}s", f"--report={directory}"]
        code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    verdict = json.loads((directory / "verdict.json").read_text())
    outcomes = {outcome: number for outcome, number in verdict["outcomes"].items() if number}
    stalls = sum(stall["count"] for stall in verdict["stalls"].values())
    latencies = {scenario: row["latency_ms"]["p99"] for scenario, row in verdict["scenarios"].items()}
    p99_ms = max(value for value in latencies.values() if value is not None)
    report(f"{name}, verdict", f"{verdict['verdict']}, exit code {code}", (code, verdict["verdict"]) == (0, "pass"))
    report(f"{name}, outcomes", f"{outcomes}, {stalls} stalls, p99 at most {p99_ms:.0f} ms", outcomes.keys() == {"ok"})
    reasons = [f"{scenario} ({reason})" for scenario, reason in verdict["unsupported"].items()]
    print(f"     {name} does not support: {', '.join(reasons) or 'nothing of the mix'}")


if __name__ == "__main__":
    main()
