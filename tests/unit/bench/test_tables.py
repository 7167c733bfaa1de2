"""Tables and charts of a run."""

import xml.etree.ElementTree as ElementTree

import pytest
from bench.charts import Bar, bars
from bench.results import Failure, Result, Run
from bench.tables import Column, matrix, rows_of_chart, table

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def run() -> Run:
    results = [
        Result("download", "finback-quinn", "mbit_per_s", 2000.0, 1800.0, 2200.0),
        Result("download", "tuic", "mbit_per_s", 1000.0, 1000.0, 1000.0),
        Result("download", "direct", "mbit_per_s", 20000.0, 20000.0, 20000.0),
        Result("keep-alive", "finback-quinn", "p50_ms", 0.5, 0.5, 0.5),
        Result("keep-alive", "tuic", "p50_ms", 0.25, 0.25, 0.25),
    ]
    failures = [Failure("download", "hysteria2", "not available: a | b & <c>", 3)]
    return Run(results, failures, {})


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]


def test_a_table_has_medians_spreads_and_ratios(run: Run) -> None:
    text = table(run, "download", ("finback-quinn", "tuic"), (Column("Mbit/s", "mbit_per_s", "more"),))

    head, _, ours, theirs = rows(text)

    assert head == ["", "Mbit/s", "finback is"]
    assert ours == ["**finback-quinn**", "2,000 (1,800 to 2,200)", ""]
    assert theirs == ["tuic", "1,000", "2 x"]


def test_where_less_is_better_the_ratio_is_the_other_way_round(run: Run) -> None:
    text = table(run, "keep-alive", ("tuic",), (Column("p50", "p50_ms", "less"),))

    assert rows(text)[-1] == ["tuic", "0.25", "0.5 x"]


def test_who_failed_stands_in_the_table_with_the_reason(run: Run) -> None:
    columns = (Column("Mbit/s", "mbit_per_s", "more"), Column("CPU", "cpu_s_per_gb"))
    text = table(run, "download", ("hysteria2", "v2ray-quic"), columns)

    assert rows(text)[-2:] == [
        ["hysteria2", "failed: not available: a / b & <c>", "", ""],
        ["v2ray-quic", "not asked", "", ""],
    ]


def test_a_matrix_has_a_column_a_work(run: Run) -> None:
    text = matrix(run, [("download", "no loss"), ("upload", "up")], ("tuic", "hysteria2"), "mbit_per_s")

    assert rows(text)[0] == ["", "no loss", "up"]
    assert rows(text)[2] == ["tuic", "1,000", "not asked"]
    assert rows(text)[3][1].startswith("failed: ")


def test_a_chart_has_everybody_but_the_baseline(run: Run) -> None:
    contenders = ("finback-quinn", "tuic", "hysteria2", "microsocks", "direct")

    found = rows_of_chart(run, "download", contenders, "mbit_per_s")

    assert [row.name for row in found] == ["finback-quinn", "tuic", "hysteria2"]
    assert [row.kind for row in found] == ["ours", "peer", "peer"]
    assert [row.median for row in found] == [2000.0, 1000.0, None]


def test_bars_are_as_long_as_their_figures(run: Run) -> None:
    picture = ElementTree.fromstring(
        bars("a < b", [Bar("one", "ours", 1000.0, 900.0, 1100.0), Bar("half", "peer", 500.0, 500.0, 500.0)])
    )

    one, half = (float(bar.attrib["width"]) for bar in picture.iter(f"{SVG}rect") if bar.attrib["class"] != "page")
    spread = next(line for line in picture.iter(f"{SVG}line") if line.attrib["class"] == "spread")

    assert one == pytest.approx(2 * half, rel=0.001)
    assert float(spread.attrib["x2"]) - float(spread.attrib["x1"]) == pytest.approx(one * 0.2, rel=0.01)


def test_a_chart_says_why_a_bar_is_missing_and_what_belongs_together() -> None:
    svg = bars("title", [Bar("one", median=1.0, high=1.0, heading="a & b"), Bar("two", why="<gone>", heading="a & b")])

    words = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]

    assert words.count("a & b") == 1
    assert "<gone>" in words


def test_a_chart_of_nothing_is_still_a_chart() -> None:
    assert ElementTree.fromstring(bars("nothing", [])).attrib["aria-label"] == "nothing"
