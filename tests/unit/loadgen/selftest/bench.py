"""The bench of a self test in this process: faulty proxies that note when they strike."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from time import monotonic

from tests.unit.loadgen.conftest import Target
from tests.unit.loadgen.faulty.conftest import Proxies

from loadgen.faulty.fault import Fault
from loadgen.faulty.registry import FAULTS
from loadgen.measure.anomalies import Anomalies
from loadgen.selftest.bench import Bench


def bench_of(names: Iterable[str], proxies: Proxies, target: Target, anomalies: Anomalies) -> Bench:
    strikes: dict[str, list[float]] = defaultdict(list)

    def noting(name: str) -> Callable[[], Fault]:
        def make() -> Fault:
            fault = FAULTS[name].make()
            fault.on_strike = lambda: strikes[name].append(monotonic())
            return fault

        return make

    faults = {name: proxies.proxy(noting(name)) for name in names}
    return Bench(faults, target.http, target.first, anomalies, strikes.__getitem__)
