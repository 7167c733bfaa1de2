"""What is counted, in memory that does not grow with the number of transactions.

Rules
- Everything is counted once here, for the verdict and for the metrics port alike; anomalies also get a line in their
  file.
- Latency counts from the scheduled start, for every transaction that came to an outcome of its own (not `aborted`).
- What a transaction came to is counted over the run, for its scenario, and for its window (quiet, fault, recovery).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from hdrh.histogram import HdrHistogram

from loadgen.measure.anomalies import Anomalies
from loadgen.measure.metrics import SoakMetrics
from loadgen.measure.timeline import Timeline
from loadgen.measure.windows import Windows
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase
from loadgen.transaction.transaction import Arrival, Direction, Transaction, Window

_LOWEST_US, _HIGHEST_US = 1, 3_600_000_000
_DIGITS = 2  # hdrh looks through its buckets one by one, and a third digit makes them ten times as many


class Latencies:
    """A histogram of seconds, exact to 1 %, up to an hour. 30 kB, whatever is in it."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)

    def record(self, seconds: float) -> None:
        self._histogram.record_value(min(max(round(seconds * 1e6), _LOWEST_US), _HIGHEST_US))

    @property
    def count(self) -> int:
        return int(self._histogram.get_total_count())

    def percentile_s(self, percentile: float) -> float | None:
        """Seconds; None while nothing is recorded."""
        return self._histogram.get_value_at_percentile(percentile) / 1e6 if self.count else None

    @property
    def max_s(self) -> float | None:
        return self._histogram.get_max_value() / 1e6 if self.count else None


@dataclass(slots=True)
class StallCount:
    """Stalls of one phase."""

    count: int = 0
    now: int = 0
    recovered: int = 0
    longest_s: float = 0.0


@dataclass(slots=True)
class ScenarioCount:
    """Transactions of one scenario."""

    scheduled: int = 0
    started: int = 0
    dropped: int = 0
    in_flight: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def completed(self) -> int:
        """Those with an outcome of their own."""
        return self.outcomes.total() - self.outcomes[Outcome.ABORTED]


@dataclass(slots=True)
class WindowCount:
    """Transactions of one kind of time."""

    outcomes: Counter[Outcome] = field(default_factory=lambda: Counter(dict.fromkeys(Outcome, 0)))
    stalls: Counter[Phase] = field(default_factory=lambda: Counter(dict.fromkeys(Phase, 0)))
    timeouts: Counter[Phase] = field(default_factory=lambda: Counter(dict.fromkeys(Phase, 0)))
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def completed(self) -> int:
        """Those with an outcome of their own."""
        return self.outcomes.total() - self.outcomes[Outcome.ABORTED]


class Tally:
    """Counts; and is the `Observer` of every transaction."""

    def __init__(
        self,
        scenarios: tuple[str, ...],
        metrics: SoakMetrics,
        anomalies: Anomalies,
        windows: Windows | None = None,
        duration_s: float | None = None,
        inquire: Callable[[Transaction], None] = lambda transaction: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`windows` are those of the run's faults; `duration_s` is how long the load will last, where that is known;
        `inquire` is told of each transaction that stalls."""
        self.scenarios = {name: ScenarioCount() for name in scenarios}
        self.windows = windows or Windows()
        self.by_window = {window: WindowCount() for window in Window}
        self.phases = {phase: Latencies() for phase in Phase}
        self.timeline = Timeline(duration_s)
        self.latencies = Latencies()
        self.stalls = {phase: StallCount() for phase in Phase}
        self.stalled_now = 0
        self.timeouts = dict.fromkeys(Phase, 0)
        self.payload_bytes = dict.fromkeys(Direction, 0)
        self.schedule_lag = Latencies()
        self.lag_max_s = 0.0
        self.generator_lags = 0
        self.late = 0
        """Failures that a fault would have excused, had they not come after its recovery was over."""
        self._metrics = metrics
        self._anomalies = anomalies
        self._inquire = inquire
        self._clock = clock
        self._started_at_s = clock()

    def load_begins(self, now_s: float) -> None:
        """The moment from which `at_s` of anomalies counts."""
        self._started_at_s = now_s

    def since_begin_s(self, at_s: float) -> float:
        """Seconds since the load began."""
        return at_s - self._started_at_s

    def window_of(self, due_s: float) -> Window:
        """The window of a transaction that was due at `due_s`; each is asked for once."""
        return self.windows.of_due(self.since_begin_s(due_s))

    def scheduled(self, arrival: Arrival) -> None:
        self.scenarios[arrival.scenario].scheduled += 1
        self._metrics.scheduled[arrival.scenario].inc()

    def dropped(self, arrival: Arrival) -> None:
        self.scenarios[arrival.scenario].dropped += 1
        self._metrics.dropped[arrival.scenario].inc()

    def started(self, arrival: Arrival, lag_s: float) -> None:
        count = self.scenarios[arrival.scenario]
        count.started += 1
        count.in_flight += 1
        self.schedule_lag.record(lag_s)
        self.lag_max_s = max(self.lag_max_s, lag_s)
        self._metrics.started[arrival.scenario].inc()
        self._metrics.in_flight[arrival.scenario].inc()
        self._metrics.schedule_lag.observe(lag_s)

    def ended(self, transaction: Transaction, outcome: Outcome, detail: str) -> None:
        name = transaction.arrival.scenario
        latency_s = transaction.clock() - transaction.scheduled_at_s
        count = self.scenarios[name]
        count.in_flight -= 1
        count.outcomes[outcome] += 1
        in_window = self.by_window[transaction.window]
        in_window.outcomes[outcome] += 1
        if outcome is not Outcome.OK and transaction.window is not Window.QUIET:
            touched_s, failed_s = self.since_begin_s(transaction.excused_at_s), self.since_begin_s(transaction.clock())
            self.late += not self.windows.excuses(touched_s, failed_s)
        self._metrics.in_flight[name].dec()
        self._metrics.ended[name, outcome].inc()
        has_latency = outcome is not Outcome.ABORTED
        due_s = self.since_begin_s(transaction.scheduled_at_s)
        self.timeline.ended(due_s, outcome, latency_s if has_latency else None)
        if has_latency:
            in_window.latencies.record(latency_s)
            count.latencies.record(latency_s)
            self.latencies.record(latency_s)
            self._metrics.response_time[name].observe(latency_s)
        if outcome is not Outcome.OK:
            self._note("outcome", transaction, outcome=outcome, detail=detail, latency_s=round(latency_s, 3))

    def loop_lag(self, lag_s: float) -> None:
        """How late the watchdog's sweep came: the pulse of the generator, at which the timeline takes its looks too."""
        self.lag_max_s = max(self.lag_max_s, lag_s)
        self._metrics.loop_lag.observe(lag_s)
        self.timeline.look(self.since_begin_s(self._clock()), self.stalled_now, self.in_flight, lag_s)

    # ---- Observer

    def phase_ended(self, phase: Phase, duration_s: float) -> None:
        self.phases[phase].record(duration_s)
        self._metrics.phase_duration[phase].observe(duration_s)

    def stalled(self, transaction: Transaction, phase: Phase) -> None:
        count = self.stalls[phase]
        count.count += 1
        count.now += 1
        self.by_window[transaction.window].stalls[phase] += 1
        self.timeline.stalled(self.since_begin_s(transaction.quiet_since_s), phase)
        self.stalled_now += 1
        self._metrics.stalls[phase].inc()
        self._metrics.stalled[phase].inc()
        self._note("stall", transaction)
        self._inquire(transaction)

    def stall_ended(self, transaction: Transaction, phase: Phase, duration_s: float, recovered: bool) -> None:
        count = self.stalls[phase]
        count.longest_s = max(count.longest_s, duration_s)
        count.now -= 1
        self.stalled_now -= 1
        self._metrics.stalled[phase].dec()
        if recovered:
            count.recovered += 1
            self._metrics.stalls_recovered[phase].inc()
            self._note("stall_recovered", transaction, stalled_s=round(duration_s, 3))

    def generator_lagged(self, transaction: Transaction, phase: Phase, lag_s: float) -> None:
        self.generator_lags += 1
        self._note("generator_lag", transaction, lag_s=round(lag_s, 3))

    def timed_out(self, transaction: Transaction, phase: Phase) -> None:
        self.by_window[transaction.window].timeouts[phase] += 1
        self.run_timed_out(phase)

    def moved(self, direction: Direction, payload_bytes: int) -> None:
        self.payload_bytes[direction] += payload_bytes
        self._metrics.payload_bytes[direction].inc(payload_bytes)

    # ---- the run's own phase

    def run_timed_out(self, phase: Phase) -> None:
        """A phase has reached its timeout: one of a transaction, or `drain`."""
        self.timeouts[phase] += 1
        self._metrics.timeouts[phase].inc()

    def drained(self, duration_s: float) -> None:
        self.phase_ended(Phase.DRAIN, duration_s)

    # ----

    @property
    def in_flight(self) -> int:
        return sum(count.in_flight for count in self.scenarios.values())

    @property
    def outcomes(self) -> Counter[Outcome]:
        """Over all scenarios; every outcome is there."""
        total = Counter(dict.fromkeys(Outcome, 0))
        for count in self.scenarios.values():
            total.update(count.outcomes)
        return total

    def _note(self, kind: str, transaction: Transaction, **fields: object) -> None:
        now_s = transaction.clock()
        arrival = transaction.arrival
        self._anomalies.write(
            kind,
            at_s=round(now_s - self._started_at_s, 3),
            number=arrival.number,
            scenario=arrival.scenario,
            window=transaction.window,
            phase=transaction.phase,
            in_phase_s=round(now_s - transaction.phase_since_s, 3) if transaction.phase else None,
            **fields,
            seed=arrival.seed,
            size_bytes=arrival.size_bytes,
            received_bytes=transaction.received_bytes,
            expected_bytes=transaction.expected_bytes,
            sent_bytes=transaction.sent_bytes,
            application=transaction.application,
        )
