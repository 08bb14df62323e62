"""The bytes of a response from the context of a page: HTML of our templates, which escape all values, or figures."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import msgspec
from msgspec import UNSET
from tornado.template import Loader

from metrics_server import __version__
from metrics_server.api.responses import interval_of
from metrics_server.api.routes import Route
from metrics_server.web import asset, formatting, links
from metrics_server.web.chart.chart import Chart, metric_title, value_text, value_title

HTML, JSON = "text/html; charset=utf-8", "application/json"
# Nothing from elsewhere, nothing inline. BokehJS writes style elements; page.js gives them the nonce.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)

_loader = Loader(str(asset.HERE / "templates"), autoescape="xhtml_escape")
_encode = msgspec.json.Encoder().encode


def html(template: str, root: str, nonce: str, now: float, context: Mapping[str, Any]) -> bytes:
    """Renders a page. `root` is the relative address of the root of the server, `now` is in Unix seconds."""

    def address(name: str) -> str:
        return f"{root}{links.to(Route.STATIC, name)}?v={asset.asset(name).digest}"

    has_figures = asset.has_bokeh()
    if has_figures:
        _warm_up()
    common = {
        "root": root,
        "nonce": nonce,
        "now": now,
        "version": __version__,
        "asset": address,
        "has_figures": has_figures,
        "page_name": template,
    }
    return bytes(_loader.load(f"{template}.html").generate(**_FUNCTIONS, **common, **context))


@cache
def _warm_up() -> None:
    """Imports Bokeh after the first page, for the next; a server whose page nobody opens goes without its 45 MB."""
    timer = threading.Timer(1.0, import_module, ("metrics_server.web.figure",))
    timer.daemon = True
    timer.start()


def figures(charts: Mapping[str, Chart], theme: str) -> bytes:
    """Draws charts with Bokeh; returns JSON of each drawing and of the digest of its layout, by name."""
    from metrics_server.web import figure  # Bokeh is an extra

    drawn = {
        name: {"layout": layout_of(one), "item": figure.item(one, figure.THEMES[theme])} for name, one in charts.items()
    }
    return _encode(drawn)


def layout_of(chart: Chart) -> str:
    """Returns a digest that differs when a chart cannot be brought up to date by new columns alone."""
    return hashlib.sha256(_encode((chart.name, chart.title, chart.layout))).hexdigest()[:16]


def _text(value: Any) -> str:
    return _encode(value).decode()


def _rows(chart: Chart) -> Iterator[Sequence[str]]:
    """Yields the rows of the table under a chart."""
    columns = [[_cell(name, cell) for cell in chart.columns[name]] for name in chart.headings]
    return zip(*columns, strict=True)


def _cell(name: str, cell: Any) -> str:
    if cell is None:
        return formatting.UNNAMED
    if name == "at":
        return formatting.moment(cell / 1000)
    return cell if isinstance(cell, str) else formatting.number(float(cell))


# The functions and constants of all templates.
_FUNCTIONS: Mapping[str, Any] = {
    "number": formatting.number,
    "count": formatting.count,
    "percent": formatting.percent,
    "duration": formatting.duration,
    "ago": formatting.ago,
    "moment": formatting.moment,
    "class_title": formatting.class_title,
    "task_title": formatting.task_title,
    "metric_title": metric_title,
    "value_title": value_title,
    "value_text": value_text,
    "interval_of": interval_of,
    "layout_of": layout_of,
    "rows_of": _rows,
    "changed": links.changed,
    "model_link": links.model,
    "link_to": links.to,
    "Route": Route,
    "json": _text,
    "UNSET": UNSET,
}
