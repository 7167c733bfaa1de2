"""100,000 transactions and 100,000 aborted ones through one pair of proxies: nothing is left, and it is as fast as new.

python acceptance/leaks.py [ENGINE]...      (default both: about ten minutes)

Half of the aborted ones are reset by the application in the middle of a body, half by the target or by STOP_SENDING.
"""

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop
from churn import AT_ONCE, Kind, churn, expected
from serving import Serving, report, serve

from servicekit.address import Address

ENGINES = ("aioquic", "quinn")
PROGRAMS = ("proxy-client", "proxy-server")
EARLY, MIDDLE, TRANSACTIONS = 10_000, 100_000, 200_000
EARLY_AT_ONCE = 2 * AT_ONCE
"""What an allocator keeps follows the most that was ever open at once. Without this margin rare peaks still raise that
mark after the first 10,000, in a curve that becomes flat: what the last half adds is printed."""
GROWTH_BYTES_MAX = 2_000_000
THROUGHPUT_MIN = 0.9
"""Of that of a fresh pair."""
ROUNDS = 5
ROUND_S = 2.0
REST_S = 90.0
"""A second connection of the tunnel is closed 30 s after its last stream."""
LOOK_S = 0.5
ENDINGS = {
    "eof": (Kind.WHOLE,),
    "reset": (Kind.APPLICATION_RESETS, Kind.TARGET_RESETS),
    "closed": (Kind.STOPPED,),
    "lost": (),
    "refused": (),
}
"""What each kind is counted as, by both proxies."""


def main(engines: Sequence[str]) -> None:
    for engine in engines:
        with serve("--engine", engine) as worn:
            nothing_is_left(engine, worn)
            with serve("--engine", engine) as fresh:
                as_fast_as_new(engine, worn, fresh)


def nothing_is_left(engine: str, serving: Serving) -> None:
    began = time.monotonic()
    load(serving, EARLY, EARLY_AT_ONCE)
    early = {program: at_rest(serving, program, EARLY) for program in PROGRAMS}
    load(serving, MIDDLE - EARLY)
    middle = {program: at_rest(serving, program, MIDDLE)[1] for program in PROGRAMS}
    load(serving, TRANSACTIONS - MIDDLE)
    for program in PROGRAMS:
        late, memory = at_rest(serving, program, TRANSACTIONS)
        counts, memory_before = early[program]
        report(f"{engine}, {program}, after {TRANSACTIONS} as after {EARLY}", f"{late}, were {counts}", late == counts)
        grown = memory - memory_before
        latest = (memory - middle[program]) / 1e6
        figure = f"{memory / 1e6:.1f} MB, grew by {grown / 1e6:.2f} MB, in the last half by {latest:.2f} MB"
        report(f"{engine}, {program}, memory", figure, grown <= GROWTH_BYTES_MAX)
    print(f"     {engine}: {TRANSACTIONS / (time.monotonic() - began):.0f} transactions a second, rests included")


def load(serving: Serving, count: int, at_once: int = AT_ONCE) -> None:
    """Each transaction is checked; the first that is not as it should be ends the script."""
    uvloop.run(churn(Address.parse(serving.proxy), Address.parse(serving.target), count, at_once))


def at_rest(serving: Serving, program: str, transactions: int) -> tuple[dict[str, int], int]:
    """What a proxy holds when nothing is open, its streams counted exactly; and its resident memory."""
    role = program.removeprefix("proxy-")
    give_up_at = time.monotonic() + REST_S
    while open_here := what_is_open(serving, program, role):
        if time.monotonic() > give_up_at:
            report(f"{program}, at rest within {REST_S:.0f} s", open_here, holds=False)
        time.sleep(LOOK_S)
    for ending, kinds in ENDINGS.items():
        streams = serving.metric(program, f'tunnel_streams_total{{ending="{ending}",')
        right = sum(expected(transactions)[kind] for kind in kinds)
        if streams != right:
            report(f"{program}, streams that ended with {ending}", f"{streams:.0f}, not {right}", holds=False)
    return held(serving, program), serving.memory_bytes(program)


def what_is_open(serving: Serving, program: str, role: str) -> dict[str, float]:
    """What differs from the rest of a proxy with one connection: empty at rest."""
    resting = {
        "socks_connections_active": 0,
        "tunnel_dials_active": 0,
        "tunnel_streams_active": 0,
        "tunnel_half_closed_streams": 0,
        "tunnel_buffered_bytes": 0,
        f'tunnel_table_entries{{role="{role}",table="connections"}}': 1,
        f'tunnel_table_entries{{role="{role}",table="timers"}}': 1,
        "tunnel_table_entries": 2,  # These two, and nothing else.
    }
    found = {name: serving.metric(program, name) for name in resting}
    return {name: value for name, value in found.items() if value != resting[name]}


def held(serving: Serving, program: str) -> dict[str, int]:
    """Descriptors, tasks, connections, and entries of every table."""
    names = {"tasks": "process_event_loop_tasks", "connections": "tunnel_connections_active"}
    counts = {label: int(serving.metric(program, name)) for label, name in names.items()}
    counts["entries"] = int(serving.metric(program, "tunnel_table_entries"))
    return counts | {"descriptors": descriptors(serving.pids[program])}


def descriptors(pid: int) -> int:
    """When those of the last look at the metrics port are closed: as many, twice in a row."""
    before = -1
    while (now := len(list(Path(f"/proc/{pid}/fd").iterdir()))) != before:
        before = now
        time.sleep(LOOK_S)
    return now


def as_fast_as_new(engine: str, worn: Serving, fresh: Serving) -> None:
    """In turns, so that what else the machine does falls on both."""
    load(fresh, 1)
    rates: dict[str, list[float]] = {"worn": [], "fresh": []}
    for _ in range(ROUNDS):
        rates["worn"].append(throughput(worn))
        rates["fresh"].append(throughput(fresh))
    used, new = (statistics.median(found) for found in rates.values())
    figure = f"{used * 8 / 1e6:.0f} Mbit/s on a fresh stream, {new * 8 / 1e6:.0f} of a fresh pair, {used / new:.2f}"
    report(f"{engine}, throughput after it", figure, used >= THROUGHPUT_MIN * new)


def throughput(serving: Serving) -> float:
    """Bytes a second of one download."""
    buffer, taken = bytearray(1 << 20), 0
    with serving.open_tunnel() as connection:
        connection.sendall(b"GET /bytes?seed=1&size=1073741824&framing=length HTTP/1.1\r\nHost: target\r\n\r\n")
        began = time.monotonic()
        while (seconds := time.monotonic() - began) < ROUND_S:
            taken += connection.recv_into(buffer)
    return taken / seconds


if __name__ == "__main__":
    main(sys.argv[1:] or ENGINES)
