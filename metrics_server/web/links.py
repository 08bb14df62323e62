"""Addresses on the page, relative to its root, since it may be served under any prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from metrics_server.api.parameters import segment_of
from metrics_server.api.routes import Route
from metrics_server.api.schema import SeriesSummary


def to(route: Route, *parts: str) -> str:
    """A route with these parts."""
    return route.path(*parts).removeprefix("/")


def model(path: str, **query: Any) -> str:
    """Returns the address of the page of a series, from its path in the JSON API."""
    return _with(_of_model(Route.MODEL_PAGE, path), query)


def trend(path: str, **query: Any) -> str:
    """Returns the address of the picture of a trend, from the path of the series in the JSON API."""
    return _with(_of_model(Route.TREND, path), query)


def deployment(namespace: str, name: str, **query: Any) -> str:
    """Returns the address of the page that compares the predictors of a deployment."""
    return _with(to(Route.DEPLOYMENT_PAGE, segment_of(namespace), segment_of(name)), query)


def segments_of(series: SeriesSummary) -> list[str]:
    """Returns the segments of the path of a series, before they are percent-encoded."""
    return [segment_of(label) for label in (series.namespace, series.deployment, series.predictor, series.model)]


def changed(query: Mapping[str, Any], **changes: Any) -> str:
    """Returns the query of this page with other arguments; None removes one."""
    return _with("", {**query, **changes})


def root_of(path: str) -> str:
    """Returns the relative address of the root from a page: "" or as many "../" as it takes."""
    return "../" * (path.count("/") - 1)


def _of_model(route: Route, path: str) -> str:
    """The route about the series that the JSON API has under this path."""
    return (route.stem + path.removeprefix(Route.MODEL.stem)).removeprefix("/")


def _with(path: str, query: Mapping[str, Any]) -> str:
    if text := urlencode({name: value for name, value in query.items() if value is not None}):
        return f"{path}?{text}"
    return path or "?"
