"""The series of DESIGN section 8: there from the start, at zero, with every label value."""

from prometheus_client import CollectorRegistry, generate_latest

from loadgen.faults.plan import Kind
from loadgen.measure.metrics import SoakMetrics
from loadgen.scenarios import SCENARIOS
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase

BY_SCENARIO = (
    "soak_transactions_scheduled_total",
    "soak_transactions_started_total",
    "soak_transactions_dropped_total",
    "soak_transactions_in_flight",
    "soak_response_time_seconds_count",
)
BY_PHASE = (
    "soak_phase_duration_seconds_count",
    "soak_stalls_total",
    "soak_stalls_recovered_total",
    "soak_stalled_transactions",
    "soak_timeouts_total",
)


def test_everything_is_there_at_zero() -> None:
    registry = CollectorRegistry()
    metrics = SoakMetrics(registry, SCENARIOS)
    metrics.describe_run("a-run", 1, "abc")
    for name in BY_SCENARIO:
        for scenario in SCENARIOS:
            assert registry.get_sample_value(name, {"scenario": scenario}) == 0
    for scenario in SCENARIOS:
        for outcome in Outcome:
            labels = {"scenario": scenario, "outcome": outcome}
            assert registry.get_sample_value("soak_transactions_total", labels) == 0
    for name in BY_PHASE:
        for phase in Phase:
            assert registry.get_sample_value(name, {"phase": phase}) == 0
    for direction in ("client_to_target", "target_to_client"):
        assert registry.get_sample_value("soak_payload_bytes_total", {"direction": direction}) == 0
    for name in ("soak_schedule_lag_seconds_count", "soak_event_loop_lag_seconds_count"):
        assert registry.get_sample_value(name) == 0
    for fault in Kind:
        assert registry.get_sample_value("soak_fault_active", {"fault": fault}) == 0
    assert registry.get_sample_value("soak_run_info", {"run_id": "a-run", "seed": "1", "revision": "abc"}) == 1


def test_label_values_are_the_plain_words() -> None:
    registry = CollectorRegistry()
    SoakMetrics(registry, ("get",))
    text = generate_latest(registry).decode()
    assert 'soak_stalls_total{phase="eof_wait"} 0.0' in text
    assert 'soak_transactions_total{outcome="eof_missing",scenario="get"} 0.0' in text
