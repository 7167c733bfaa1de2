"""The whole document, of a made-up run of everything, and of a run of nothing."""

import re
from pathlib import Path

import pytest
from bench.contenders import CONTENDERS
from bench.document import charts, write_document
from bench.results import Failure, Result, Run
from bench.work import WORK, Work

ABOUT = {
    "machine": {
        "processor": "abacus",
        "cores": 2,
        "memory_gb": 1,
        "kernel": "Linux 0",
        "python": "3.11",
        "load_before": 0.25,
        "stolen_percent": 1.5,
    },
    "versions": {"tuic": "1.0.0", "hysteria": "not available: no checkout"},
    "commit": "abc",
    "date": "2020-01-01",
    "rounds": 3,
    "quick": False,
    "own_loopback": True,
}
METRICS = {
    "download-rtt": ("mbit_per_s", "dropped_percent", "link_core_percent", "full_sockets"),
    "download": ("mbit_per_s", "cpu_s_per_gb"),
    "upload": ("mbit_per_s", "cpu_s_per_gb"),
    "new-connections": ("per_s", "p50_ms", "p99_ms", "max_ms", "failed"),
    "keep-alive": ("p50_ms", "p99_ms", "added_p50_ms", "added_p99_ms"),
    "memory-idle": ("server_mb", "client_mb"),
    "memory-1000-idle": ("server_kb_per_connection", "client_kb_per_connection"),
    "memory-slow-reader": ("server_growth_mb", "client_growth_mb"),
}


def metrics(work: Work) -> tuple[str, ...]:
    return next(names for start, names in METRICS.items() if work.name.startswith(start))


@pytest.fixture
def whole() -> Run:
    """A figure of its own for each metric, so that it can be found again; Hysteria is not there."""
    results: list[Result] = []
    failures: list[Failure] = []
    for work in WORK.values():
        for contender in work.contenders:
            if contender == "hysteria2":
                failures.append(Failure(work.name, contender, "not available: no checkout", 3))
                continue
            for metric in metrics(work):
                value = 1000.0 + len(results)
                results.append(Result(work.name, contender, metric, value, value, value))
    return Run(results, failures, ABOUT)


def test_every_median_of_a_table_is_in_the_document(whole: Run, tmp_path: Path) -> None:
    write_document(whole, tmp_path)
    text = (tmp_path / "BENCHMARKS.md").read_text()

    missing = [
        result
        for result in whole.results
        if f" {result.median:,.0f} " not in text and result.metric not in ("link_core_percent",)
        and not (result.metric == "full_sockets" and not result.work.endswith("loss0"))
        and not (result.metric == "dropped_percent" and "mbit" not in result.work)
    ]  # fmt: skip
    assert missing == []


def test_every_contender_is_explained_and_every_failure_told(whole: Run, tmp_path: Path) -> None:
    write_document(whole, tmp_path)
    text = (tmp_path / "BENCHMARKS.md").read_text()

    assert all(f"| `{name}` | " in text for name in CONTENDERS)
    assert text.count("- download, hysteria2, 3 of 3 rounds: not available: no checkout") == 1


def test_every_plot_of_the_document_is_written(whole: Run, tmp_path: Path) -> None:
    write_document(whole, tmp_path)

    shown = re.findall(r"!\[.*?\]\((.*?)\)", (tmp_path / "BENCHMARKS.md").read_text())

    assert sorted(shown) == sorted(f"benchmarks/{name}.svg" for name in charts(whole))
    assert all((tmp_path / path).exists() for path in shown)


def test_a_run_of_nothing_makes_a_document(tmp_path: Path) -> None:
    write_document(Run([], [], ABOUT), tmp_path)

    assert "not asked" in (tmp_path / "BENCHMARKS.md").read_text()


def test_every_work_names_contenders_that_there_are() -> None:
    assert {name for work in WORK.values() for name in work.contenders} == set(CONTENDERS)
