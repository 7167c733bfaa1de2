"""Writes the dashboards, each to its file."""

from deploy.grafana.source import BOARDS, DASHBOARDS
from deploy.grafana.source.grafana import text

for board in BOARDS:
    (DASHBOARDS / f"{board.name}.json").write_text(text(board))
