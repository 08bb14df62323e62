"""Figures of decisions: the confusion matrix, and the quality of scores."""

from __future__ import annotations

import math
from typing import Any

from bokeh.core.properties import field
from bokeh.models import ColumnDataSource, FixedTicker, LayoutDOM
from bokeh.models.glyphs import Line, Quad, Rect, Scatter, Segment
from bokeh.transform import dodge, linear_cmap

from metrics_server.web.figure.plot import (
    HEIGHT,
    Layout,
    bars,
    below,
    fixed,
    from_zero,
    hover,
    legend,
    line,
    name_axis,
    number_axis,
    plot,
    spots,
    stacked,
    words,
)
from metrics_server.web.figure.theme import Theme, ink, shades

MANY, VERY_MANY = 6, 18  # classes, beyond which a matrix has less room for each
LETTERS = 36  # that fit under a matrix side by side, where there is little room
SHORT, SHORTER = 14, 12  # letters of names
SQUARE = 420


def confusion_matrix(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """Draws cells coloured by their share of the truth's row, with their counts."""
    classes = layout["classes"]
    number, longest = len(classes), SHORTER if len(classes) > MANY else SHORT
    size: dict[str, Any] = {"longest": longest, "major_label_text_font_size": "9px" if number > VERY_MANY else "11px"}
    is_upright = number * min(max(map(len, classes)), longest) > LETTERS
    x = name_axis(
        theme, "prediction", classes, major_label_orientation=math.pi / 2 if is_upright else "horizontal", **size
    )
    height = max(HEIGHT, 110 + 30 * number) if number <= MANY else 120 + 13 * number
    height += 6 * min(max(map(len, classes)), longest) if is_upright else 0
    room: dict[str, Any] = {"height": height, "max_width": max(SQUARE, height * 5 // 4), "align": "start"}
    drawing = plot(
        theme,
        x,
        name_axis(theme, "truth", classes, **size),
        has_grid=False,
        x_range=fixed(-0.5, number - 0.5),
        y_range=fixed(number - 0.5, -0.5),
        **room,
    )
    if number > VERY_MANY:  # every second name has room for its letters on a phone; those of the rows are the same
        x.ticker = FixedTicker(ticks=list(range(0, number, 2)))
    colours = shades(theme)
    fill = linear_cmap("share", colours, 0, 1, nan_color=theme.none)
    side = 0.96 if number <= VERY_MANY else 0.92
    cells = drawing.add_glyph(source, Rect(x="x", y="y", width=side, height=side, fill_color=fill, line_color=None))
    inks = linear_cmap("share", [ink(colour) for colour in colours], 0, 1)
    words(drawing, source, "x", "y", size="12px" if number <= MANY else "10px", text_color=inks, text_align="center")
    hover(drawing, cells, ("what", "tooltip"))
    return drawing


def reliability(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """Draws dots about the diagonal on which probabilities are right."""
    axes = number_axis(theme, "mean predicted probability", ticks=5), number_axis(theme, "share that is right")
    room: dict[str, Any] = {"height": HEIGHT + 30, "max_width": SQUARE, "align": "start"}
    drawing = plot(theme, *axes, x_range=fixed(-0.03, 1.03), y_range=fixed(-0.06, 1.06), **room)
    drawing.add_glyph(source, Segment(x0=0, y0=0, x1=1, y1=1, line_color=theme.soft, line_dash=[4, 3]))
    drawing.add_glyph(source, Line(x="mean_score", y="positive_ratio", line_color=theme.series[0]))
    dots = Scatter(
        x="mean_score", y="positive_ratio", size=field("size"), fill_color=theme.series[0], line_color=theme.series[0]
    )
    hover(drawing, drawing.add_glyph(source, dots), ("tooltip",))
    return drawing


def score_histogram(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """Draws two bars in each bin: pairs of the class, and pairs of other classes."""
    follows = from_zero()
    axes = number_axis(theme, "score", ticks=5), number_axis(theme, "share of each", number_format="0 %")
    drawing = plot(theme, *axes, x_range=fixed(0, 1), y_range=follows)
    sides = [
        bars(drawing, source, theme.series[side], x=dodge("lower", middle), width=0.019, top=top)
        for side, (middle, top) in enumerate(((0.015, "positive_share"), (0.035, "negative_share")))
    ]
    legend(drawing, theme, list(zip(layout["sides"], sides, strict=True)))
    # In an empty bin the mouse meets nothing but its full height.
    full_height = Quad(left="lower", right="upper", bottom=0, top=1, fill_alpha=0.0, line_color=None)
    follows.renderers = [*sides]
    hover(drawing, drawing.add_glyph(source, full_height), ("what", "of_positives", "of_negatives"))
    return drawing


def threshold_curve(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """Draws a line for each curve and a mark at the chosen threshold; the cost under them has its own scale."""
    curves = [name for name in layout["curves"] if name != "cost"]
    has_cost = len(curves) < len(layout["curves"])
    tooltips = ("what", *(f"of_{name}" for name in layout["curves"]))
    x = number_axis(theme, "threshold", ticks=5)
    above = plot(
        theme,
        None if has_cost else x,
        number_axis(theme, ", ".join(curves)),
        x_range=fixed(0, 1),
        y_range=fixed(0, 1.03),
    )
    above.add_glyph(source, Segment(x0="chosen", y0=0, x1="chosen", y1=1, line_color=theme.text))
    lines = [line(above, source, theme, "threshold", name, series=series) for series, name in enumerate(curves)]
    for series, name in enumerate(curves):
        spots(above, source, theme, "chosen", name, series=series, size=8)
    legend(above, theme, list(zip(curves, lines, strict=True)))
    hover(above, lines[0], tooltips, "vline")
    if not has_cost:
        return above
    lower = below(theme, above, x, "mean cost")
    hover(lower, line(lower, source, theme, "threshold", "cost", series=2), tooltips, "vline")
    spots(lower, source, theme, "chosen", "cost", series=2, size=8)
    return stacked(above, lower)
