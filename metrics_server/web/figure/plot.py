"""The parts of all figures: quiet plots, their axes, legends and hover texts.

Of BokehJS they need bokeh.min.js alone.

Names come from whoever sends events. A hover text shows columns as text. Labels of axes and legends are text too, but
`$$` and the like would make formulas of them, and are broken up; a name cannot be markup anywhere. Plots are put
together from models rather than by `bokeh.plotting`, which makes three times as many of them, at nearly a millisecond
each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from bokeh.core.properties import field, value
from bokeh.layouts import column
from bokeh.models import (
    Axis,
    BasicTicker,
    ColumnDataSource,
    DataRange1d,
    DatetimeAxis,
    DatetimeTicker,
    DatetimeTickFormatter,
    FixedTicker,
    Grid,
    HoverTool,
    LayoutDOM,
    LinearAxis,
    NumeralTickFormatter,
    Plot,
    Range,
    Range1d,
)
from bokeh.models.annotations import Legend, LegendItem
from bokeh.models.glyphs import Line, Scatter, Text, VBar
from bokeh.models.renderers import GlyphRenderer

from metrics_server.web.figure.theme import DASHES, Theme

Layout = Mapping[str, Any]
Renderer: TypeAlias = "GlyphRenderer[Any]"

HEIGHT, LOWER_HEIGHT = 230, 110
LEGEND_ROW = 24
LEFT = 58  # room for numbers: plots under each other have the same, so that their times are too
FONT, SIZE = "system-ui, sans-serif", "11px"
LONGEST = 22  # letters of a name
_FORMULA = re.compile(r"(?<=\$)(?=\$)|(?<=\\)(?=[\[\](){}])")
_BREAK = "\u200b"


def plain(name: str, longest: int = LONGEST) -> str:
    """Writes a name as a label of an axis or a legend: short, and never a formula."""
    return _FORMULA.sub(_BREAK, name if len(name) <= longest else f"{name[: longest - 1]}…")


def plot(theme: Theme, x: Axis | None, y: Axis, *, height: int = HEIGHT, has_grid: bool = True, **options: Any) -> Plot:
    """Makes an empty plot as wide as there is room. Ranges follow the data unless `options` say otherwise."""
    ranges = {"x_range": DataRange1d(range_padding=0.0), "y_range": DataRange1d(range_padding=0.1)}
    drawing = Plot(
        height=height,
        sizing_mode="stretch_width",
        toolbar_location=None,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_left=LEFT,
        min_border_right=12,
        min_border_top=6,
        **{**ranges, **options},
    )
    drawing.add_layout(y, "left")
    if x is not None:
        drawing.add_layout(x, "below")
    if has_grid:
        drawing.add_layout(Grid(dimension=1, axis=y, grid_line_color=theme.grid))
    return drawing


def _quiet(theme: Theme, label: str, **options: Any) -> dict[str, Any]:
    font = {"text_color": theme.soft, "text_font": FONT, "text_font_size": SIZE}
    return {
        "axis_label": label or None,
        "axis_label_text_font_style": "normal",
        "axis_label_standoff": 4,
        **{f"{text}_{name}": value for text in ("axis_label", "major_label") for name, value in font.items()},
        **{f"{stroke}_line_color": None for stroke in ("axis", "major_tick", "minor_tick")},
        **options,
    }


def number_axis(theme: Theme, label: str, *, ticks: int = 4, number_format: str = "") -> Axis:
    """Makes an axis of numbers, with about so many ticks in this format of Numbro."""
    formats = {"formatter": NumeralTickFormatter(format=number_format)} if number_format else {}
    return LinearAxis(**_quiet(theme, label, ticker=BasicTicker(desired_num_ticks=ticks, num_minor_ticks=0), **formats))


def time_axis(theme: Theme) -> Axis:
    """Makes an axis of times in UTC."""
    day, minute, second = "%d %b", "%H:%M", "%H:%M:%S"
    formatter = DatetimeTickFormatter(
        seconds=second,
        minsec=second,
        minutes=minute,
        hourmin=minute,
        hours=minute,
        days=day,
        months="%b %Y",
        years="%Y",
    )
    return DatetimeAxis(
        **_quiet(
            theme, "time (UTC)", ticker=DatetimeTicker(desired_num_ticks=4, num_minor_ticks=0), formatter=formatter
        )
    )


def name_axis(theme: Theme, label: str, names: Sequence[str], *, longest: int = LONGEST, **options: Any) -> Axis:
    """Makes an axis with names at the places 0, 1, 2, ..."""
    labels = {place: plain(name, longest) for place, name in enumerate(names)}
    return LinearAxis(
        **_quiet(theme, label, ticker=FixedTicker(ticks=list(labels)), major_label_overrides=labels, **options)
    )


def below(theme: Theme, above: Plot, x: Axis, label: str) -> Plot:
    """Makes a low plot with the x range of the plot above it, and a y range from 0."""
    return plot(
        theme,
        x,
        number_axis(theme, label, ticks=2, number_format="0.[0]a"),
        height=LOWER_HEIGHT,
        x_range=above.x_range,
        y_range=from_zero(),
    )


def stacked(*plots: Plot) -> LayoutDOM:
    """Puts plots under each other."""
    return column(list(plots), sizing_mode="stretch_width", spacing=0)


def fixed(start: float, end: float) -> Range:
    """Makes a range that does not follow the data."""
    return Range1d(start=start, end=end)


def from_zero(padding: float = 0.1) -> DataRange1d:
    """Makes a range from 0 to the largest value, and half the padding more."""
    return DataRange1d(start=0, range_padding=padding, default_span=1)


def line(drawing: Plot, source: ColumnDataSource, theme: Theme, x: str, y: str, *, series: int = 0) -> Renderer:
    """Draws a line in the colour and dash of a series."""
    return drawing.add_glyph(
        source, Line(x=x, y=y, line_color=theme.series[series], line_dash=DASHES[series], line_width=1.7)
    )


def spots(
    drawing: Plot, source: ColumnDataSource, theme: Theme, x: str, y: str, *, series: int = 0, size: int = 4
) -> None:
    """Draws single values: those that no line leads to, or that are marked."""
    colour = theme.series[series]
    drawing.add_glyph(source, Scatter(x=x, y=y, size=size, fill_color=colour, line_color=colour))


def bars(drawing: Plot, source: ColumnDataSource, colour: str, *, alpha: float = 1.0, **places: Any) -> Renderer:
    """Draws upright bars."""
    return drawing.add_glyph(source, VBar(fill_color=colour, fill_alpha=alpha, line_color=None, **places))


def band(
    drawing: Plot, source: ColumnDataSource, theme: Theme, ends: tuple[str, str], step: float, *, series: int = 0
) -> None:
    """Draws an interval by step: bars side by side, since an area would bridge gaps."""
    bars(drawing, source, theme.series[series], alpha=theme.band, x="at", bottom=ends[0], top=ends[1], width=step)


def words(drawing: Plot, source: ColumnDataSource, x: str, y: str, *, size: str = SIZE, **options: Any) -> None:
    """Writes the texts of the column `text`."""
    font = {"text_font": value(FONT), "text_font_size": value(size), "text_baseline": "middle"}
    drawing.add_glyph(source, Text(x=x, y=y, text=field("text"), **{**font, **options}))


def hover(
    drawing: Plot, at: Renderer, columns: Iterable[str], mode: Literal["mouse", "hline", "vline"] = "mouse"
) -> None:
    """Shows columns of text, one under the other, where the mouse meets a glyph.

    The colours are those of `.bk-Tooltip` of the page.
    """
    rows = [("", f"@{column}") for column in columns]
    # The middle of a glyph that the mouse meets may lie outside of the plot, where no text is shown.
    policy: Literal["follow_mouse", "snap_to_data"] = "follow_mouse" if mode == "mouse" else "snap_to_data"
    drawing.add_tools(
        HoverTool(
            renderers=[at], mode=mode, tooltips=rows, line_policy="nearest", point_policy=policy, show_arrow=False
        )
    )


def legend(drawing: Plot, theme: Theme, items: Sequence[tuple[str, Renderer]]) -> None:
    """Adds a legend of series above the plot."""
    columns = min(len(items), 3 if max(len(name) for name, _ in items) <= LONGEST // 2 else 2)
    shown = Legend(
        items=[LegendItem(label={"value": plain(name)}, renderers=[renderer]) for name, renderer in items],
        orientation="horizontal",
        ncols=columns,
        border_line_color=None,
        background_fill_color=None,
        label_text_color=theme.text,
        label_text_font=FONT,
        label_text_font_size=SIZE,
        label_height=14,
        glyph_height=14,
        margin=2,
        spacing=10,
    )
    shown.update(padding=0)
    drawing.add_layout(shown, "above")
    drawing.height = (drawing.height or 0) + LEGEND_ROW * (math.ceil(len(items) / columns) - 1)
