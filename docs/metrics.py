"""Writes docs/METRICS.md from what the programs export: `python docs/metrics.py` (or `make docs`).

Each program's metrics are made as the program makes them, and read as Prometheus reads them: what is listed here is
there from the start, at zero, with exactly these labels.
"""

from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from http_target.metrics import Metrics as TargetMetrics
from loadgen.link.line import Counts
from loadgen.link.metrics import LinkCollector
from loadgen.link.plan import Direction
from loadgen.measure.metrics import SoakMetrics
from loadgen.scenarios.registry import SCENARIOS
from proxy_client.metrics import SocksMetrics
from proxy_server.metrics import DialMetrics, limits_reached
from servicekit.address import Address
from servicekit.metrics import MetricsServer, registry
from tunnel.engine.port import Engine, Packets
from tunnel.metrics import SessionCollector, engine_info, handshake_histogram
from tunnel.session.client import ClientSession
from tunnel.session.server import ServerSession
from tunnel.session.settings import SessionSettings

PAGE = Path(__file__).with_name("METRICS.md")

_PORTS = {"proxy-client": 9101, "proxy-server": 9102, "http-target": 9103, "loadgen soak": 9104, "loadgen link": 9105}
_OWN = ("process_event_loop_lag_seconds", "process_event_loop_tasks")
_OF_LIBRARY = ("process_", "python_")
_TABLES: Mapping[str, Sized] = {"handlers": (), "sockets": ()}
"""Those of the programs, besides the session's."""
_INFO = {
    "tunnel_engine": "role, engine, congestion_control",
    "soak_run_info": "run_id, seed, revision",
}
"""Series that are always 1 and whose labels tell what runs: the values are the run's own."""

_HEAD = """# Metrics

Every program serves `/metrics` on a port of its own. This page is made from the code by `make docs`, and CI checks that
it is up to date.

- Every series exists from the start, at zero: a rate over it is never made of nothing.
- Labels are bounded. No label ever holds a host, a user, a connection or a stream; the values are listed at the end.
- Base units: seconds and bytes. Counters end in `_total` and only grow until their program is started again.
- Times of day are timestamps, not ages: `time() - x` is the age.
- Besides these, each program exports `process_*` (CPU, memory, descriptors, start time) and `python_*` of the
  Prometheus client library.
"""


def registries() -> Mapping[str, CollectorRegistry]:
    """By program; nothing listens and nothing runs."""
    return {
        "proxy-client": _proxy_client(),
        "proxy-server": _proxy_server(),
        "http-target": _http_target(),
        "loadgen soak": _soak(),
        "loadgen link": _link(),
    }


def page() -> str:
    """The whole document."""
    families = {program: list(_families(made)) for program, made in registries().items()}
    parts = [_HEAD]
    for program, own in families.items():
        parts.append(f"## {program} (port {_PORTS[program]})\n\n{_table(own)}")
    every = [family for own in families.values() for family in own]
    parts.append(f"## Label values\n\n{_values(every)}")
    return "\n".join(parts)


def _proxy_client() -> CollectorRegistry:
    made = _program()
    session = ClientSession(_no_engine(), SessionSettings(), token=b"", rng=Random(0), now=0.0)
    made.register(SessionCollector(session, "client", _TABLES))
    handshake_histogram(made, "client")
    engine_info(made, "client", "quinn", "cubic")
    SocksMetrics(made)
    return made


def _proxy_server() -> CollectorRegistry:
    made = _program()
    session = ServerSession(
        _no_engine(), lambda token: None, SessionSettings(), instance_id=bytes(16), rng=Random(0), now=0.0
    )
    made.register(SessionCollector(session, "server", _TABLES))
    handshake_histogram(made, "server")
    engine_info(made, "server", "quinn", "cubic")
    DialMetrics(made)
    limits_reached(made)
    return made


def _http_target() -> CollectorRegistry:
    made = _program()
    TargetMetrics(made)
    return made


def _soak() -> CollectorRegistry:
    made = _program()
    SoakMetrics(made, SCENARIOS).describe_run("", 0, "")
    return made


def _link() -> CollectorRegistry:
    made = _program()
    line = SimpleNamespace(counts=Counts(), queued_bytes=0)
    relay = SimpleNamespace(lines=dict.fromkeys(Direction, line), flows=0)
    made.register(LinkCollector(cast(Any, relay), cast(Any, SimpleNamespace(rebinds=0, plan_reads=0))))
    return made


def _program() -> CollectorRegistry:
    made = registry()
    MetricsServer(Address("127.0.0.1", 0), made, lambda: None)
    return made


def _no_engine() -> Engine:
    return cast(Engine, SimpleNamespace(packets=Packets))


def _families(made: CollectorRegistry) -> Iterator[Metric]:
    for family in sorted(made.collect(), key=lambda family: family.name):
        if family.name in _OWN or not family.name.startswith(_OF_LIBRARY):
            yield family


def _table(families: Iterable[Metric]) -> str:
    rows = ["| metric | type | labels | what it says |", "|---|---|---|---|"]
    rows += [
        f"| `{_name(family)}` | {family.type} | {_labels(family)} | {family.documentation} |" for family in families
    ]
    return "\n".join(rows) + "\n"


def _name(family: Metric) -> str:
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


def _labels(family: Metric) -> str:
    if family.name in _INFO:
        return _INFO[family.name]
    names = {name: None for sample in family.samples for name in sample.labels if name != "le"}
    return ", ".join(f"`{name}`" for name in names)


def _values(families: Iterable[Metric]) -> str:
    values: dict[str, dict[str, None]] = {}
    for family in families:
        if family.name not in _INFO:
            for sample in family.samples:
                for name, value in sample.labels.items():
                    if name != "le":
                        values.setdefault(name, {})[value] = None
    rows = ["| label | values |", "|---|---|"]
    rows += [f"| `{name}` | {', '.join(found)} |" for name, found in sorted(values.items())]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
