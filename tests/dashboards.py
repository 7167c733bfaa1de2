"""The queries of the Grafana dashboards, as Prometheus may be asked them: with values for the variables."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

DASHBOARDS = Path(__file__).parents[1] / "deploy" / "grafana" / "dashboards"
VARIABLES = {"$job": ".+", "$instance": ".+", "$__rate_interval": "1m", "$__range": "5m"}


class Asked(NamedTuple):
    """What one panel asks."""

    dashboard: str
    panel: str
    expression: str

    def __str__(self) -> str:
        return f"{self.dashboard}, {self.panel}: {self.expression}"


def documents() -> dict[str, Any]:
    """Every dashboard by the name of its file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(document: Any) -> list[Any]:
    """What shows something: every panel that is not the heading of a row."""
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def substituted(query: str) -> str:
    """With values for the variables."""
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return query


def every_query() -> Iterator[Asked]:
    """Each query of each panel of each dashboard."""
    for name, document in documents().items():
        for panel in panels(document):
            for target in panel["targets"]:
                yield Asked(name, panel["title"], substituted(target["expr"]))
