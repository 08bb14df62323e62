"""From what a view found to the bytes of an answer: HTML from our templates, which escape whatever they are given, or
figures.
"""

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
from metrics_server.api.routes import Route
from metrics_server.web import asset, links
from metrics_server.web import formatting as wording
from metrics_server.web.chart.chart import Chart, ends_of, metric_title, shown, value_title

HTML, JSON = "text/html; charset=utf-8", "application/json"
# Nothing from elsewhere, nothing inline. BokehJS writes style elements; page.js gives them the nonce.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)

_loader = Loader(str(asset.HERE / "templates"), autoescape="xhtml_escape")
_encode = msgspec.json.Encoder().encode


def html(template: str, root: str, nonce: str, now: float, context: Mapping[str, Any]) -> bytes:
    """A page. `root` is the way from it to the root of the server, `now` is in Unix seconds."""

    def address(name: str) -> str:
        return f"{root}{links.to(Route.STATIC, name)}?v={asset.asset(name).digest}"

    has_figures = asset.has_bokeh()
    if has_figures:
        _warm_up()
    words = {
        name: getattr(wording, name)
        for name in ("number", "count", "percent", "duration", "ago", "moment", "class_title", "task_title")
    }
    given = {
        "root": root,
        "nonce": nonce,
        "now": now,
        "version": __version__,
        "asset": address,
        "has_figures": has_figures,
    }
    made = {
        "json": _text,
        "layout_of": layout_of,
        "rows_of": _rows,
        "metric_title": metric_title,
        "value_title": value_title,
        "UNSET": UNSET,
    }
    read = {
        "shown": shown,
        "ends_of": ends_of,
        "changed": links.changed,
        "model_link": links.model,
        "link_to": links.to,
        "Route": Route,
    }
    found = _loader.load(f"{template}.html").generate(**words, **given, **made, **read, here_is=template, **context)
    return bytes(found)


@cache
def _warm_up() -> None:
    """Imports Bokeh when the first page is read, for the next; a server whose page nobody opens goes without its 45
    MB.
    """
    later = threading.Timer(1.0, import_module, ("metrics_server.web.figure",))
    later.daemon = True
    later.start()


def figures(charts: Mapping[str, Chart], theme: str) -> bytes:
    """The charts as Bokeh draws them, with what they depend on beside their columns."""
    from metrics_server.web import figure  # Bokeh is an extra

    drawn = {
        name: {"layout": layout_of(one), "item": figure.item(one, figure.LOOKS[theme])} for name, one in charts.items()
    }
    return _encode(drawn)


def layout_of(chart: Chart) -> str:
    """Differs when a chart cannot be brought up to date by new columns alone."""
    return hashlib.sha256(_encode((chart.name, chart.title, chart.layout))).hexdigest()[:16]


def _text(value: Any) -> str:
    return _encode(value).decode()


def _rows(chart: Chart) -> Iterator[Sequence[str]]:
    """The rows of the table under a chart."""
    columns = [[_cell(name, cell) for cell in chart.columns[name]] for name in chart.headings]
    return zip(*columns, strict=True)


def _cell(name: str, cell: Any) -> str:
    if cell is None:
        return wording.UNNAMED
    if name == "at":
        return wording.moment(cell / 1000)
    return cell if isinstance(cell, str) else wording.number(float(cell))
