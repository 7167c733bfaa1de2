"""Resident memory of each proxy: idle, with many idle connections, and while somebody reads slowly.

Rules
- What a program takes for its first transfer it has taken before it is looked at.
- A SOCKS server alone counts as the server.
"""

from time import monotonic, sleep

from bench.rig import Rig
from bench.work.sizes import Figures, Sizes

WARM_UP_BYTES = 20_000_000
SETTLE_S = 1.0
HELD_TIMEOUT_S = 120.0
SLOW_BYTES_PER_S = 200_000
LOOK_EVERY_S = 0.1


def idle(rig: Rig, sizes: Sizes) -> Figures:
    _warm_up(rig)
    return {f"{role}_mb": size / 1e6 for role, size in _sizes(rig).items()}


def idle_connections(rig: Rig, sizes: Sizes) -> Figures:
    """What each connection adds, when it has carried one request and then stands still."""
    _warm_up(rig)
    before = _sizes(rig)
    with rig.held("hold", streams=sizes.idle_connections, seconds=HELD_TIMEOUT_S):
        sleep(SETTLE_S)
        after = _sizes(rig)
    figures = {f"{role}_mb": size / 1e6 for role, size in after.items()}
    for role, size in after.items():
        figures[f"{role}_kb_per_connection"] = (size - before[role]) / sizes.idle_connections / 1e3
    return figures


def slow_reader(rig: Rig, sizes: Sizes) -> Figures:
    """How far each proxy grows while one download without an end is read at 200 kB/s."""
    _warm_up(rig)
    before = _sizes(rig)
    highest = before
    with rig.held("slow", rate=SLOW_BYTES_PER_S, seconds=HELD_TIMEOUT_S):
        end_s = monotonic() + sizes.slow_reader_s
        while monotonic() < end_s:
            highest = {role: max(size, highest[role]) for role, size in _sizes(rig).items()}
            sleep(LOOK_EVERY_S)
    return {f"{role}_growth_mb": (size - before[role]) / 1e6 for role, size in highest.items()}


def _warm_up(rig: Rig) -> None:
    rig.load("download", HELD_TIMEOUT_S, bytes=WARM_UP_BYTES, seconds=HELD_TIMEOUT_S)
    sleep(SETTLE_S)


def _sizes(rig: Rig) -> dict[str, int]:
    return {role: proxy.rss_bytes for role, proxy in zip(("server", "client"), reversed(rig.proxies), strict=False)}
