"""The page of one series: everything that its sums tell, in one window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET

from metrics_server.api import Api
from metrics_server.api_answer import History, Reading, Table, Value, WindowReading, class_order, headline_among
from metrics_server.catalogue import direction_of
from metrics_server.listing import Entry, Standing
from metrics_server.query import COSTS
from metrics_server.web import attention, chart, links
from metrics_server.web.chart.form import ends_of
from metrics_server.web.measure import is_repeated, key_of, measures_of
from metrics_server.web.question import Question

_NOT_LISTED = ("model_support", "model_label_coverage_ratio")
_COLUMNS = {
    "thresholds": ("threshold", "tp", "fp", "fn", "tn"),
    "reliability": ("pairs", "mean_score", "positive_ratio"),
    "errors": ("lower", "upper", "pairs"),
}


class Slice(NamedTuple):
    """A slice of the series."""

    name: str
    standing: Standing
    link: str


class Predictor(NamedTuple):
    """A predictor of the same model of the same deployment."""

    entry: Entry
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


def model_page(api: Api, question: Question) -> dict[str, Any]:
    """What the template shows."""
    parts, found, window = question.parts, question.found, question.window
    part = {"slice": found["slice"]} if found.get("slice") else {}
    costs = {cost: found.get(cost, 1.0) for cost in COSTS}
    reading = api.reading(parts, {"window": window, "tables": True, **costs, **part})
    history = question.history(api, parts, **part)
    here = reading.windows[window]
    metrics, headline = measures_of(here.values), headline_among(here.values)
    metric = question.choose("metric", metrics, next(iter(metrics), None) if headline is None else key_of(headline))
    thresholds = _thresholds(here, reading, question, costs)
    entries = [entry for entry in api.entries(parts[:2]) if entry.model == reading.model]
    standings = api.slices(parts, window)
    return {
        "reading": reading,
        "here": here,
        "window": window,
        "windows": list(question.windows),
        "metric": metric,
        "metrics": metrics,
        "headline": headline,
        "values": sorted((value for value in here.values if _is_listed(value)), key=is_repeated),
        "by_class": _by_class(here.values),
        "thresholds": thresholds,
        "predictors": _predictors(entries, reading, window),
        "deployment_link": links.deployment(reading.namespace, reading.deployment, window=window, model=reading.model),
        "slices": _slices(standings, question.asked),
        "are_ranked": _are_ranked(standings),
        "notices": [] if part else _notices(entries, reading, question),
        "asked": question.asked,
        "charts": _charts(reading, here, history, None if metric is None else metrics[metric], thresholds),
    }


def _is_listed(value: Value) -> bool:
    """Whether it stands by itself: neither above all others nor in the table of classes."""
    return value.name not in _NOT_LISTED and "class" not in value.labels


def _by_class(values: Iterable[Value]) -> dict[str, dict[str, Value]]:
    """Class -> name of a value -> the value."""
    found: dict[str, dict[str, Value]] = {}
    for value in values:
        if value.labels.keys() == {"class"} and value.name != "model_predicted_class_ratio":
            found.setdefault(value.labels["class"], {})[value.name] = value
    return {label: found[label] for label in sorted(found, key=class_order)}


def _thresholds(here: WindowReading, reading: Reading, question: Question, costs: dict[str, float]) -> Thresholds | None:
    rows = _table(here, "thresholds")
    classes = sorted({str(row["class"]) for row in rows if "class" in row}, key=class_order)
    class_ = question.choose("class", classes, "1" if "1" in classes else next(iter(classes), None))
    if class_ is None:
        return None
    threshold = question.found.get("threshold", reading.parameters.threshold)
    tried = [row for row in rows if row.get("class") == class_]
    row = min(tried, key=lambda row: abs(float(row["threshold"]) - threshold))
    return Thresholds(classes, class_, threshold, costs, row, min(tried, key=lambda row: float(row.get("cost", math.inf))))


def _table(here: WindowReading, name: str) -> Table:
    """The rows of a table that have all that is drawn of it: a user's metric model may give this name to anything."""
    rows = [] if here.tables is UNSET else here.tables.get(name, [])
    return [row for row in rows if all(isinstance(row.get(column), float) for column in _COLUMNS[name])]


def _predictors(entries: Sequence[Entry], reading: Reading, window: str) -> list[Predictor]:
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


def _slices(standings: Mapping[str, Standing], asked: Mapping[str, Any]) -> list[Slice]:
    """The worst first: by the end of the interval that speaks for them, so that a few pairs do not make a slice the worst.

    Where nobody knows whether more or less of the headline is better, they are in the order of their names.
    """
    found = [Slice(name, standing, links.changed(asked, slice=name)) for name, standing in standings.items()]
    return sorted(found, key=lambda slice_: _promise(slice_.standing.headline)) if _are_ranked(standings) else found


def _are_ranked(standings: Mapping[str, Standing]) -> bool:
    return any(standing.headline is not None and direction_of(standing.headline.name) for standing in standings.values())


def _promise(value: Value | None) -> tuple[bool, float]:
    """How good the value may be at best; those without an interval come last."""
    if value is None or (ends := ends_of(value)) is None:
        return True, 0.0
    return False, -ends[0] if direction_of(value.name) < 0 else ends[1]


def _notices(entries: Sequence[Entry], reading: Reading, question: Question) -> list[attention.Notice]:
    ranked = attention.ranked(entries, question.window, question.windows, question.now)
    return next((one.notices for one in ranked if one.entry.predictor == reading.predictor), [])


def _charts(
    reading: Reading, here: WindowReading, history: History | None, metric: Value | None, thresholds: Thresholds | None
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
