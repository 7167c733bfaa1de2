"""Paths of http-target, whose bodies follow from seed and size."""

from loadgen.transaction.transaction import Arrival


def bytes_path(arrival: Arrival, framing: str, part: int = 0) -> str:
    """The body of this arrival; `part` tells the bodies of several requests of one arrival apart."""
    delay = f"&delay_ms={arrival.think_s * 1000:.0f}" if arrival.think_s else ""
    return f"/bytes?seed={part_seed(arrival, part)}&size={arrival.size_bytes}&framing={framing}{delay}"


def part_seed(arrival: Arrival, part: int) -> int:
    """Seeds of arrivals are even-spaced enough (see schedule) that those of their parts do not meet."""
    return arrival.seed + part
