"""Figures: charts as Bokeh draws them.

A drawing sees the layout of a chart and the names of its columns, never their cells: so a drawing is brought up to date
by new columns alone, in the one source of data, which has the name of the chart. In columns that BokehJS is given, a
missing number must be NaN: it takes null for 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, LayoutDOM

from metrics_server.web.chart.chart import Chart
from metrics_server.web.figure.decision import confusion_matrix, reliability, score_histogram, threshold_curve
from metrics_server.web.figure.distribution import bars_by_name, error_distribution
from metrics_server.web.figure.plot import Layout
from metrics_server.web.figure.theme import LIGHT, THEMES, Theme
from metrics_server.web.figure.timeline import (
    commit_times,
    compared_over_time,
    event_rates,
    metric_over_time,
    output_quantiles,
)

__all__ = ["DRAWINGS", "LIGHT", "THEMES", "Theme", "draw", "item"]

Drawing = Callable[[Layout, ColumnDataSource, Theme], LayoutDOM]

DRAWINGS: Mapping[str, Drawing] = {
    "metric_over_time": metric_over_time,
    "compared_over_time": compared_over_time,
    "output_quantiles": output_quantiles,
    "event_rates": event_rates,
    "commit_times": commit_times,
    "confusion_matrix": confusion_matrix,
    "reliability": reliability,
    "score_histogram": score_histogram,
    "threshold_curve": threshold_curve,
    "error_distribution": error_distribution,
    "label_delay": bars_by_name,
    "class_shares": bars_by_name,
}


def draw(chart: Chart, theme: Theme = LIGHT) -> LayoutDOM:
    """Draws a chart; its title is left to the page."""
    source = ColumnDataSource(data={name: _cells(cells) for name, cells in chart.columns.items()}, name=chart.name)
    return DRAWINGS[chart.name](chart.layout, source, theme)


def item(chart: Chart, theme: Theme = LIGHT) -> dict[str, Any]:
    """Draws a chart as JSON for `Bokeh.embed.embed_item`."""
    return dict(json_item(draw(chart, theme)))


def _cells(cells: list[Any]) -> Any:
    return cells if any(isinstance(cell, str) for cell in cells) else np.array(cells, dtype=float)
