"""The page of one series: everything that its sums tell, in one window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET

from metrics_server.api.parameters import COSTS
from metrics_server.api.responses import class_order, headline_among
from metrics_server.api.schema import (
    History,
    MetricValue,
    SeriesReport,
    SeriesSummary,
    Table,
    WindowReport,
    WindowSummary,
)
from metrics_server.api.service import Api
from metrics_server.series.families import direction_of
from metrics_server.web import chart, links, notices
from metrics_server.web.chart.chart import ends_of
from metrics_server.web.measure import is_repeated, key_of, measures_of
from metrics_server.web.page_request import PageRequest

_NOT_LISTED = ("model_support", "model_label_coverage_ratio")
_COLUMNS = {
    "thresholds": ("threshold", "tp", "fp", "fn", "tn"),
    "reliability": ("pairs", "mean_score", "positive_ratio"),
    "errors": ("lower", "upper", "pairs"),
}


class Slice(NamedTuple):
    """A slice of the series."""

    name: str
    standing: WindowSummary
    link: str


class Predictor(NamedTuple):
    """A predictor of the same model of the same deployment."""

    entry: SeriesSummary
    link: str
    share: float | None  # of the deployment's predictions in this window
    is_shown: bool


class Thresholds(NamedTuple):
    """The what-if of thresholds: what is tried, what it leads to, and the row of the lowest cost."""

    classes: list[str]
    class_: str
    threshold: float
    costs: dict[str, float]
    row: dict[str, str | float]
    best: dict[str, str | float]


def model_page(api: Api, page_request: PageRequest) -> dict[str, Any]:
    """What the template shows."""
    parts, found, window = page_request.parts, page_request.found, page_request.window
    part = {"slice": found["slice"]} if found.get("slice") else {}
    costs = {cost: found.get(cost, 1.0) for cost in COSTS}
    reading = api.reading(parts, {"window": window, "tables": True, **costs, **part})
    history = page_request.history(api, parts, **part)
    here = reading.windows[window]
    metrics, headline = measures_of(here.values), headline_among(here.values)
    metric = page_request.choose("metric", metrics, next(iter(metrics), None) if headline is None else key_of(headline))
    thresholds = _thresholds(here, reading, page_request, costs)
    entries = [entry for entry in api.entries(parts[:2]) if entry.model == reading.model]
    standings = api.slices(parts, window)
    return {
        "reading": reading,
        "here": here,
        "window": window,
        "windows": list(page_request.windows),
        "metric": metric,
        "metrics": metrics,
        "headline": headline,
        "values": sorted((value for value in here.values if _is_listed(value)), key=is_repeated),
        "by_class": _by_class(here.values),
        "thresholds": thresholds,
        "predictors": _predictors(entries, reading, window),
        "deployment_link": links.deployment(reading.namespace, reading.deployment, window=window, model=reading.model),
        "slices": _slices(standings, page_request.asked),
        "are_ranked": _are_ranked(standings),
        "notices": [] if part else _notices(entries, reading, page_request),
        "asked": page_request.asked,
        "charts": _charts(reading, here, history, None if metric is None else metrics[metric], thresholds),
    }


def _is_listed(value: MetricValue) -> bool:
    """Whether it stands by itself: neither above all others nor in the table of classes."""
    return value.name not in _NOT_LISTED and "class" not in value.labels


def _by_class(values: Iterable[MetricValue]) -> dict[str, dict[str, MetricValue]]:
    """Class -> name of a value -> the value."""
    found: dict[str, dict[str, MetricValue]] = {}
    for value in values:
        if value.labels.keys() == {"class"} and value.name != "model_predicted_class_ratio":
            found.setdefault(value.labels["class"], {})[value.name] = value
    return {label: found[label] for label in sorted(found, key=class_order)}


def _thresholds(
    here: WindowReport, reading: SeriesReport, page_request: PageRequest, costs: dict[str, float]
) -> Thresholds | None:
    rows = _table(here, "thresholds")
    classes = sorted({str(row["class"]) for row in rows if "class" in row}, key=class_order)
    class_ = page_request.choose("class", classes, "1" if "1" in classes else next(iter(classes), None))
    if class_ is None:
        return None
    threshold = page_request.found.get("threshold", reading.parameters.threshold)
    tried = [row for row in rows if row.get("class") == class_]
    row = min(tried, key=lambda row: abs(float(row["threshold"]) - threshold))
    return Thresholds(
        classes, class_, threshold, costs, row, min(tried, key=lambda row: float(row.get("cost", math.inf)))
    )


def _table(here: WindowReport, name: str) -> Table:
    """The rows of a table that have all that is drawn of it: a user's metric model may give this name to anything."""
    rows = [] if here.tables is UNSET else here.tables.get(name, [])
    return [row for row in rows if all(isinstance(row.get(column), float) for column in _COLUMNS[name])]


def _predictors(entries: Sequence[SeriesSummary], reading: SeriesReport, window: str) -> list[Predictor]:
    total = sum(entry.windows[window].predictions for entry in entries)
    return [
        Predictor(
            entry,
            links.model(entry.path, window=window),
            entry.windows[window].predictions / total if total else None,
            entry.predictor == reading.predictor,
        )
        for entry in entries
    ]


def _slices(standings: Mapping[str, WindowSummary], asked: Mapping[str, Any]) -> list[Slice]:
    """The worst first: by the end of the interval that speaks for them, so that a few pairs do not make a slice the
    worst.

    Where nobody knows whether more or less of the headline is better, they are in the order of their names.
    """
    found = [Slice(name, standing, links.changed(asked, slice=name)) for name, standing in standings.items()]
    return sorted(found, key=lambda slice_: _promise(slice_.standing.headline)) if _are_ranked(standings) else found


def _are_ranked(standings: Mapping[str, WindowSummary]) -> bool:
    return any(
        standing.headline is not None and direction_of(standing.headline.name) for standing in standings.values()
    )


def _promise(value: MetricValue | None) -> tuple[bool, float]:
    """How good the value may be at best; those without an interval come last."""
    if value is None or (ends := ends_of(value)) is None:
        return True, 0.0
    return False, -ends[0] if direction_of(value.name) < 0 else ends[1]


def _notices(
    entries: Sequence[SeriesSummary], reading: SeriesReport, page_request: PageRequest
) -> list[notices.Notice]:
    ranked = notices.ranked(entries, page_request.window, page_request.windows, page_request.now)
    return next((one.notices for one in ranked if one.entry.predictor == reading.predictor), [])


def _charts(
    reading: SeriesReport,
    here: WindowReport,
    history: History | None,
    metric: MetricValue | None,
    thresholds: Thresholds | None,
) -> dict[str, chart.Chart]:
    """By name."""
    names = reading.parameters.class_names
    rows = _table(here, "thresholds")
    drawn = [
        None if history is None or metric is None else chart.metric_over_time(history, metric.name, metric.labels),
        None if here.confusion is UNSET else chart.confusion_matrix(here.confusion, names),
        chart.reliability(_table(here, "reliability")),
        chart.score_histogram(rows, thresholds.class_) if thresholds else None,
        chart.threshold_curve(rows, thresholds.class_, float(thresholds.row["threshold"])) if thresholds else None,
        chart.error_distribution(_table(here, "errors")),
        None if reading.label_delay is UNSET else chart.label_delay(reading.label_delay),
        chart.class_shares(here.values),
        None if history is None else chart.output_quantiles(history),
    ]
    return {one.name: one for one in drawn if one is not None}
