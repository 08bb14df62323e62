"""Figures of distributions: errors, times to the label, predicted classes."""

from __future__ import annotations

from typing import Any

from bokeh.core.properties import field
from bokeh.models import ColumnDataSource, LayoutDOM
from bokeh.models.annotations import Span
from bokeh.models.glyphs import HBar, Quad, Segment

from metrics_server.web.figure.plot import Layout, fixed, from_zero, hover, name_axis, number_axis, plot, words
from metrics_server.web.figure.theme import Theme

ROW, MARGIN, WIDEST = 19, 16, 700  # height of a bar, and of what is around the bars


def error_distribution(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """Draws bars of equal width, the tails paler, and a line at 0."""
    unit = f" ({layout['unit']})" if layout["unit"] else ""
    axes = number_axis(theme, f"prediction - truth{unit}", ticks=5), number_axis(theme, "pairs", number_format="0.[0]a")
    drawing = plot(theme, *axes, y_range=from_zero())
    quad = Quad(
        left="left",
        right="right",
        bottom=0,
        top="pairs",
        fill_color=theme.series[0],
        fill_alpha=field("alpha"),
        line_color=None,
    )
    drawing.add_layout(Span(location=0, dimension="height", line_color=theme.text, line_dash=[4, 3]))
    hover(drawing, drawing.add_glyph(source, quad), ("what", "tooltip"), "vline")
    return drawing


def bars_by_name(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """Draws shares as bars from left to right, with names before and numbers behind them, and any intervals."""
    names = layout["names"]
    room: dict[str, Any] = {"height": MARGIN + ROW * len(names), "max_width": WIDEST, "align": "start"}
    downwards = fixed(len(names) - 0.5, -0.5)
    axis = name_axis(theme, "", names, major_label_text_color=theme.text)
    drawing = plot(theme, None, axis, has_grid=False, x_range=from_zero(0.7), y_range=downwards, **room)
    bars = drawing.add_glyph(
        source, HBar(y="place", height=0.66, right="share", fill_color=theme.series[0], line_color=None)
    )
    drawing.add_glyph(source, Segment(x0="lower", y0="place", x1="upper", y1="place", line_color=theme.text))
    words(drawing, source, "edge", "place", x_offset=6, text_color=theme.text)
    hover(drawing, bars, ("tooltip",), "hline")
    return drawing
