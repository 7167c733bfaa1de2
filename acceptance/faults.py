"""A soak of mix `small` while everything breaks once (examples/faults/rough-minute.toml), in both stacks.

In quiet time nothing may fail; in fault and recovery time no byte may be wrong and no end too early; at the end nothing
may be left.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from serving import BIN, ROOT, report

PLAN = Path("examples/faults/rough-minute.toml")
FAULTS = ("blackhole", "loss", "pause", "kill", "drain")
NEVER = ("corrupt", "excess", "eof_premature")


def main() -> None:
    for stack in sys.argv[1:] or ("local", "compose"):
        judge(stack, soak(stack))


def soak(stack: str) -> dict[str, Any]:
    """Runs it, its report in reports/faults-STACK, and returns verdict.json."""
    directory = Path("reports") / f"faults-{stack}"
    command = [BIN / "loadgen", "soak", "--stack", stack, "--mix", "small", "--faults", PLAN]
    command += ["--report", directory, "--log-format", "text", "--metrics-listen", "127.0.0.1:0"]
    run = subprocess.run(command, cwd=ROOT, check=False)
    document: dict[str, Any] = json.loads((ROOT / directory / "verdict.json").read_text())
    report(f"{stack}", f"exit code {run.returncode}, verdict {document['verdict']}", run.returncode == 0)
    return document


def judge(stack: str, document: dict[str, Any]) -> None:
    faults = {fault["name"]: fault for fault in document["faults"]}
    times = ", ".join(f"{name} {fault['from_s']} to {fault['to_s']} s" for name, fault in faults.items())
    happened = all(name in faults and faults[name]["error"] is None for name in FAULTS)
    report(f"{stack}, faults", times, happened)
    for window, count in document["windows"].items():
        outcomes = {name: number for name, number in count["outcomes"].items() if number}
        excused = window != "quiet" and not any(outcomes.get(name) for name in NEVER)
        figure = f"{count['seconds']:.0f} s, {outcomes}, stalls {sum(count['stalls'].values())}"
        report(f"{stack}, {window}", figure, bool(outcomes) and (excused or set(outcomes) == {"ok"}))
    drain = document["drain"]
    report(f"{stack}, nothing pending", f"{drain['pending']} after {drain['seconds']:.1f} s", drain["complete"])
    report(f"{stack}, late failures", document["late"], document["late"] == 0)
    ledger = document["ledger"]
    figure = f"balanced {ledger['balanced']}, {ledger['imbalances']}, not judged: {ledger['unjudged']}"
    report(f"{stack}, FIN ledger", figure, ledger["balanced"] is True)


if __name__ == "__main__":
    main()
