"""The page of a deployment: its predictors beside each other, such as a canary and what it may replace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from metrics_server.api.history import FEW_POINTS
from metrics_server.api.parameters import label_of
from metrics_server.api.schema import CanaryVerdict, Difference, MetricValue, SeriesSummary
from metrics_server.api.service import Api
from metrics_server.errors import StoreUnavailable, not_found
from metrics_server.series.families import direction_of
from metrics_server.web import chart, links
from metrics_server.web.measure import class_shares_of, measures_of, unlabelled
from metrics_server.web.page_request import PageRequest
from metrics_server.web.verdict import verdict_notices

LABELS_A_STEP = 30  # on average, of a predictor: with fewer a share of them is mostly noise
FEWEST_STEPS = 6
WHOLE, BY_CLASS = "Side by side", "By class"

_Named = TypeVar("_Named", MetricValue, Difference)


def deployment_page(api: Api, page_request: PageRequest) -> dict[str, Any]:
    """Returns the context of the template."""
    segments, arguments, window = page_request.segments, page_request.arguments, page_request.window
    summaries = api.series_summaries(segments)
    if not summaries:
        raise not_found("there is no such deployment")
    models = list(dict.fromkeys(series.model for series in summaries))
    model = page_request.choose("model", models, models[0])
    baseline = {"baseline": arguments["baseline"]} if "baseline" in arguments else {}
    (comparison,) = api.comparisons(segments, {"window": window, "model": model, **baseline}).comparisons
    comparison.predictors.sort(key=lambda report: report.predictor != comparison.baseline)  # the baseline first
    metrics = measures_of(value for report in comparison.predictors for value in report.values)
    rows = metrics | class_shares_of(value for report in comparison.predictors for value in report.values)
    headline = next((key for key, value in metrics.items() if value.name == comparison.headline), None)
    if headline is None:  # nobody labels them: of classifiers their shares tell more than that
        metrics, headline = rows, unlabelled(rows)
    metric = page_request.choose("metric", metrics, headline)
    by_predictor = {series.predictor: series for series in summaries if series.model == model}
    few = _few_steps(report.support for report in comparison.predictors)
    drawn = None if metric is None else _over_time(api, page_request, list(by_predictor.values()), metrics[metric], few)
    return {
        "namespace": label_of(segments[0]),
        "deployment": label_of(segments[1]),
        "model": model,
        "models": models,
        "window": window,
        "windows": list(page_request.windows),
        "comparison": comparison,
        "series": by_predictor,
        "predictions": sum(series.windows[window].predictions for series in by_predictor.values()),
        "metric": metric,
        "metrics": metrics,
        "compared": rows,
        "tables": _tables(rows),
        "WHOLE": WHOLE,
        "rows": {key: [_same(one.values, value) for one in comparison.predictors] for key, value in rows.items()},
        "differences": {
            key: [_same(one.differences, value) for one in comparison.predictors] for key, value in rows.items()
        },
        "direction_of": direction_of,
        "query": page_request.query,
        "notices": verdict_notices(_verdicts(api, segments, model, baseline)),
        "charts": {} if drawn is None else {drawn.name: drawn},
    }


def _verdicts(api: Api, segments: Sequence[str], model: str | None, baseline: Mapping[str, str]) -> list[CanaryVerdict]:
    """Judges the predictors; none while the store is down."""
    try:
        return api.canary_verdicts(segments, baseline, model=model)
    except StoreUnavailable:
        return []


def _tables(compared: Mapping[str, MetricValue]) -> dict[str, list[str]]:
    """Divides what is compared into tables: values of a predictor as a whole, and those of a class."""
    tables: dict[str, list[str]] = {WHOLE: []}
    for key, value in compared.items():
        tables.setdefault(BY_CLASS if "class" in value.labels else WHOLE, []).append(key)
    return tables


def _few_steps(supports: Iterable[float]) -> int:
    """How many steps a history is drawn in, so that a value of one rests on some labels even of the least labelled."""
    least = min((support for support in supports if support), default=0.0)
    return min(max(int(least / LABELS_A_STEP), FEWEST_STEPS), FEW_POINTS)


def _over_time(
    api: Api, page_request: PageRequest, predictors: Sequence[SeriesSummary], metric: MetricValue, few: int
) -> chart.Chart | None:
    read = {
        series.predictor: page_request.history(api, links.segments_of(series), few)
        for series in predictors[: chart.MOST_COMPARED]
    }
    histories = {predictor: history for predictor, history in read.items() if history is not None}
    return chart.compared_over_time(histories, metric.name, metric.labels)


def _same(values: Sequence[_Named], value: MetricValue) -> _Named | None:
    """Finds the value or difference with the name and the labels of a value."""
    return next((one for one in values if one.name == value.name and one.labels == value.labels), None)
