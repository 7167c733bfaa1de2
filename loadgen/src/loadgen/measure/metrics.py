"""The `soak_*` series (DESIGN section 8): every name, label and bucket in one place.

Rules
- Every series exists from the start, at zero, for every value of its labels; a rate over them is never made of nothing.
- Children are looked up once, here: an increment on the path of a transaction costs an increment.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from loadgen.faults.plan import Kind
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase
from loadgen.transaction.transaction import Direction

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0)
_LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class SoakMetrics:
    """All series of one run: dictionaries from label value to child."""

    def __init__(self, registry: CollectorRegistry, scenarios: Iterable[str]) -> None:
        names = tuple(scenarios)
        by_scenario, by_phase = ("scenario", names), ("phase", tuple(Phase))

        def counter(name: str, help: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
            family = Counter(name, help, (label,), registry=registry)
            return {value: family.labels(value) for value in values}

        def gauge(name: str, help: str, label: str, values: Iterable[str]) -> dict[str, Gauge]:
            family = Gauge(name, help, (label,), registry=registry)
            return {value: family.labels(value) for value in values}

        def histogram(name: str, help: str, label: str, values: Iterable[str]) -> dict[str, Histogram]:
            family = Histogram(name, help, (label,), buckets=_SECONDS, registry=registry)
            return {value: family.labels(value) for value in values}

        self.scheduled = counter("soak_transactions_scheduled", "Transactions that were due", *by_scenario)
        self.started = counter("soak_transactions_started", "Transactions that were started", *by_scenario)
        self.dropped = counter(
            "soak_transactions_dropped", "Transactions not started: too many in flight, or too late", *by_scenario
        )
        ended = Counter(
            "soak_transactions", "Transactions by how they ended", ("scenario", "outcome"), registry=registry
        )
        self.ended = {(name, outcome): ended.labels(name, outcome) for name in names for outcome in Outcome}
        self.in_flight = gauge("soak_transactions_in_flight", "Transactions under way", *by_scenario)
        self.response_time = histogram(
            "soak_response_time_seconds", "Time from the scheduled start to the end", *by_scenario
        )

        self.phase_duration = histogram(
            "soak_phase_duration_seconds", "Duration of completed phases; of body, the longest gap", *by_phase
        )
        self.stalls = counter("soak_stalls", "Stalls, counted at their onset", *by_phase)
        self.stalls_recovered = counter("soak_stalls_recovered", "Stalls that ended with progress", *by_phase)
        self.stalled = gauge("soak_stalled_transactions", "Transactions that are stalled now", *by_phase)
        self.timeouts = counter("soak_timeouts", "Phases that reached their timeout", *by_phase)
        self.payload_bytes = counter(
            "soak_payload_bytes", "Payload bytes, as expected or taken by the kernel", "direction", Direction
        )

        self.schedule_lag = Histogram(
            "soak_schedule_lag_seconds", "How late transactions were started", buckets=_LAG_SECONDS, registry=registry
        )
        self.loop_lag = Histogram(
            "soak_event_loop_lag_seconds",
            "How late the watchdog's sweep came, every 0.1 s",
            buckets=_LAG_SECONDS,
            registry=registry,
        )
        self.fault_active = gauge("soak_fault_active", "Whether a fault is being injected", "fault", Kind)
        self._run_info = Gauge(
            "soak_run_info",
            "Always 1; the labels say which run this is",
            ("run_id", "seed", "revision"),
            registry=registry,
        )

    def describe_run(self, run_id: str, seed: int, revision: str) -> None:
        """Says which run the series belong to."""
        self._run_info.labels(run_id, str(seed), revision).set(1)
