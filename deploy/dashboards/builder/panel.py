"""Panels: the few kinds that the dashboards have, with their common settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.dashboards.builder.query import Query
from deploy.dashboards.builder.variable import SOURCE

HALF, THIRD, QUARTER, FULL = 12, 8, 6, 24
# Colours by the value from which they hold; the first holds for all below too.
Steps = Sequence[tuple[str, float | None]]
PLAIN: Steps = (("text", None),)
BAD_ABOVE_ZERO: Steps = (("green", None), ("red", 1e-9))

Panel = timeseries.Panel | stat.Panel | table.Panel | heatmap.Panel


class Column(NamedTuple):
    """A column of a table: its query, its unit, and its colours if it has any."""

    expression: str
    unit: str = "short"
    steps: Steps = ()


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    """Returns colours by absolute values."""
    thresholds_ = [Threshold(value=value, color=color) for color, value in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(thresholds_)


def _color(mode: FieldColorModeId, fixed: str = "") -> dashboard.FieldColor:
    color = dashboard.FieldColor().mode(mode)
    return color.fixed_color(fixed) if fixed else color


def _target(query: Query, number: int) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .datasource(SOURCE)
        .expr(query.expression)
        .legend_format(query.legend)
        .ref_id(chr(ord("A") + number))
    )


def _bands(names: Sequence[str]) -> list[tuple[str, list[DynamicConfigValue]]]:
    """Returns the properties of values that are drawn as lines, and of their intervals, drawn as bands without lines.

    A band has the colour of its line.
    """
    overrides = []
    for name, color in zip(names, ("blue", "orange"), strict=False):
        fixed = DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})
        hidden = [
            fixed,
            DynamicConfigValue("custom.lineWidth", 0),
            DynamicConfigValue("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False}),
        ]
        fill = [DynamicConfigValue("custom.fillBelowTo", f"{name} lower"), DynamicConfigValue("custom.fillOpacity", 15)]
        overrides += [(name, [fixed]), (f"{name} lower", hidden), (f"{name} upper", [*hidden, *fill])]
    return overrides


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    span: int = HALF,
    stacked: bool = False,
    bands: Sequence[str] = (),
) -> timeseries.Panel:
    """Returns a panel of lines over time, stacked if they are shares of a total.

    The values whose legends are named as `bands` have intervals, whose legends are `<legend> lower` and `<legend>
    upper`.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(8)
        .line_width(1)
        .fill_opacity(30 if stacked else 0)
        .show_points(options.VisibilityMode.AUTO)
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A")).min(0)
    for name, properties in _bands(bands):
        panel.override_by_name(name, properties)
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number).range())
    return panel


def _stat(title: str, description: str, span: int, height: int, query: Query) -> stat.Panel:
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .span(span)
        .height(height)
        .graph_mode(options.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .no_value("none")
        .with_target(_target(query, 0).instant())
    )


def now(title: str, description: str, unit: str, expression: str, *, steps: Steps = PLAIN, span: int = 4) -> stat.Panel:
    """Returns a panel of one number, as it is at the end of the time range."""
    return (
        _stat(title, description, span, 4, Query(expression))
        .unit(unit)
        .thresholds(thresholds(steps))
        .color_mode(options.BigValueColorMode.VALUE)
    )


def word(title: str, description: str, query: Query, *, span: int) -> stat.Panel:
    """Returns a panel of the legend of the series that is there, such as a verdict, as high as a graph beside it."""
    return (
        _stat(title, description, span, 8, query)
        .text_mode(options.BigValueTextMode.NAME)
        .color_mode(options.BigValueColorMode.NONE)
    )


def _properties(column: Column) -> list[DynamicConfigValue]:
    properties = [DynamicConfigValue("unit", column.unit)]
    if column.steps:
        steps = [{"color": color, "value": value} for color, value in column.steps]
        properties.append(DynamicConfigValue("thresholds", {"mode": "absolute", "steps": steps}))
        properties.append(DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    return properties


def table_of(
    title: str,
    description: str,
    labels: Mapping[str, str],
    columns: Mapping[str, Column],
    *,
    sort: str,
    descending: bool = False,
    span: int = FULL,
    height: int = 8,
) -> table.Panel:
    """Returns a table of two or more queries, with a row for each combination of labels.

    `labels` maps them to their headings; `sort` is the heading that orders the rows.
    """
    fields = {f"Value #{chr(ord('A') + number)}": name for number, name in enumerate(columns)}
    order = {name: number for number, name in enumerate([*labels, *fields])}
    arranged = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": {**labels, **fields}}
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .span(span)
        .height(height)
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(descending)])
        .thresholds(thresholds(PLAIN))
        .filterable(True)
        .no_value("-")
        .with_transformation(DataTransformerConfig("merge", options={}))
        .with_transformation(DataTransformerConfig("organize", options=arranged))
    )
    for number, (name, column) in enumerate(columns.items()):
        panel.with_target(_target(Query(column.expression), number).instant().format(PromQueryFormat.TABLE))
        panel.override_by_name(name, _properties(column))
    return panel


def linked(panel: table.Panel, heading: str, title: str, uid: str, variables: Mapping[str, str]) -> table.Panel:
    """Links the cells of one column of a table to another dashboard; `variables` maps its variables to headings."""
    chosen = "&".join(f"var-{name}=${{__data.fields.{field}:percentencode}}" for name, field in variables.items())
    url = f"/d/{uid}?{chosen}&${{datasource:queryparam}}&${{window:queryparam}}&${{__url_time_range}}"
    link: dict[str, Any] = {"title": title, "url": url, "targetBlank": False}
    return panel.override_by_name(heading, [DynamicConfigValue("links", [link])])


def matrix(title: str, description: str, unit: str, expression: str) -> table.Panel:
    """Returns a table with truths as rows and predictions as columns; the larger a number, the darker its cell."""
    crossed = {"rowField": "truth", "columnField": "prediction", "valueField": "Value", "emptyValue": "zero"}
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(HALF)
        .height(10)
        .color_scheme(_color(FieldColorModeId.CONTINUOUS_BLUES))
        .cell_options(
            options.TableColoredBackgroundCellOptions(
                mode=options.TableCellBackgroundDisplayMode.BASIC, apply_to_row=False
            )
        )
        .with_transformation(DataTransformerConfig("groupingToMatrix", options=crossed))
        .override_by_name(r"truth\prediction", [DynamicConfigValue("custom.cellOptions", {"type": "auto"})])
        .with_target(_target(Query(expression), 0).instant().format(PromQueryFormat.TABLE))
    )


def buckets(title: str, description: str, unit: str, expression: str, *, span: int = HALF) -> heatmap.Panel:
    """Returns a panel of a Prometheus histogram over time."""
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .span(span)
        .height(8)
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(options.AxisPlacement.LEFT))
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(64))
        .with_target(_target(Query(expression, "{{le}}"), 0).range().format(PromQueryFormat.HEATMAP))
    )
