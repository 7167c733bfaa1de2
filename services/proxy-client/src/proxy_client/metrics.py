"""The SOCKS side's Prometheus metrics. Every series exists from the start, at zero."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tunnel.errors import Cause, Reply

_HANDSHAKE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)


class SocksMetrics:
    """`active` counts open connections, handshakes included."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.active = Gauge("socks_connections_active", "Connections of SOCKS clients", registry=registry)
        self._replies = Counter("socks_replies", "Replies to SOCKS requests", ["reply"], registry=registry)
        self._failures = Counter(
            "socks_failures", "Handshakes and requests that failed, by cause", ["cause"], registry=registry
        )
        self._seconds = Histogram(
            "socks_handshake_seconds",
            "From a connection's start to the reply to its request",
            registry=registry,
            buckets=_HANDSHAKE_BUCKETS_S,
        )
        self._by_reply = {reply: self._replies.labels(reply.name.lower()) for reply in Reply}
        for cause in Cause:
            if cause is not Cause.NONE:
                self._failures.labels(cause.label)

    def handshake_over(self, cause: Cause, seconds: float, *, answered: bool) -> None:
        """A handshake is over. `answered` where a request got its reply; otherwise it never came to that."""
        if cause is not Cause.NONE:
            self._failures.labels(cause.label).inc()
        if answered:
            self._by_reply[cause.reply].inc()
            self._seconds.observe(seconds)
