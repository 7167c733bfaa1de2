"""What a link shows at /metrics, read from its counts when somebody asks: the path of a datagram pays nothing."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from loadgen.link.control import Control
from loadgen.link.relay import Relay

_EVENTS = ("received", "forwarded", "lost", "dropped", "duplicated", "reordered")


class LinkCollector(Collector):
    """Metrics of one relay and of what was done to it."""

    def __init__(self, relay: Relay, control: Control) -> None:
        self._relay = relay
        self._control = control

    def collect(self) -> Iterator[Metric]:
        datagrams = CounterMetricFamily(
            "link_datagrams", "Datagrams by what became of them", labels=("direction", "event")
        )
        forwarded = CounterMetricFamily("link_bytes", "Payload bytes forwarded", labels=("direction",))
        queued = GaugeMetricFamily("link_queued_bytes", "Payload bytes under way", labels=("direction",))
        for direction, line in self._relay.lines.items():
            for event in _EVENTS:
                datagrams.add_metric((direction, event), getattr(line.counts, event))
            forwarded.add_metric((direction,), line.counts.forwarded_bytes)
            queued.add_metric((direction,), line.queued_bytes)
        yield datagrams
        yield forwarded
        yield queued
        yield GaugeMetricFamily("link_flows", "Client addresses that are known", value=self._relay.flows)
        yield CounterMetricFamily(
            "link_rebinds", "NAT rebinds: all flows got a new source port", value=self._control.rebinds
        )
        yield CounterMetricFamily(
            "link_plan_reads", "Plans that came into force while it ran", value=self._control.plan_reads
        )
