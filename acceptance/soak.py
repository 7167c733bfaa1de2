"""`make soak`: 30 s through a link of 20 ms round trip; the verdict and the figures behind it."""

import json
import subprocess

from serving import ROOT, report

RATE_PER_S = 60
SECONDS = 30
SCENARIOS = 8
NEVER = ("eof_missing", "eof_premature", "corrupt", "timeout")


def main() -> None:
    code = subprocess.run(["make", "--no-print-directory", "soak"], cwd=ROOT, check=False).returncode
    verdict = json.loads((ROOT / "reports" / "latest" / "verdict.json").read_text())
    report("make soak", f"exit code {code}, verdict {verdict['verdict']}", (code, verdict["verdict"]) == (0, "pass"))
    offered, ran_s = verdict["offered_per_s"], verdict["run"]["duration_s"]
    report("offered", f"{offered:.1f} a second for {ran_s:.1f} s", offered >= RATE_PER_S - 0.5 and ran_s >= SECONDS)
    completed = [name for name, scenario in verdict["scenarios"].items() if scenario["completed"]]
    report("scenarios", f"{len(completed)}: {', '.join(sorted(completed))}", len(completed) == SCENARIOS)
    outcomes = verdict["outcomes"]
    report("outcomes", outcomes, not any(outcomes.get(name, 0) for name in NEVER))
    drain = verdict["drain"]
    report("drain", f"complete {drain['complete']}, {drain['seconds']:.1f} s", drain["complete"])


if __name__ == "__main__":
    main()
