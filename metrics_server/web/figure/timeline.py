"""Figures over time."""

from __future__ import annotations

from bokeh.models import ColumnDataSource, LayoutDOM
from bokeh.models.glyphs import Line

from metrics_server.web.figure.plot import (
    Layout,
    band,
    bars,
    below,
    from_zero,
    hover,
    legend,
    line,
    number_axis,
    plain,
    plot,
    spots,
    stacked,
    time_axis,
)
from metrics_server.web.figure.theme import Theme

LONGEST_TITLE = 32
WIDE = 0.86  # of a step


def metric_over_time(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """Draws a line with its band; under it bars of predictions, and before them bars of labelled ones."""
    step, tooltips = layout["step"], ("when", "tooltip", "rows")
    above = plot(theme, None, number_axis(theme, plain(layout["title"], LONGEST_TITLE)))
    band(above, source, theme, ("lower", "upper"), step)
    value = line(above, source, theme, "at", "value")
    spots(above, source, theme, "at", "lone")
    hover(above, value, tooltips, "vline")
    lower = below(theme, above, time_axis(theme), "predictions")
    logged = bars(lower, source, theme.soft, alpha=0.45, x="at", top="predictions", width=step * WIDE)
    labelled = bars(lower, source, theme.series[0], x="at", top="support", width=step * WIDE)
    legend(lower, theme, [("labelled", labelled), ("without a label", logged)])
    hover(lower, labelled, tooltips, "vline")
    return stacked(above, lower)


def compared_over_time(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """Draws a line with its band for each predictor."""
    drawing = plot(theme, time_axis(theme), number_axis(theme, plain(layout["title"], LONGEST_TITLE)))
    lines = []
    for number, name in enumerate(layout["names"]):
        band(drawing, source, theme, (f"lower_{number}", f"upper_{number}"), layout["step"], series=number)
        lines.append((name, line(drawing, source, theme, "at", f"value_{number}", series=number)))
        spots(drawing, source, theme, "at", f"lone_{number}", series=number)
    legend(drawing, theme, lines)
    spot = drawing.add_glyph(source, Line(x="at", y="spot", line_alpha=0.0))
    hover(drawing, spot, ("when", *(f"tooltip_{number}" for number in range(len(lines)))), "vline")
    return drawing


def output_quantiles(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """Draws a fan: nine tenths, the middle half, and the median."""
    drawing = plot(theme, time_axis(theme), number_axis(theme, "prediction"))
    for ends in (("q05", "q95"), ("q25", "q75")):
        band(drawing, source, theme, ends, layout["step"])
    median = line(drawing, source, theme, "at", "q50")
    spots(drawing, source, theme, "at", "lone")
    hover(drawing, median, ("when", "tooltip", "half", "most"), "vline")
    return drawing


def event_rates(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """Draws accepted events; under them a line for each other outcome that occurs, of which there are few."""
    tooltips = ("when", *(f"tooltip_{number}" for number in range(len(layout["names"]))))
    others = list(zip(layout["names"], layout["styles"], strict=True))[1:]
    axis = number_axis(theme, "accepted per second", number_format="0.[00]a")
    above = plot(theme, None if others else time_axis(theme), axis, y_range=from_zero())
    hover(above, line(above, source, theme, "at", "value_0"), tooltips, "vline")
    if not others:
        return above
    lower = below(theme, above, time_axis(theme), "others")
    lines = [
        (name, line(lower, source, theme, "at", f"value_{number}", series=style))
        for number, (name, style) in enumerate(others, 1)
    ]
    legend(lower, theme, lines)
    hover(lower, lines[0][1], tooltips, "vline")
    return stacked(above, lower)


def commit_times(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """Draws two lines of times, and the queue under them."""
    tooltips = ("when", *(f"tooltip_{number}" for number in range(4)))
    above = plot(theme, None, number_axis(theme, "time of a commit (ms)"), y_range=from_zero())
    lines = [
        (name, line(above, source, theme, "at", f"value_{number}", series=number))
        for number, name in enumerate(layout["names"])
    ]
    for number in range(len(lines)):
        spots(above, source, theme, "at", f"lone_{number}", series=number)
    legend(above, theme, lines)
    hover(above, lines[0][1], tooltips, "vline")
    lower = below(theme, above, time_axis(theme), "queue")
    hover(lower, line(lower, source, theme, "at", "queue"), tooltips, "vline")
    return stacked(above, lower)
