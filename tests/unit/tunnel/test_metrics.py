"""tunnel.metrics: what a scrape says of a session, series by series."""

import itertools
import time
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from tunnel.engine.port import Packets, Stats
from tunnel.errors import Cause
from tunnel.metrics import STATS, SessionCollector, cause_labels, engine_info, handshake_histogram
from tunnel.session.base import Session
from tunnel.session.ledger import END_EVENTS, Ledger
from tunnel.session.pending import OVERDUE_AT
from tunnel.wire.messages import Direction

UP, DOWN = Direction.CLIENT_TO_TARGET, Direction.TARGET_TO_CLIENT


class FakeSession:
    def __init__(self, sends: Direction) -> None:
        self.sends = sends
        self.ledger = Ledger()
        self.connection_count = 0
        self.stream_count = 0
        self.overdue: dict[tuple[Direction, str], int] = {}
        self.oldest_end_at: float | None = None
        self.stats: list[Stats] = []
        self.seen = Packets()
        self.entries = {"streams": 0}

    def connection_stats(self) -> list[Stats]:
        return self.stats

    def packets(self) -> Packets:
        return self.seen

    def table_entries(self) -> dict[str, int]:
        return self.entries

    def overdue_ends(self, now: float) -> dict[tuple[Direction, str], int]:
        return dict.fromkeys(itertools.product(Direction, OVERDUE_AT), 0) | self.overdue

    def oldest_unconfirmed_end_at(self) -> float | None:
        return self.oldest_end_at


def stats(**fields: float) -> Stats:
    """Of a connection that is as told, and zero in everything else."""
    return Stats(**(dict.fromkeys(Stats.__slots__, 0) | fields))  # type: ignore[arg-type]  # ints and floats by name


class Scrape:
    """A registry with one session in it."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.sockets: list[int] = []
        self.session = FakeSession(UP if role == "client" else DOWN)
        self.registry = CollectorRegistry()
        self.registry.register(SessionCollector(cast(Session, self.session), role, {"sockets": self.sockets}))

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"role": self.role, **labels})


@pytest.fixture(params=["client", "server"])
def scrape(request: pytest.FixtureRequest) -> Scrape:
    return Scrape(request.param)


def test_everything_is_there_at_zero(scrape: Scrape) -> None:
    samples = [sample for family in scrape.registry.collect() for sample in family.samples]
    assert {sample.value for sample in samples} == {0.0}
    assert {sample.labels["role"] for sample in samples} == {scrape.role}
    assert {sample.name for sample in samples} == {
        "tunnel_connections_active",
        "tunnel_connections_total",
        "tunnel_streams_active",
        "tunnel_table_entries",
        "tunnel_streams_total",
        "tunnel_bytes_total",
        "tunnel_half_closed_streams",
        "tunnel_ends_total",
        "tunnel_ends_overdue",
        "tunnel_oldest_unconfirmed_end_timestamp_seconds",
        "tunnel_buffered_bytes",
        "tunnel_flow_control_waits_total",
        "tunnel_stalls_total",
        "quic_rtt_seconds",
        "quic_congestion_window_bytes",
        "quic_packets_sent_total",
        "quic_packets_received_total",
        "quic_packets_lost_total",
        "quic_retries_total",
    }
    causes = [sample.labels["cause"] for sample in samples if sample.name == "tunnel_connections_total"]
    assert causes == cause_labels()
    assert len(causes) == len(set(causes)) == len(Cause)


def test_each_series_says_its_own_thing(scrape: Scrape) -> None:
    session, ledger = scrape.session, scrape.session.ledger
    session.connection_count, session.stream_count = 1, 2
    ledger.connections[Cause.PEER_SILENT] = 3
    ledger.streams.update({"eof": 4, "reset": 5, "lost": 6, "closed": 7, "refused": 8})
    ledger.bytes.update({UP: 9, DOWN: 10})
    ledger.half_closed.update({UP: 11, DOWN: 12})
    ledger.flow_control_waits = 13
    session.overdue = {(UP, "received"): 24, (DOWN, "forwarded"): 25}
    for number, event in enumerate(END_EVENTS, start=14):
        ledger.ends[UP, event], ledger.ends[DOWN, event] = number, 10 * number

    assert scrape("tunnel_connections_active") == 1
    assert scrape("tunnel_streams_active") == 2
    assert scrape("tunnel_connections_total", cause="peer_silent") == 3
    assert scrape("tunnel_connections_total", cause="none") == 0
    endings = ("eof", "reset", "lost", "closed", "refused")
    assert [scrape("tunnel_streams_total", ending=ending) for ending in endings] == [4, 5, 6, 7, 8]
    directions = ("client_to_target", "target_to_client")
    assert [scrape("tunnel_bytes_total", direction=direction) for direction in directions] == [9, 10]
    assert [scrape("tunnel_half_closed_streams", direction=direction) for direction in directions] == [11, 12]
    assert scrape("tunnel_flow_control_waits_total") == 13
    overdue = [
        [scrape("tunnel_ends_overdue", direction=way, event=event) for event in OVERDUE_AT] for way in directions
    ]
    assert overdue == [[24, 0], [0, 25]]
    for number, event in enumerate(END_EVENTS, start=14):
        ends = [scrape("tunnel_ends_total", direction=direction, event=event) for direction in directions]
        assert ends == [number, 10 * number]


@pytest.mark.parametrize(
    ("role", "sent", "received"),
    [("client", "client_to_target", "target_to_client"), ("server", "target_to_client", "client_to_target")],
)
def test_held_bytes_by_the_direction_they_go(role: str, sent: str, received: str) -> None:
    scrape = Scrape(role)
    scrape.session.stats = [stats(buffered_send_bytes=count) for count in (100, 20, 3)]
    scrape.session.ledger.undelivered_bytes = 4000
    assert scrape("tunnel_buffered_bytes", direction=sent) == 123
    assert scrape("tunnel_buffered_bytes", direction=received) == 4000


def test_many_connections_are_told_by_few_series(scrape: Scrape) -> None:
    scrape.session.stats = [stats(rtt_s=n / 1000, congestion_window_bytes=n) for n in (20, 900, 30)]
    spread = [
        (scrape("quic_rtt_seconds", stat=stat), scrape("quic_congestion_window_bytes", stat=stat)) for stat in STATS
    ]
    assert spread == [(0.02, 20), (0.03, 30), (0.9, 900)]


def test_packets(scrape: Scrape) -> None:
    scrape.session.seen = Packets(sent=3, received=2, lost=1)
    assert [scrape(f"quic_packets_{what}_total") for what in ("sent", "received", "lost")] == [3, 2, 1]


def test_oldest_unconfirmed_end_is_a_time_of_day(scrape: Scrape) -> None:
    """A timestamp and no age, so that it means the same whenever it is read."""
    scrape.session.oldest_end_at = time.monotonic() - 60
    value = scrape("tunnel_oldest_unconfirmed_end_timestamp_seconds")
    assert value == pytest.approx(time.time() - 60, abs=5)


def test_handshakes(scrape: Scrape) -> None:
    histogram = handshake_histogram(scrape.registry, scrape.role)
    assert scrape("tunnel_handshake_seconds_count") == 0
    histogram.labels(scrape.role).observe(0.02)
    assert scrape("tunnel_handshake_seconds_sum") == 0.02
    assert scrape("tunnel_handshake_seconds_bucket", le="0.01") == 0
    assert scrape("tunnel_handshake_seconds_bucket", le="0.025") == 1


def test_the_engine_is_told(scrape: Scrape) -> None:
    engine_info(scrape.registry, scrape.role, "aioquic", "reno")
    assert scrape("tunnel_engine_info", engine="aioquic", congestion_control="reno") == 1


def test_entries_of_the_sessions_tables_and_of_the_programs(scrape: Scrape) -> None:
    scrape.session.entries["streams"] = 3
    scrape.sockets += [1, 2, 3, 4]
    assert scrape("tunnel_table_entries", table="streams") == 3
    assert scrape("tunnel_table_entries", table="sockets") == 4
