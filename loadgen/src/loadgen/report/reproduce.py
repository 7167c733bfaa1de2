"""The command line that does a run again, as far as its verdict knows it."""

import shlex

from loadgen.report.files import Document
from loadgen.verdict.verdict import USUAL

THRESHOLDS = 100
_OWN_STACKS = ("local", "compose")


def command(document: Document) -> list[str]:
    """For a shell, in groups that belong on one line. What the verdict does not keep stands in capitals."""
    run = document.get("run") or {}
    stack = run.get("stack")
    groups = [["loadgen", "soak"], ["--stack", stack if stack in _OWN_STACKS else "external"]]
    if stack not in _OWN_STACKS:
        groups += [["--proxy", "socks5://HOST:PORT"], ["--target", "http://HOST:PORT"]]
    if run.get("mix") not in (None, "unknown"):
        groups.append(["--mix", str(run["mix"])])
    if run.get("rate_per_s"):
        groups.append(["--rate", f"{run['rate_per_s']:g}"])
    if run.get("arrivals") == "poisson":
        groups.append(["--arrivals", "poisson"])
    if run.get("duration_s"):
        groups.append(["--duration", f"{max(round(run['duration_s']), 1)}s"])
    if document.get("faults"):
        groups.append(["--faults", "PLAN.toml"])
    for threshold in (document.get("thresholds") or [])[:THRESHOLDS]:
        if threshold["expression"] not in USUAL:
            groups.append(["--threshold", threshold["expression"]])
    groups.append(["--seed", str(run.get("seed", "SEED"))])
    return [shlex.join(group) for group in groups]
