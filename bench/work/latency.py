"""New connections a second, and what a request of a connection that is kept costs."""

from collections.abc import Callable

from bench.processes import SampleError
from bench.rig import Rig
from bench.work.sizes import Figures, Sizes

RESPONSE_BYTES = 1000
KEPT_RESPONSE_BYTES = 500
"""With its head it fits the 1,024 bytes that microsocks moves at a time. It does not turn Nagle's algorithm off, so the
second piece of anything larger waits for a delayed acknowledgement: 40 ms and more, not a ceiling."""
WARM_UP_S = 0.3
GRACE_S = 30.0
REQUESTS_PER_S = 50.0
KEPT = 2


def new_connections(concurrency: int) -> Callable[[Rig, Sizes], Figures]:
    """`concurrency` at a time, each a SOCKS connection of its own with one response that its end delimits."""

    def measure(rig: Rig, sizes: Sizes) -> Figures:
        def run(seconds: float) -> Figures:
            flags = {"concurrency": concurrency, "bytes": RESPONSE_BYTES, "seconds": seconds}
            return rig.load("connections", seconds + GRACE_S, **flags)

        run(WARM_UP_S)
        found = run(sizes.connections_s)
        if not found["count"]:
            raise SampleError(f"all {found['failed']:.0f} connections failed: {found.get('reason')}")
        return {name: found[name] for name in ("per_s", "p50_ms", "p99_ms", "max_ms", "failed")}

    return measure


def keep_alive(rig: Rig, sizes: Sizes) -> Figures:
    """Requests on a schedule over connections that are kept; a latency counts from its scheduled time."""
    flags = {"rate": REQUESTS_PER_S, "streams": KEPT, "bytes": KEPT_RESPONSE_BYTES, "seconds": sizes.keep_alive_s}
    found = rig.load("keep-alive", sizes.keep_alive_s + GRACE_S, **flags)
    if found["failed"]:
        raise SampleError(f"{found['failed']:.0f} connections failed: {found.get('reason')}")
    return {name: found[name] for name in ("p50_ms", "p99_ms", "max_ms")}
