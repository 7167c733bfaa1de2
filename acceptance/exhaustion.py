"""What is used up, and by whom: 5,000 connections at once, no descriptors left at either proxy, slow clients.

python acceptance/exhaustion.py [ENGINE]...      (default both)

What limits 5,000 connections: with quinn 1,662 have a stream (2 connections of 31 and 8 of 200), with aioquic 2,000;
1,024 wait for one for 10 s; the others are refused at once (`SessionSettings`).
"""

import sys
import time
from collections.abc import Sequence

import uvloop
from serving import report
from shortages import (
    GENERAL_FAILURE,
    Seen,
    Through,
    flooded,
    many_at_once,
    no_descriptors_at_the_client,
    no_descriptors_at_the_server,
    slow_clients,
    stack_of,
)

from loadgen.stack_api import RTT_20_MS
from servicekit.run import raise_descriptor_limit

ENGINES = ("aioquic", "quinn")
CONNECTIONS = 5000
SLOW_CLIENTS = 3000
FREE = 50
"""Descriptors left to a proxy that shall run out of them."""
LINES_MAX = 5
SERVED_MIN = 1000
"""Of those at once: refusing everybody would be no answer."""
FLOOD_S = 10.0
SLOWER: dict[Through, float] = {
    "the same proxy-client": 1.5,
    "another proxy-client": 1.5,
    "no proxy-client": 2.5,
}
"""At most so many times, beside a flood of streams that are opened and reset, than beside as many ordinary clients.
Alone is no measure: all of them share two cores here, the flood's own programs among them. Without a proxy-client there
is nothing before proxy-server that takes its share of them."""
SERVED_S = 1.0
"""How long a transaction may take beside thousands of slow clients."""


def main(engines: Sequence[str]) -> None:
    raise_descriptor_limit()
    for engine in engines:
        uvloop.run(every_scenario(engine))


async def every_scenario(engine: str) -> None:
    async with stack_of(engine) as stack:
        began = time.monotonic()
        answers = await many_at_once(stack, CONNECTIONS)
        seconds = time.monotonic() - began
        figure = f"served {answers[0]}, refused with reply 1 {answers[GENERAL_FAILURE]}, in {seconds:.1f} s"
        report(
            f"{engine}, {CONNECTIONS} connections at once",
            figure,
            answers.total() == CONNECTIONS and answers[0] >= SERVED_MIN,
        )
    async with stack_of(engine) as stack:
        waited, lines = await no_descriptors_at_the_client(stack, FREE)
        figure = f"{waited} waited to be accepted and were served, {lines} log line(s)"
        report(f"{engine}, proxy-client without descriptors", figure, waited > 0 and 0 < lines <= LINES_MAX)
    async with stack_of(engine) as stack:
        refused, lines = await no_descriptors_at_the_server(stack, FREE)
        figure = f"{refused} refused with reply 1, {lines} log line(s)"
        report(f"{engine}, proxy-server without descriptors", figure, refused > 0 and 0 < lines <= LINES_MAX)
    async with stack_of(engine) as stack:
        slowest, over = await slow_clients(stack, SLOW_CLIENTS)
        figure = f"others served within {slowest * 1000:.0f} ms; the last was ended after {over:.1f} s"
        report(f"{engine}, {SLOW_CLIENTS} half greetings", figure, slowest < SERVED_S)
    for through, slower_max in SLOWER.items():
        async with stack_of(engine, link=RTT_20_MS) as stack:
            alone, ordinary, flood = await flooded(stack, FLOOD_S, through)
        figure = f"{flood.crowd / FLOOD_S:,.0f} a second; a neighbour has {told(flood)}, "
        figure += f"beside as many ordinary clients {told(ordinary)}, alone {told(alone)}"
        slower = max(flood.p99_ms / ordinary.p99_ms, ordinary.transactions / flood.transactions)
        report(f"{engine}, streams opened and reset through {through}", figure, slower <= slower_max)


def told(seen: Seen) -> str:
    return f"{seen.transactions / FLOOD_S:.0f} transactions a second, p99 {seen.p99_ms:.0f} ms"


if __name__ == "__main__":
    main(sys.argv[1:] or ENGINES)
