"""The dashboards as tables: a file a dashboard, and `grafana.py`, which makes of them what Grafana reads.
`python -m deploy.grafana.source` writes them into ../dashboards."""

from pathlib import Path

from deploy.grafana.source.proxies import PROXIES
from deploy.grafana.source.quic import QUIC
from deploy.grafana.source.soak import SOAK

BOARDS = (SOAK, PROXIES, QUIC)
DASHBOARDS = Path(__file__).parents[1] / "dashboards"
