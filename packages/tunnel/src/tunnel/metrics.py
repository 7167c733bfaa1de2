"""The tunnel's Prometheus metrics: a collector that reads a session when it is scraped.

Rules:
- Labels are bounded: role, direction, cause, ending, event, stat, table, waits_for. Never a host, a user, a connection
  or a stream.
- Every series exists from the start, at zero, because the session's ledger does.
- It is read from the scraper's thread: single numbers, and copies of what the loop may change meanwhile.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from statistics import median

from prometheus_client import CollectorRegistry, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tunnel.errors import Cause
from tunnel.session.base import Session
from tunnel.wire.messages import Direction

STATS: Mapping[str, Callable[[Sequence[float]], float]] = {"min": min, "median": median, "max": max}
"""How the values of many connections are told."""

_HANDSHAKE_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


def handshake_histogram(registry: CollectorRegistry, role: str) -> Histogram:
    """From the first packet to the accepted HELLO; to be observed with each ConnectionUp."""
    histogram = Histogram(
        "tunnel_handshake_seconds",
        "Time from a connection's first packet until its HELLO was accepted",
        ["role"],
        registry=registry,
        buckets=_HANDSHAKE_BUCKETS_S,
    )
    histogram.labels(role)
    return histogram


def engine_info(registry: CollectorRegistry, role: str, engine: str, congestion_control: str) -> None:
    """What carries the connections: the labels of a series that is always 1."""
    info = Info("tunnel_engine", "The QUIC library in use, and its congestion control", ["role"], registry=registry)
    info.labels(role).info({"engine": engine, "congestion_control": congestion_control})


class SessionCollector(Collector):
    """Exports one session. `role` is client or server; `tables` are what the program keeps besides the session's."""

    def __init__(self, session: Session, role: str, tables: Mapping[str, Sized] | None = None) -> None:
        self._session = session
        self._role = role
        self._tables = tables or {}

    def collect(self) -> Iterator[Metric]:
        """All `quic_*` series, and all `tunnel_*` ones but the handshake histogram."""
        stats = self._session.connection_stats()
        yield from self._connections()
        yield from self._streams()
        yield self._entries()
        yield from self._ends()
        yield from self._buffers(sum(one.buffered_send_bytes for one in stats))
        yield self._spread("quic_rtt_seconds", "Smoothed round trip times", [one.rtt_s for one in stats])
        windows = [float(one.congestion_window_bytes) for one in stats]
        yield self._spread("quic_congestion_window_bytes", "Congestion windows", windows)
        yield from self._packets()

    def _connections(self) -> Iterator[Metric]:
        active = _gauge("tunnel_connections_active", "Connections between the proxies whose greeting is done", "role")
        active.add_metric([self._role], self._session.connection_count)
        yield active
        ended = _counter(
            "tunnel_connections", "Connections that ended, by cause; none is an orderly end", "role", "cause"
        )
        for cause, count in self._session.ledger.connections.items():
            ended.add_metric([self._role, cause.label], count)
        yield ended

    def _streams(self) -> Iterator[Metric]:
        active = _gauge("tunnel_streams_active", "Streams that are not finished on both sides", "role")
        active.add_metric([self._role], self._session.stream_count)
        yield active
        ended = _counter(
            "tunnel_streams", "Streams that ended, by the worse of their directions' endings", "role", "ending"
        )
        for ending, count in self._session.ledger.streams.items():
            ended.add_metric([self._role, ending], count)
        yield ended
        moved = _counter("tunnel_bytes", "Payload bytes moved, by the direction they went", "role", "direction")
        for direction, count in self._session.ledger.bytes.items():
            moved.add_metric([self._role, direction.label], count)
        yield moved
        half = _gauge("tunnel_half_closed_streams", "Streams of which only this direction ended", "role", "direction")
        for direction, count in self._session.ledger.half_closed.items():
            half.add_metric([self._role, direction.label], count)
        yield half

    def _entries(self) -> Metric:
        """What shows a leak of any of them, whatever else it leaves no trace in."""
        entries = _gauge(
            "tunnel_table_entries",
            "Entries of the tables of connections, streams and sockets; at rest, of open connections alone",
            "role",
            "table",
        )
        for table, count in self._session.table_entries().items():
            entries.add_metric([self._role, table], count)
        for table, kept in self._tables.items():
            entries.add_metric([self._role, table], len(kept))
        return entries

    def _ends(self) -> Iterator[Metric]:
        ends = _counter(
            "tunnel_ends",
            "The FIN ledger: clean ends received, forwarded, confirmed by DONE, rescued by END, gone with their stream",
            "role",
            "direction",
            "event",
        )
        for (direction, event), count in self._session.ledger.ends.items():
            ends.add_metric([self._role, direction.label, event], count)
        yield ends
        overdue = _gauge(
            "tunnel_ends_overdue",
            "Ends that have stood for 5 s or longer, by what happened to them last: received, or forwarded too",
            "role",
            "direction",
            "event",
        )
        for (direction, event), count in self._session.overdue_ends(time.monotonic()).items():
            overdue.add_metric([self._role, direction.label, event], count)
        yield overdue
        oldest = _gauge(
            "tunnel_oldest_unconfirmed_end_timestamp_seconds",
            "Since when the oldest end waits for its DONE: it was sent, or TAKEN came; 0 where none waits",
            "role",
        )
        since = self._session.oldest_unconfirmed_end_at()
        oldest.add_metric([self._role], 0.0 if since is None else time.time() - (time.monotonic() - since))
        yield oldest

    def _buffers(self, unacknowledged_bytes: int) -> Iterator[Metric]:
        buffered = _gauge("tunnel_buffered_bytes", "Payload bytes held, by the direction they go", "role", "direction")
        sent = self._session.sends
        received = next(direction for direction in Direction if direction is not sent)
        buffered.add_metric([self._role, sent.label], unacknowledged_bytes)
        buffered.add_metric([self._role, received.label], self._session.ledger.undelivered_bytes)
        yield buffered
        waits = _counter("tunnel_flow_control_waits", "Times a socket had to wait for the tunnel to take bytes", "role")
        waits.add_metric([self._role], self._session.ledger.flow_control_waits)
        yield waits
        stalls = _counter(
            "tunnel_stalls", "Streams that began to stand still, by what they wait for", "role", "waits_for"
        )
        for waits_for, count in self._session.ledger.stalls.items():
            stalls.add_metric([self._role, waits_for], count)
        yield stalls

    def _spread(self, name: str, text: str, values: Sequence[float]) -> Metric:
        """However many connections there are, a few series tell of them."""
        family = _gauge(
            name, f"{text} of the connections: the least, the median, the greatest; 0 of none", "role", "stat"
        )
        for stat, of in STATS.items():
            family.add_metric([self._role, stat], of(values) if values else 0.0)
        return family

    def _packets(self) -> Iterator[Metric]:
        packets = self._session.packets()
        for what, count, text in (
            ("sent", packets.sent, "QUIC packets sent"),
            ("received", packets.received, "QUIC packets received; with quinn the datagrams that hold them"),
            ("lost", packets.lost, "QUIC packets declared lost (RFC 9002)"),
        ):
            yield self._count(f"quic_packets_{what}", text, count)
        asked = "Strangers who were asked to prove their address first (Retry), because many handshakes were unfinished"
        yield self._count("quic_retries", asked, packets.retries)

    def _count(self, name: str, text: str, value: float) -> Metric:
        family = _counter(name, text, "role")
        family.add_metric([self._role], value)
        return family


def cause_labels() -> list[str]:
    """Every value that a `cause` label can have."""
    return [cause.label for cause in Cause]


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=labels)
