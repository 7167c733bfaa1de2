"""docs/METRICS.md is what the programs export, and what they export is bounded and there from the start."""

import importlib.util
import sys
from types import ModuleType

import pytest
from tests.unit.deploy.promtool import ROOT

SERIES_MAX = 1000
"""Of one program, the buckets of histograms included; whatever its traffic."""
UNBOUNDED = ("host", "address", "user", "target", "stream", "connection", "peer", "session", "application")
INFO = ("tunnel_engine_info", "soak_run_info", "python_info")


@pytest.fixture(scope="module")
def metrics() -> ModuleType:
    spec = importlib.util.spec_from_file_location("metrics_page", ROOT / "docs" / "metrics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(metrics: ModuleType) -> None:
    assert metrics.PAGE.read_text(encoding="utf-8") == metrics.page(), "make docs"


def test_the_number_of_series_is_bounded(metrics: ModuleType) -> None:
    counts = {
        program: sum(len(family.samples) for family in registry.collect())
        for program, registry in metrics.registries().items()
    }
    assert {program: count for program, count in counts.items() if count > SERIES_MAX} == {}


def test_no_label_can_grow_with_traffic(metrics: ModuleType) -> None:
    labels = {
        name
        for registry in metrics.registries().values()
        for family in registry.collect()
        for sample in family.samples
        for name in sample.labels
    }
    assert not labels & {*UNBOUNDED}


def test_everything_is_there_at_zero(metrics: ModuleType) -> None:
    """Time of day and process metrics apart."""
    for program, registry in metrics.registries().items():
        own = [
            sample
            for family in registry.collect()
            if not family.name.startswith(("process_", "python_"))
            for sample in family.samples
            if sample.name not in INFO
        ]
        assert own, program
        assert {sample.value for sample in own} == {0.0}, program
