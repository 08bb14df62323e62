"""The page of one series: everything that its sums tell in one window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from msgspec import UNSET

from metrics_server.api.parameters import COSTS
from metrics_server.api.responses import class_order, headline_among, interval_of
from metrics_server.api.schema import (
    GroupRate,
    GroupReport,
    History,
    MetricValue,
    SeriesReport,
    SeriesSummary,
    Table,
    WindowReport,
    WindowSummary,
)
from metrics_server.api.service import Api
from metrics_server.metrics.sequential.verdict import COVERAGE_APART
from metrics_server.metrics.value import GAUGES as OF_VALUE
from metrics_server.series.families import direction_of
from metrics_server.web import chart, links, notices
from metrics_server.web.measure import CLASS_SHARE, is_repeated, key_of, measures_of, unlabelled
from metrics_server.web.page_request import PageRequest

RateKey: TypeAlias = "tuple[str, tuple[tuple[str, str], ...]]"  # name and labels

_WORTH = frozenset(f"model_{name}" for name in OF_VALUE)
_NOT_LISTED = frozenset(("model_support", "model_label_coverage_ratio")) | _WORTH
_COLUMNS = {
    "thresholds": ("threshold", "tp", "fp", "fn", "tn"),
    "reliability": ("pairs", "mean_score", "positive_ratio"),
    "errors": ("lower", "upper", "pairs"),
}


class Slice(NamedTuple):
    """A slice of the series."""

    name: str
    summary: WindowSummary
    link: str


class Predictor(NamedTuple):
    """A predictor of the same model of the same deployment."""

    series: SeriesSummary
    link: str
    share: float | None  # of the deployment's predictions in this window
    is_shown: bool


class ComparedGroups(NamedTuple):
    """The groups of a dimension: by name and labels of a rate that of each group, None where it is undefined."""

    report: GroupReport
    rows: dict[RateKey, list[GroupRate | None]]

    @property
    def are_labelled_alike(self) -> bool:
        """Whether the labelled shares of the groups do not differ so much that their rates are not to be compared."""
        shares = [group.coverage for group in self.report.groups if group.coverage is not UNSET]
        return not shares or max(shares) - min(shares) <= COVERAGE_APART


class Thresholds(NamedTuple):
    """The what-if of thresholds: the threshold that is tried, its row, and the row of the lowest cost."""

    classes: list[str]
    class_: str
    threshold: float
    costs: dict[str, float]
    row: dict[str, str | float]
    best: dict[str, str | float]


def model_page(api: Api, page_request: PageRequest) -> dict[str, Any]:
    """Returns the context of the template."""
    segments, arguments, window = page_request.segments, page_request.arguments, page_request.window
    slice_argument = {"slice": arguments["slice"]} if arguments.get("slice") else {}
    costs = {cost: arguments.get(cost, 1.0) for cost in COSTS}
    report = api.series_report(segments, {"window": window, "tables": True, **costs, **slice_argument})
    history = page_request.history(api, segments, **slice_argument)
    in_window = report.windows[window]
    metrics, headline = measures_of(in_window.values), headline_among(in_window.values)
    metric = page_request.choose("metric", metrics, unlabelled(metrics) if headline is None else key_of(headline))
    thresholds = _thresholds(in_window, report, page_request, costs)
    predictors = [series for series in api.series_summaries(segments[:2]) if series.model == report.model]
    slices = api.slice_summaries(segments, window)
    return {
        "report": report,
        "in_window": in_window,
        "window": window,
        "windows": list(page_request.windows),
        "metric": metric,
        "metrics": metrics,
        "headline": headline,
        "values": sorted((value for value in in_window.values if _is_listed(value)), key=is_repeated),
        "worth": {value.name: value for value in in_window.values if value.name in _WORTH},
        "by_class": _by_class(in_window.values),
        "thresholds": thresholds,
        "predictors": _predictors(predictors, report, window),
        "deployment_link": links.deployment(report.namespace, report.deployment, window=window, model=report.model),
        "slices": _slices(slices, page_request.query),
        "are_ranked": _are_ranked(slices),
        "groups": [] if slice_argument else [_compared_groups(each) for each in api.groups_of(segments, window)],
        "notices": [] if slice_argument else _notices(predictors, report, page_request),
        "query": page_request.query,
        "charts": _charts(report, in_window, history, None if metric is None else metrics[metric], thresholds),
    }


def _is_listed(value: MetricValue) -> bool:
    """Returns whether a value is in the list of values: neither at the top of the page nor in a table of its own."""
    return value.name not in _NOT_LISTED and "class" not in value.labels


def _by_class(values: Iterable[MetricValue]) -> dict[str, dict[str, MetricValue]]:
    """Groups the values of single classes: class -> name of a value -> the value."""
    by_class: dict[str, dict[str, MetricValue]] = {}
    for value in values:
        if value.labels.keys() == {"class"} and value.name != CLASS_SHARE:
            by_class.setdefault(value.labels["class"], {})[value.name] = value
    return {label: by_class[label] for label in sorted(by_class, key=class_order)}


def _thresholds(
    in_window: WindowReport, report: SeriesReport, page_request: PageRequest, costs: dict[str, float]
) -> Thresholds | None:
    rows = _table(in_window, "thresholds")
    classes = sorted({str(row["class"]) for row in rows if "class" in row}, key=class_order)
    class_ = page_request.choose("class", classes, "1" if "1" in classes else next(iter(classes), None))
    if class_ is None:
        return None
    threshold = page_request.arguments.get("threshold", report.parameters.threshold)
    of_class = [row for row in rows if row.get("class") == class_]
    nearest = min(of_class, key=lambda row: abs(float(row["threshold"]) - threshold))
    cheapest = min(of_class, key=lambda row: float(row.get("cost", math.inf)))
    return Thresholds(classes, class_, threshold, costs, nearest, cheapest)


def _table(in_window: WindowReport, name: str) -> Table:
    """Selects the rows of a table that can be drawn: a user's metric model may give this name to any table."""
    rows = [] if in_window.tables is UNSET else in_window.tables.get(name, [])
    return [row for row in rows if all(isinstance(row.get(column), float) for column in _COLUMNS[name])]


def _predictors(predictors: Sequence[SeriesSummary], report: SeriesReport, window: str) -> list[Predictor]:
    total = sum(series.windows[window].predictions for series in predictors)
    return [
        Predictor(
            series,
            links.model(series.path, window=window),
            series.windows[window].predictions / total if total else None,
            series.predictor == report.predictor,
        )
        for series in predictors
    ]


def _slices(summaries: Mapping[str, WindowSummary], query: Mapping[str, Any]) -> list[Slice]:
    """Lists the slices, the worst first.

    They are sorted by the better end of their intervals, so that a few pairs do not make a slice the worst; or by name,
    where more of the headline is neither better nor worse.
    """
    slices = [Slice(name, summary, links.changed(query, slice=name)) for name, summary in summaries.items()]
    return sorted(slices, key=lambda slice_: _at_best(slice_.summary.headline)) if _are_ranked(summaries) else slices


def _compared_groups(report: GroupReport) -> ComparedGroups:
    by_group = [{_rate_key(rate): rate for rate in group.rates} for group in report.groups]
    keys = dict.fromkeys(key for rates in by_group for key in rates)
    return ComparedGroups(report, {key: [rates.get(key) for rates in by_group] for key in keys})


def _rate_key(rate: GroupRate) -> RateKey:
    return rate.name, tuple(rate.labels.items())


def _are_ranked(summaries: Mapping[str, WindowSummary]) -> bool:
    return any(summary.headline is not None and direction_of(summary.headline.name) for summary in summaries.values())


def _at_best(value: MetricValue | None) -> tuple[bool, float]:
    """Returns a sort key: the better end of the interval, the worst first; values without an interval come last."""
    if value is None or (interval := interval_of(value)) is None:
        return True, 0.0
    lower, upper = interval
    return False, -lower if direction_of(value.name) < 0 else upper


def _notices(
    predictors: Sequence[SeriesSummary], report: SeriesReport, page_request: PageRequest
) -> list[notices.Notice]:
    ranked = notices.ranked(predictors, page_request.window, page_request.windows, page_request.now)
    return next((one.notices for one in ranked if one.series.predictor == report.predictor), [])


def _charts(
    report: SeriesReport,
    in_window: WindowReport,
    history: History | None,
    metric: MetricValue | None,
    thresholds: Thresholds | None,
) -> dict[str, chart.Chart]:
    """Returns the charts that there is anything to draw of, by name."""
    names = report.parameters.class_names
    rows = _table(in_window, "thresholds")
    drawn = [
        None if history is None or metric is None else chart.metric_over_time(history, metric.name, metric.labels),
        None if in_window.confusion is UNSET else chart.confusion_matrix(in_window.confusion, names),
        chart.reliability(_table(in_window, "reliability")),
        chart.score_histogram(rows, thresholds.class_) if thresholds else None,
        chart.threshold_curve(rows, thresholds.class_, float(thresholds.row["threshold"])) if thresholds else None,
        chart.error_distribution(_table(in_window, "errors")),
        None if report.label_delay is UNSET else chart.label_delay(report.label_delay),
        chart.class_shares(in_window.values),
        None if history is None else chart.output_quantiles(history),
    ]
    return {one.name: one for one in drawn if one is not None}
