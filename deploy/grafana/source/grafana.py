"""Makes of tables dashboards that Grafana 11.6 reads, with the builders that its makers generate from its schemas."""

from string import ascii_uppercase
from typing import assert_never

from deploy.grafana.source.panels import Board, Kind, Panel, selected
from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

AnyPanel = timeseries.Panel | stat.Panel | bargauge.Panel | statetimeline.Panel | heatmap.Panel

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "finback"
RANGE = "now-30m"  # a soak or two; what is older is in the reports
REFRESH = "10s"
HEIGHT = 8
HEIGHTS = {Kind.NUMBER: 4, Kind.LABELS: 4, Kind.WAY: 10, Kind.STATES: 9}
FAULT_STEP = "10s"
"""No longer than the shortest fault that should be seen."""


def text(board: Board) -> str:
    """The dashboard as JSON, the same text each time."""
    return JSONEncoder(indent=2).encode(_dashboard(board).build()) + "\n"


def _dashboard(board: Board) -> dashboard.Dashboard:
    built = (
        dashboard.Dashboard(board.title)
        .uid(f"finback-{board.name}")
        .description(board.description)
        .tags([TAG])
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time(RANGE, "now")
        .refresh(REFRESH)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_labels("job", f"label_values({board.jobs_of}, job)"))
        .with_variable(_labels("instance", f'label_values({board.jobs_of}{{job=~"$job"}}, instance)'))
        .annotation(_Faults())
        # Without the variables: a job that one dashboard shows another may not have.
        .link(dashboard.DashboardLink(TAG).type(model.DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True))
    )
    number = 0
    for section in board.sections:
        number += 1
        built = built.with_row(dashboard.Row(section.title).id(number))
        for panel in section.panels:
            number += 1
            built = built.with_panel(_panel(number, panel))
    return built


def _labels(name: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.title())
        .datasource(SOURCE)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


class _Faults(dashboard.AnnotationQuery):
    """Marks the time in which a fault was injected, on every graph."""

    def build(self) -> model.AnnotationQuery:
        return _FaultQuery(name="Faults", datasource=SOURCE, icon_color="red", expr=selected("soak_fault_active{} > 0"))


class _FaultQuery(model.AnnotationQuery):
    def to_json(self) -> dict[str, object]:
        # What Prometheus' annotations have besides, and the builders leave out.
        return super().to_json() | {"titleFormat": "{{fault}}", "tagKeys": "fault", "step": FAULT_STEP}


def _panel(number: int, panel: Panel) -> AnyPanel:
    built = (
        _kind(panel)
        .id(number)
        .title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .span(panel.width)
        .height(HEIGHTS.get(panel.kind, HEIGHT))
    )
    for letter, (legend, query) in zip(ascii_uppercase, panel.queries.items(), strict=False):
        built = built.with_target(_query(letter, legend, query, panel.kind))
    return built


def _query(letter: str, legend: str, query: str, kind: Kind) -> prometheus.Dataquery:
    built = prometheus.Dataquery().ref_id(letter).datasource(SOURCE).expr(selected(query)).legend_format(legend)
    match kind:
        case Kind.NUMBER | Kind.LABELS | Kind.WAY:
            return built.instant()
        case Kind.HEAT:
            return built.range().format(PromQueryFormat.HEATMAP)
        case _:
            return built.range()


def _kind(panel: Panel) -> AnyPanel:
    match panel.kind:
        case Kind.LINES:
            return _graph().line_width(1).fill_opacity(5)
        case Kind.STACK:
            return _graph().line_width(1).fill_opacity(40).stacking(_stacked())
        case Kind.BARS:
            return _graph().draw_style(options.GraphDrawStyle.BARS).line_width(1).fill_opacity(80).stacking(_stacked())
        case Kind.NUMBER:
            return _number(panel)
        case Kind.LABELS:
            return (
                stat.Panel()
                .text_mode(options.BigValueTextMode.NAME)
                .color_scheme(_fixed("text"))
                .reduce_options(_last())
            )
        case Kind.WAY:
            return _way()
        case Kind.STATES:
            return _states()
        case Kind.HEAT:
            return _heat(panel)
        case _:
            assert_never(panel.kind)


def _graph() -> timeseries.Panel:
    return (
        timeseries.Panel()
        .min(0)
        .show_points(options.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(options.TooltipDisplayMode.MULTI)
            .sort(options.SortOrder.DESCENDING)
            .hide_zeros(True)
        )
    )


def _number(panel: Panel) -> stat.Panel:
    below, from_there = ("green", "red") if panel.good_from is None else ("red", "green")
    turns = panel.bad_from if panel.good_from is None else panel.good_from
    steps = [model.Threshold(None, below), *([] if turns is None else [model.Threshold(turns, from_there)])]
    return (
        stat.Panel()
        .graph_mode(options.BigValueGraphMode.NONE)
        .decimals(2 if panel.unit == "percentunit" else 0)
        .thresholds(dashboard.ThresholdsConfig().steps(steps))
        .reduce_options(_last())
    )


def _way() -> bargauge.Panel:
    return (
        bargauge.Panel()
        .min(0)
        .decimals(0)
        .orientation(options.VizOrientation.HORIZONTAL)
        .display_mode(options.BarGaugeDisplayMode.BASIC)
        .color_scheme(_fixed("blue"))
        .reduce_options(_last())
    )


def _states() -> statetimeline.Panel:
    words = {"0": model.ValueMappingResult("off", "transparent"), "1": model.ValueMappingResult("injected", "red")}
    return (
        statetimeline.Panel()
        .mappings([model.ValueMap(words)])
        .merge_values(True)
        .show_value(options.VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(False))
    )


def _heat(panel: Panel) -> heatmap.Panel:
    return (
        heatmap.Panel()
        .color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .steps(64)
            .scale(HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)  # so that the few that are late are seen next to the many that are not
        )
        .y_axis(heatmap.YAxisConfig().unit(panel.unit))
        .cell_values(heatmap.CellValues().unit("ops"))
        .show_legend()
    )


def _stacked() -> common.StackingConfig:
    return common.StackingConfig().mode(options.StackingMode.NORMAL)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _fixed(color: str) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color(color)
