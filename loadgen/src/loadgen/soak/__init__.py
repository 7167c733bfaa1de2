"""The soak: the program around load, measurement and verdict: `settings`, `command`, `run`, `stacks`, `progress`."""
