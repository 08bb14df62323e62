"""The page of a deployment: its predictors beside each other, such as a canary and what it may replace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from metrics_server.api.parameters import label_of
from metrics_server.api.schema import Difference, MetricValue
from metrics_server.api.service import Api
from metrics_server.errors import not_found
from metrics_server.series.families import direction_of
from metrics_server.web import chart, links
from metrics_server.web.measure import measures_of
from metrics_server.web.page_request import PageRequest

_Named = TypeVar("_Named", MetricValue, Difference)


def deployment_page(api: Api, page_request: PageRequest) -> dict[str, Any]:
    """What the template shows."""
    parts, found, window = page_request.parts, page_request.found, page_request.window
    entries = api.entries(parts)
    if not entries:
        raise not_found("there is no such deployment")
    models = list(dict.fromkeys(entry.model for entry in entries))
    model = page_request.choose("model", models, models[0])
    baseline = {"baseline": found["baseline"]} if "baseline" in found else {}
    (comparison,) = api.comparisons(parts, {"window": window, "model": model, **baseline}).comparisons
    comparison.predictors.sort(key=lambda row: row.predictor != comparison.baseline)  # the baseline first
    metrics = measures_of(value for row in comparison.predictors for value in row.values)
    headline = next((key for key, value in metrics.items() if value.name == comparison.headline), None)
    metric = page_request.choose("metric", metrics, headline)
    shown = {entry.predictor: entry for entry in entries if entry.model == model}
    drawn = (
        None
        if metric is None
        else _over_time(api, page_request, [links.parts_of(entry) for entry in shown.values()], metrics[metric])
    )
    return {
        "namespace": label_of(parts[0]),
        "deployment": label_of(parts[1]),
        "model": model,
        "models": models,
        "window": window,
        "windows": list(page_request.windows),
        "comparison": comparison,
        "entries": shown,
        "predictions": sum(entry.windows[window].predictions for entry in shown.values()),
        "metric": metric,
        "metrics": metrics,
        "rows": {key: [_same(row.values, value) for row in comparison.predictors] for key, value in metrics.items()},
        "differences": {
            key: [_same(row.differences, value) for row in comparison.predictors] for key, value in metrics.items()
        },
        "direction_of": direction_of,
        "asked": page_request.asked,
        "charts": {} if drawn is None else {drawn.name: drawn},
    }


def _over_time(
    api: Api, page_request: PageRequest, series: Sequence[Sequence[str]], metric: MetricValue
) -> chart.Chart | None:
    found = {label_of(parts[2]): page_request.history(api, parts) for parts in series[: chart.MOST_COMPARED]}
    histories = {predictor: history for predictor, history in found.items() if history is not None}
    return chart.compared_over_time(histories, metric.name, metric.labels)


def _same(values: Sequence[_Named], one: MetricValue) -> _Named | None:
    """The one of this name with these labels."""
    return next((value for value in values if value.name == one.name and value.labels == one.labels), None)
