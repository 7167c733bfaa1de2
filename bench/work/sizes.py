"""How much is done for one sample. The same for every contender."""

from dataclasses import dataclass

Figures = dict[str, float]
"""Metric -> figure, of one sample."""


@dataclass(frozen=True)
class Sizes:
    """Of each kind of work."""

    bulk_bytes: int = 200_000_000
    path_s: float = 6.0
    connections_s: float = 3.0
    keep_alive_s: float = 6.0
    idle_connections: int = 1000
    slow_reader_s: float = 10.0


QUICK = Sizes(20_000_000, 2.0, 1.0, 2.0, 200, 3.0)
