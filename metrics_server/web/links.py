"""Addresses on the page, relative to its root: it may be served under any prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from metrics_server.api.parameters import part_of
from metrics_server.api.routes import Route
from metrics_server.api.schema import SeriesSummary


def to(route: Route, *parts: str) -> str:
    """A route with these parts."""
    return route.path(*parts).removeprefix("/")


def model(path: str, **query: Any) -> str:
    """The page of the series that the JSON API has under this path."""
    return _with(_of_model(Route.MODEL_PAGE, path), query)


def trend(path: str, **query: Any) -> str:
    """The picture of its trend."""
    return _with(_of_model(Route.TREND, path), query)


def deployment(namespace: str, name: str, **query: Any) -> str:
    """The page that compares the predictors of a deployment."""
    return _with(to(Route.DEPLOYMENT_PAGE, part_of(namespace), part_of(name)), query)


def parts_of(entry: SeriesSummary) -> list[str]:
    """The parts of the path of a series, as they are before they are percent-encoded."""
    return [part_of(label) for label in (entry.namespace, entry.deployment, entry.predictor, entry.model)]


def changed(query: Mapping[str, Any], **changes: Any) -> str:
    """The query of this page with other values; None takes one out."""
    return _with("", {**query, **changes})


def root_of(path: str) -> str:
    """The way from a page to the root: "" or as many "../" as it takes."""
    return "../" * (path.count("/") - 1)


def _of_model(route: Route, path: str) -> str:
    """The route about the series that the JSON API has under this path."""
    return (route.stem + path.removeprefix(Route.MODEL.stem)).removeprefix("/")


def _with(path: str, query: Mapping[str, Any]) -> str:
    return (
        f"{path}?{text}"
        if (text := urlencode({name: value for name, value in query.items() if value is not None}))
        else path or "?"
    )
