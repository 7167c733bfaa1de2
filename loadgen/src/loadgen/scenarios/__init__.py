"""What can be run: one small file a scenario, and a registry of them all.

A scenario is a coroutine function over a transaction and a route: it enters phases as it goes, returns where
everything was as expected, and raises Failed where not. It knows nothing of schedules, limits, metrics and verdicts.
"""

from loadgen.scenarios.registry import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Scenario"]
