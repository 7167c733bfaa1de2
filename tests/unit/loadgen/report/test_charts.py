"""Charts and scales: from numbers to places, and that what is drawn stands where it has to."""

import re
from xml.etree import ElementTree

import pytest

from loadgen.report import charts, scale, words
from loadgen.report.charts import WIDTH, Band, Layer, Time

TIME = Time(10.0, 8.0, (Band("kill", 2.0, 4.0, 5.0), Band("rebind", 6.0, 6.0)))


def _parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def _styled(svg: str, style: str) -> list[ElementTree.Element]:
    return [element for element in _parsed(svg).iter() if style in element.get("class", "").split()]


def _places(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", path)]


@pytest.mark.parametrize("highest", [0.0, 0.003, 0.9, 1.0, 7.0, 30.0, 60.0, 61.0, 999.0, 12_345.0])
def test_a_linear_axis_ends_at_or_above_the_highest(highest: float) -> None:
    ticks = scale.linear(highest).ticks
    assert ticks[0] == 0
    assert ticks[-1] >= highest
    assert 2 <= len(ticks) <= 6
    assert scale.linear(highest).place(highest) <= 1


def test_things_do_not_come_in_parts() -> None:
    assert scale.linear(1.0, whole=True).ticks == (0.0, 1.0)


@pytest.mark.parametrize("values", [[], [0.0], [5.0], [0.02, 0.03], [52.0, 15_000.0], [1.0, 10.0], [9.99, 1e9]])
def test_a_logarithmic_axis_holds_all_values(values: list[float]) -> None:
    axis = scale.logarithmic(values)
    assert axis.low < axis.high
    assert len(axis.ticks) >= 2
    assert all(axis.low * 0.999 <= tick <= axis.high * 1.001 for tick in axis.ticks)
    assert all(axis.low <= value * 1.001 and value <= axis.high * 1.001 for value in values if value)
    assert axis.place(0) == 0
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)


def test_time_ticks_are_round_and_few() -> None:
    assert scale.time_ticks(62.0, 6) == (0, 15, 30, 45, 60)
    for span_s in (0.7, 5, 61, 620, 7300, 86_400, 700_000):
        assert 2 <= len(scale.time_ticks(span_s, 6)) <= 7
    assert [scale.clock(at, 86_400) for at in (0, 3660)] == ["0 h", "1:01 h"]
    assert scale.clock(90, 600) == "1:30"


def test_an_axis_writes_short_numbers() -> None:
    written = [scale.number(value) for value in (0.0, 2.5, 7_500.0, 10_000.0, 2.5e6, 4e10)]
    assert written == ["0", "2.5", "7,500", "10 k", "2.5 M", "40 G"]


def test_layers_stand_on_each_other_and_failures_at_the_bottom() -> None:
    layers = [Layer("timeout", "outcome-timeout", [0, 2, 0]), Layer("ok", "outcome-ok", [4, 2, 4])]
    svg = charts.stacked("outcomes", TIME, 1.0, layers, scale.linear(4), ["a", "b", "c"], height=100)
    failed, went_well = _styled(svg, "outcome-timeout"), _styled(svg, "outcome-ok")
    assert failed[0].get("d") == "M0 100V100H100V50H200V100H300V100H200V100H100V100H0z"
    assert went_well[0].get("d") == "M0 100V0H100V0H200V0H300V100H200V50H100V100H0z"
    assert len(failed) == 2, "and a mark under the axis, which one failure in thousands still has"
    assert [title.text for title in _parsed(svg).iter("title") if title.text in ("a", "b", "c")] == ["a", "b", "c"]


def test_a_line_is_broken_where_nothing_is_known() -> None:
    layer = Layer("p50", "latency-p50", [1.0, 2.0, None, 2.0, None])
    svg = charts.lines("latency", TIME, [1.0, 3.0, 5.0, 7.0, 9.0], [layer], scale.linear(2), str, height=100)
    [line] = _styled(svg, "line")
    assert line.get("d", "").count("M") == 2, "two stretches"
    assert line.get("d", "").endswith("M600 0H800"), "one point is as wide as its bucket"


def test_faults_are_drawn_with_their_recovery() -> None:
    svg = charts.lines("x", TIME, [1.0, 2.0], [Layer("x", "x", [1, 1])], scale.linear(1), str)
    kill, rebind = _styled(svg, "fault")
    assert (kill.get("x"), kill.get("width")) == ("200.0", "200.0")
    assert float(rebind.get("width", 0)) > 0, "a moment is seen too"
    [recovery] = _styled(svg, "recovery")
    assert (recovery.get("x"), recovery.get("width")) == ("400.0", "100.0")
    assert len(_styled(svg, "load-end")) == 1
    lanes = charts.fault_lanes(TIME)
    assert [text.text for text in _parsed(lanes).iter("text")] == ["kill", "rebind"]
    assert _parsed(lanes).find(".//title").text == "kill: from 2.0 s to 4.0 s, recovery to 5.0 s"  # type: ignore[union-attr]


def test_a_fault_that_never_healed_lasts_to_the_end() -> None:
    time = Time(10.0, 10.0, (Band("pause", 7.0, None),))
    [bar] = _styled(charts.fault_lanes(time), "fault-bar")
    assert (bar.get("x"), bar.get("width")) == ("70.00%", "30.00%")


def test_nothing_leaves_the_picture() -> None:
    time = Time(10.0, 30.0, (Band("late", 9.0, 40.0, 50.0), Band("early", -3.0, 1.0, 2.0)))
    layer = Layer("x", "x", [5.0, 1e12, -4.0])
    svg = charts.lines("x", time, [-1.0, 5.0, 99.0], [layer], scale.linear(10), str, height=100, area=True)
    for element in _styled(svg, "shape"):
        assert all(0 <= place <= WIDTH for place in _places(element.get("d", "")))
    for element in (*_styled(svg, "fault"), *_styled(svg, "recovery")):
        assert float(element.get("x", 0)) + float(element.get("width", 0)) <= WIDTH


def test_nothing_to_draw_is_nothing() -> None:
    assert charts.stacked("x", TIME, 1.0, [Layer("ok", "ok", [0, 0])], scale.linear(0), []) == ""
    assert charts.lines("x", TIME, [], [Layer("x", "x", [])], scale.linear(0), str) == ""
    assert charts.lines("x", TIME, [1.0], [Layer("x", "x", [None])], scale.linear(0), str) == ""
    assert charts.fault_lanes(Time(10.0)) == ""
    assert charts.onsets(TIME, 1.0, [0, 0], "x") == ""
    assert charts.spread({"p50": None, "max": None}, scale.logarithmic([]), "x") == ""


def test_text_is_escaped() -> None:
    svg = charts.fault_lanes(Time(10.0, None, (Band("<b>&", 1.0, 2.0),)))
    assert [text.text for text in _parsed(svg).iter("text")] == ["<b>&"]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (words.count(1234567), "1,234,567"), (words.count(None), "–"), (words.count(59.97), "60.0"),
        (words.milliseconds(0.071), "71 µs"), (words.milliseconds(12.44), "12.4 ms"),
        (words.milliseconds(15_000), "15 s"),
        (words.milliseconds(61_000), "1 min 1 s"), (words.seconds(59.99), "60 s"), (words.seconds(7500), "2 h 5 min"),
        (words.seconds(0), "0 ms"), (words.moment(75.04), "75.0 s"), (words.moment(3725.4), "1:02:05.4"),
        (words.moment(125.0), "2:05.0"), (words.size(58_940_000), "58.9 MB"), (words.size(12), "12 B"),
        (words.change(5, 7), "+2"), (words.change(7e6, 5e6, words.size), "−2 MB"), (words.change(None, 5), ""),
        (words.counts({"reset": 2, "ok": 0}), "2 reset"),
    ],
)  # fmt: skip
def test_numbers_as_people_read_them(written: str, said: str) -> None:
    assert written.replace(words.NBSP, " ") == said
