"""Figures of decisions: the matrix, and what scores are worth."""

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
    """Cells coloured by their share of the truth's row, with their counts."""
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
    made = plot(
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
    cells = made.add_glyph(source, Rect(x="x", y="y", width=side, height=side, fill_color=fill, line_color=None))
    inks = linear_cmap("share", [ink(colour) for colour in colours], 0, 1)
    words(made, source, "x", "y", size="12px" if number <= MANY else "10px", text_color=inks, text_align="center")
    hover(made, cells, ("what", "tooltip"))
    return made


def reliability(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """Dots about the diagonal on which probabilities are what they say."""
    axes = number_axis(theme, "mean predicted probability", ticks=5), number_axis(theme, "share that is right")
    room: dict[str, Any] = {"height": HEIGHT + 30, "max_width": SQUARE, "align": "start"}
    made = plot(theme, *axes, x_range=fixed(-0.03, 1.03), y_range=fixed(-0.06, 1.06), **room)
    made.add_glyph(source, Segment(x0=0, y0=0, x1=1, y1=1, line_color=theme.soft, line_dash=[4, 3]))
    made.add_glyph(source, Line(x="mean_score", y="positive_ratio", line_color=theme.series[0]))
    dots = Scatter(
        x="mean_score", y="positive_ratio", size=field("size"), fill_color=theme.series[0], line_color=theme.series[0]
    )
    hover(made, made.add_glyph(source, dots), ("tooltip",))
    return made


def score_histogram(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """Each bin is shared by a bar of pairs that are of the class, and a bar of the others."""
    follows = from_zero()
    axes = number_axis(theme, "score", ticks=5), number_axis(theme, "share of each", form="0 %")
    made = plot(theme, *axes, x_range=fixed(0, 1), y_range=follows)
    sides = [
        bars(made, source, theme.series[side], x=dodge("lower", middle), width=0.019, top=top)
        for side, (middle, top) in enumerate(((0.015, "positive_share"), (0.035, "negative_share")))
    ]
    legend(made, theme, list(zip(layout["sides"], sides, strict=True)))
    # Where a bin is empty there is nothing to meet but its whole height.
    whole = Quad(left="lower", right="upper", bottom=0, top=1, fill_alpha=0.0, line_color=None)
    follows.renderers = [*sides]
    hover(made, made.add_glyph(source, whole), ("what", "of_positives", "of_negatives"))
    return made


def threshold_curve(layout: Layout, source: ColumnDataSource, theme: Theme) -> LayoutDOM:
    """A line for each curve, a mark at the threshold that is chosen; the cost under them has a scale of its own."""
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
