"""deploy/grafana: the dashboards are what their source says, keep the rules, and ask for what the programs count."""

import re
from itertools import combinations
from types import SimpleNamespace
from typing import Any, cast

import pytest
from deploy.grafana.source import BOARDS
from deploy.grafana.source import DASHBOARDS as WRITTEN
from deploy.grafana.source.grafana import text
from deploy.grafana.source.panels import MATCHERS, Board
from prometheus_client import CollectorRegistry
from tests.dashboards import DASHBOARDS, documents, every_query, panels, substituted

from http_target.metrics import Metrics as TargetMetrics
from loadgen.link.control import Control
from loadgen.link.metrics import LinkCollector
from loadgen.link.plan import Direction as LinkDirection
from loadgen.link.relay import Relay
from loadgen.measure.metrics import SoakMetrics
from proxy_client.metrics import SocksMetrics
from proxy_server.metrics import DialMetrics
from servicekit.address import Address
from servicekit.metrics import MetricsServer, registry
from tunnel.engine.port import Packets
from tunnel.metrics import SessionCollector, engine_info, handshake_histogram
from tunnel.session.base import Session
from tunnel.session.ledger import Ledger
from tunnel.session.pending import overdue_of
from tunnel.wire.messages import Direction

DOCUMENTS = documents()
EVERY_PANEL = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, document in DOCUMENTS.items()
    for panel in panels(document)
]
SELECTOR = re.compile(r"(\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)="([^"]*)"')
COLUMNS = 24

every_dashboard = pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
every_panel = pytest.mark.parametrize("panel", EVERY_PANEL)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_what_is_committed_is_what_the_source_says(board: Board) -> None:
    committed = (WRITTEN / f"{board.name}.json").read_text()
    assert committed == text(board), "run: python -m deploy.grafana.source"


def test_there_is_nothing_but_what_the_source_says() -> None:
    assert set(DOCUMENTS) == {board.name for board in BOARDS} == {"soak", "proxies", "quic"}
    assert WRITTEN == DASHBOARDS


def test_uids_are_fixed() -> None:
    assert {name: document["uid"] for name, document in DOCUMENTS.items()} == {
        "soak": "finback-soak",
        "proxies": "finback-proxies",
        "quic": "finback-quic",
    }


@every_dashboard
def test_nobody_edits_it_in_place_and_it_leads_to_the_others(document: Any) -> None:
    assert document["editable"] is False
    [link] = document["links"]
    assert link["type"] == "dashboards"
    assert all(set(link["tags"]) <= set(other["tags"]) for other in DOCUMENTS.values())


@every_dashboard
def test_variables(document: Any) -> None:
    source, *labels = document["templating"]["list"]
    assert (source["type"], source["name"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert [variable["name"] for variable in labels] == ["job", "instance"]
    for variable in labels:
        assert variable["type"] == "query"
        assert variable["multi"]
        assert variable["includeAll"]
        assert variable["allValue"] == ".+"
        assert variable["datasource"]["uid"] == "${datasource}"


@every_dashboard
def test_numbers_are_unique_and_nothing_overlaps(document: Any) -> None:
    numbers = [panel["id"] for panel in document["panels"]]
    assert len(set(numbers)) == len(numbers)
    places = [panel["gridPos"] for panel in document["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= COLUMNS for place in places)
    assert not [(a, b) for a, b in combinations(places, 2) if overlap(a, b)]


@every_panel
def test_a_panel_says_what_it_is_and_asks_something(panel: Any) -> None:
    assert panel["title"]
    assert panel["description"].endswith((".", ".)"))
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@every_panel
def test_every_selector_takes_the_variables(panel: Any) -> None:
    for query in queries(panel):
        assert all(own.endswith(MATCHERS) for _, own in SELECTOR.findall(query)), query
        assert names_in(query) == {name for name, _ in SELECTOR.findall(query)}, query


@every_panel
def test_a_rate_is_over_the_interval_that_fits_the_screen(panel: Any) -> None:
    for query in queries(panel):
        ranges = re.findall(r"\b(\w+)\([^()]*\[([^]]*)\]", query)
        assert len(ranges) == query.count("["), query
        for function, over in ranges:
            whole = ("increase", "$__range")
            assert over == "$__rate_interval" or (function, over) == whole, query


@every_panel
def test_it_asks_for_series_that_the_programs_have(panel: Any, series: list[tuple[str, dict[str, str]]]) -> None:
    for query in queries(panel):
        for name, own in SELECTOR.findall(query):
            wanted = dict(MATCHER.findall(own))
            assert any(name == there and wanted.items() <= labels.items() for there, labels in series), (name, wanted)


@every_dashboard
def test_faults_are_marked(document: Any) -> None:
    [faults] = document["annotations"]["list"]
    assert SELECTOR.findall(faults["expr"]) == [("soak_fault_active", MATCHERS)]


def test_what_the_containers_are_asked() -> None:
    asked = list(every_query())
    assert {one.dashboard for one in asked} == set(DOCUMENTS)
    assert not [one for one in asked if "$" in one.expression]
    assert substituted('rate(a{job=~"$job"}[$__rate_interval])') == 'rate(a{job=~".+"}[1m])'


@pytest.fixture(scope="module")
def series() -> list[tuple[str, dict[str, str]]]:
    """Every series of every program, before anything has happened: its name and its labels."""
    all_of_them = registry()
    MetricsServer(Address("127.0.0.1", 0), all_of_them, lambda: None)
    SocksMetrics(all_of_them)
    DialMetrics(all_of_them)
    TargetMetrics(all_of_them)
    SoakMetrics(all_of_them, ["one"]).describe_run("run", 1, "revision")
    line = SimpleNamespace(counts=Zeros(), queued_bytes=0)
    relay = SimpleNamespace(lines=dict.fromkeys(LinkDirection, line), flows=0)
    control = SimpleNamespace(rebinds=0, plan_reads=0)
    all_of_them.register(LinkCollector(cast(Relay, relay), cast(Control, control)))
    return [*samples(all_of_them), *proxy("client"), *proxy("server")]


class Zeros:
    """Counts of anything."""

    def __getattr__(self, name: str) -> int:
        return 0


def proxy(role: str) -> list[tuple[str, dict[str, str]]]:
    """The series of a tunnel's end."""
    own = CollectorRegistry()
    handshake_histogram(own, role)
    engine_info(own, role, "aioquic", "cubic")
    session = SimpleNamespace(
        ledger=Ledger(),
        sends=Direction.CLIENT_TO_TARGET,
        connection_count=0,
        stream_count=0,
        connection_stats=list,
        packets=Packets,
        table_entries=dict,
        overdue_ends=lambda now: overdue_of([], 5.0, now),
        oldest_unconfirmed_end_at=lambda: None,
    )
    own.register(SessionCollector(cast(Session, session), role))
    return samples(own)


def samples(all_of_them: CollectorRegistry) -> list[tuple[str, dict[str, str]]]:
    return [(sample.name, sample.labels) for family in all_of_them.collect() for sample in family.samples]


def queries(panel: Any) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def names_in(query: str) -> set[str]:
    """What looks like the name of a metric: it has an underscore, and is no function, label or variable."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(by|on) \([^)]*\)', "", query)
    return set(re.findall(r"\b[a-z]\w*_\w+\b(?!\()", bare))


def overlap(a: Any, b: Any) -> bool:
    return bool(
        a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]
    )
