"""The page of a deployment: its predictors beside each other, such as a canary and what it may replace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from metrics_server.api import Api
from metrics_server.api_answer import Comparison, Difference, Value
from metrics_server.catalogue import direction_of
from metrics_server.query import label_of, not_found
from metrics_server.web import chart, links
from metrics_server.web.question import Question

_Named = TypeVar("_Named", Value, Difference)
_NOT_COMPARED = ("model_support", "model_label_coverage_ratio")


def deployment_page(api: Api, question: Question) -> dict[str, Any]:
    """What the template shows."""
    parts, found, window = question.parts, question.found, question.window
    entries = api.entries(parts)
    if not entries:
        raise not_found("there is no such deployment")
    models = list(dict.fromkeys(entry.model for entry in entries))
    model = question.choose("model", models, models[0])
    baseline = {"baseline": found["baseline"]} if "baseline" in found else {}
    (comparison,) = api.comparisons(parts, {"window": window, "model": model, **baseline}).comparisons
    names = _names(comparison)
    metric = question.choose("metric", names, comparison.headline)
    shown = {entry.predictor: entry for entry in entries if entry.model == model}
    drawn = None if metric is None else _over_time(api, question, [links.parts_of(entry) for entry in shown.values()], metric)
    return {
        "namespace": label_of(parts[0]),
        "deployment": label_of(parts[1]),
        "model": model,
        "models": models,
        "window": window,
        "windows": list(question.windows),
        "comparison": comparison,
        "entries": shown,
        "predictions": sum(entry.windows[window].predictions for entry in shown.values()),
        "metric": metric,
        "metrics": names,
        "rows": {name: [_plain(row.values, name) for row in comparison.predictors] for name in names},
        "differences": {name: [_plain(row.differences, name) for row in comparison.predictors] for name in names},
        "direction_of": direction_of,
        "asked": question.asked,
        "charts": {} if drawn is None else {drawn.name: drawn},
    }


def _over_time(api: Api, question: Question, series: Sequence[Sequence[str]], metric: str) -> chart.Chart | None:
    histories = {label_of(parts[2]): api.history(parts, question.span, question.patience) for parts in series[: chart.MOST_COMPARED]}
    return chart.compared_over_time(histories, metric)


def _names(comparison: Comparison) -> list[str]:
    """The values that are one number by window, of any predictor."""
    found = {value.name: None for row in comparison.predictors for value in row.values if not value.labels}
    return [name for name in found if name not in _NOT_COMPARED]


def _plain(values: Sequence[_Named], name: str) -> _Named | None:
    """The one of this name that is of no class."""
    return next((value for value in values if value.name == name and not value.labels), None)
