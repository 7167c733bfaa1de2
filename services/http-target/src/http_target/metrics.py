"""What http-target counts. Every series is there from the start, at zero."""

from prometheus_client import CollectorRegistry, Counter, Gauge

ROUTES = ("bytes", "upload", "eof_gated", "never_reads", "never_answers", "half_close", "server_first", "unknown")

ASKED_RESET = "reset"  # a reset that the request asked for
SILENT = "none"  # no answer, as the request asked for
ABORTED = "aborted"  # the client left, stalled, or the drain timeout came, before the answer was out


class Metrics:
    """The counters of one program. `status` is the HTTP status, or one of the three words above."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "http_target_requests", "Requests by how they were answered", ["route", "status"], registry=registry
        )
        self.connections = Gauge("http_target_connections_active", "Open connections", registry=registry)
        payload = Counter("http_target_bytes", "Body bytes", ["direction"], registry=registry)
        self.bytes_received = payload.labels("received")
        self.bytes_sent = payload.labels("sent")
        ends = Counter(
            "http_target_ends",
            "Ends of stream: the client's that were seen, ours that were sent; the ledger's first hop",
            ["event"],
            registry=registry,
        )
        self.ends_received = ends.labels("received")
        self.ends_sent = ends.labels("sent")
        for route in ROUTES:
            for status in ("200", ABORTED):
                self._requests.labels(route, status)

    def request(self, route: str, status: str) -> None:
        """Counts one request."""
        self._requests.labels(route, status).inc()
