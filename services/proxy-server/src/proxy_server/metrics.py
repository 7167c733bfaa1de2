"""The server's own Prometheus metrics. Every series exists from the start, at zero."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tunnel.errors import Cause
from tunnel.session.shares import Limit

_DIAL_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def limits_reached(registry: CollectorRegistry) -> Counter:
    """To be counted with each LimitReached."""
    text = "Connections and requests that were refused because their client has its share, by limit"
    counter = Counter("tunnel_limits_reached", text, ["limit"], registry=registry)
    for limit in Limit:
        counter.labels(limit)
    return counter


class DialMetrics:
    """`active` counts targets being dialled now."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.active = Gauge("tunnel_dials_active", "Targets being resolved or connected now", registry=registry)
        self._dials = Counter(
            "tunnel_dials", "Dials that ended, by cause; none is success", ["cause"], registry=registry
        )
        self._seconds = Histogram(
            "tunnel_dial_seconds", "From OPEN to the dial's end", registry=registry, buckets=_DIAL_BUCKETS_S
        )
        self._by_cause = {cause: self._dials.labels(cause.label) for cause in Cause}

    def dialled(self, cause: Cause, seconds: float) -> None:
        """A dial ended."""
        self._by_cause[cause].inc()
        self._seconds.observe(seconds)
