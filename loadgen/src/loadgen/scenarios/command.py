"""`loadgen scenarios`: what can be run, one line each."""

from argparse import ArgumentParser
from collections.abc import Sequence

from loadgen.scenarios import SCENARIOS


def main(argv: Sequence[str]) -> int:
    """Prints the list; returns 0."""
    ArgumentParser(prog="loadgen scenarios", description="Lists what can be run, one line each.").parse_args(list(argv))
    width = max(len(name) for name in SCENARIOS)
    for scenario in SCENARIOS.values():
        print(f"{scenario.name:<{width}}  {scenario.summary}")
    return 0
