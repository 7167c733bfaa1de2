"""The grammar of thresholds, and what they say of values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase
from loadgen.verdict.thresholds import ThresholdError, defaults, judge, parse, with_defaults


@pytest.mark.parametrize(
    ("expression", "metric", "bound"),
    [
        ("outcome.eof_missing == 0", "outcome.eof_missing", 0),
        ("latency.p99 < 250ms", "latency.p99", 0.25),
        ("latency.upload.max<=1.5s", "latency.upload.max", 1.5),
        ("  stalls.body   <= 1 ", "stalls.body", 1),
        ("timeouts.ttfb == 0", "timeouts.ttfb", 0),
        ("rescued == 0", "rescued", 0),
        ("offered_per_s >= 59.5", "offered_per_s", 59.5),
        ("drain.seconds < 3s", "drain.seconds", 3),
        ("generator.lag < 100ms", "generator.lag", 0.1),
    ],
)
def test_what_can_be_said(expression: str, metric: str, bound: float) -> None:
    threshold = parse(expression)
    assert threshold.metric == metric
    assert threshold.bound == pytest.approx(bound)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("outcome.eof_missing", "not METRIC OPERATOR VALUE"),
        ("outcome.eof_missing = 0", "not METRIC OPERATOR VALUE"),
        ("outcome.ok >= -1", "not METRIC OPERATOR VALUE"),
        ("outcome.missing == 0", "no metric outcome.missing"),
        ("latency.p98 < 1s", "no metric latency.p98"),
        ("latency.nope.p99 < 1s", "no metric latency.nope.p99"),
        ("stalls.drain.x == 0", "no metric"),
        ("latency.p99 < 250", "needs a unit"),
        ("stalls.body <= 1s", "has a unit"),
        ("latency.p99 < 1m", "not METRIC OPERATOR VALUE"),
    ],
)
def test_what_cannot(expression: str, said: str) -> None:
    with pytest.raises(ThresholdError, match=said):
        parse(expression)


@pytest.mark.parametrize(
    ("operator", "holds"),
    [("==", [2]), ("!=", [1, 3]), ("<", [1]), ("<=", [1, 2]), (">", [3]), (">=", [2, 3])],
)
def test_operators(operator: str, holds: list[int]) -> None:
    threshold = parse(f"stalls {operator} 2")
    assert [value for value in (1, 2, 3) if threshold.holds(value)] == holds


def test_defaults() -> None:
    expressions = {threshold.expression for threshold in defaults()}
    assert expressions == (
        {f"outcome.{outcome} == 0" for outcome in Outcome if outcome is not Outcome.OK}
        | {f"timeouts.{phase} == 0" for phase in Phase}
        | {"drain.pending == 0", "ledger.imbalances == 0"}
    )


def test_defaults_with_faults() -> None:
    """Quiet time is held to everything; fault and recovery only to what no fault excuses."""
    expressions = {threshold.expression for threshold in defaults(faults=True)}
    assert expressions == (
        {f"quiet.outcome.{outcome} == 0" for outcome in Outcome if outcome is not Outcome.OK}
        | {f"quiet.timeouts.{phase} == 0" for phase in Phase if phase is not Phase.DRAIN}
        | {f"outcome.{outcome} == 0" for outcome in (Outcome.CORRUPT, Outcome.EXCESS, Outcome.EOF_PREMATURE)}
        | {"late == 0", "timeouts.drain == 0", "drain.pending == 0", "ledger.imbalances == 0"}
    )
    assert all(threshold.is_default for threshold in defaults(faults=True))
    assert not parse("late == 0").is_default


@pytest.mark.parametrize("metric", ["quiet.outcome.reset", "fault.stalls.body", "recovery.failed", "quiet.completed"])
def test_a_window_goes_before_a_count(metric: str) -> None:
    assert parse(f"{metric} <= 2").metric == metric


def test_a_window_goes_before_a_latency_but_not_before_everything() -> None:
    assert parse("quiet.latency.p99 < 250ms").bound == 0.25
    for metric in ("quiet.dropped", "fault.drain.pending", "quiet.generator.blamed", "noon.failed"):
        with pytest.raises(ThresholdError, match="there is no metric"):
            parse(f"{metric} == 0")


def test_what_a_slow_generator_can_violate() -> None:
    assert not parse("quiet.outcome.corrupt == 0").depends_on_speed
    assert not parse("outcome.eof_missing == 0").depends_on_speed
    assert parse("quiet.outcome.timeout == 0").depends_on_speed


def test_the_phase_of_a_threshold() -> None:
    assert parse("fault.stalls.eof_wait <= 3").phase is Phase.EOF_WAIT
    assert parse("stalls == 0").phase is None
    assert parse("latency.p99 < 1s").phase is None


def test_what_was_asked_replaces_the_default_on_its_metric() -> None:
    thresholds = with_defaults([parse("outcome.reset <= 5"), parse("latency.p99 < 1s")])
    expressions = [threshold.expression for threshold in thresholds]
    assert expressions[-2:] == ["outcome.reset <= 5", "latency.p99 < 1s"]
    assert "outcome.reset == 0" not in expressions
    assert len(expressions) == len(defaults()) + 1


def test_nothing_measured_is_not_ok() -> None:
    (judged,) = judge([parse("latency.p99 < 1s")], {"latency.p99": None})
    assert (judged.value, judged.ok) == (None, False)


words = st.sampled_from([*(one.metric for one in defaults(faults=True)), "latency.p99", "drain.seconds", "x"])
signs = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "="])
numbers = st.one_of(st.integers(0, 10**9).map(str), st.floats(0, 1e9).map(lambda value: f"{value:f}"), st.just("-1"))
spaces, units = st.sampled_from(["", " "]), st.sampled_from(["", "s", "ms"])
expressions = st.tuples(words, spaces, signs, spaces, numbers, units).map("".join)


@given(st.text(max_size=40) | expressions)
def test_any_text_is_a_threshold_or_refused(text: str) -> None:
    try:
        threshold = parse(text)
    except ThresholdError:
        return
    assert parse(threshold.expression) == threshold
    assert threshold.holds(threshold.bound) == (threshold.operator in ("==", "<=", ">="))
