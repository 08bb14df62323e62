"""Responses of the JSON API, filled from sums.

Values have the names that they have on /v1/metrics, and come from the same `Evaluator`. Undefined ones are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from msgspec import UNSET, UnsetType

from metrics_server.api.parameters import segment_of
from metrics_server.api.routes import Route
from metrics_server.api.schema import (
    Confusion,
    CustomMetricValue,
    LabelDelay,
    MetricValue,
    ObjectiveReport,
    Parameters,
    SeriesReport,
    SeriesSummary,
    Table,
    ValueReport,
    WindowReport,
    WindowSummary,
)
from metrics_server.metrics.components import LABELS, LOGGED, PAIRS
from metrics_server.metrics.custom_metric import TOTAL, CustomType
from metrics_server.metrics.duration_histogram import DELAY, cumulated
from metrics_server.metrics.model import OTHER_CLASSES, VOCABULARIES_DIFFER, Sample
from metrics_server.metrics.reward_stats import REWARDS
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import CUMULATIVE
from metrics_server.series.evaluator import OF_SERVER, CustomReading, Evaluator
from metrics_server.series.objective import ObjectiveState
from metrics_server.series.series import Labels, Series
from metrics_server.series.totals import SeriesTotals


def path_of(labels: Labels) -> str:
    """Returns the path of a series, such as /v1/models/shop/wine/main/classifier."""
    return Route.MODEL.path(*map(segment_of, labels))


def value_of(sample: Sample, support: float) -> MetricValue:
    """Returns a sample as a value; it rests on `support` pairs unless it says otherwise."""
    lower, upper = (UNSET, UNSET) if sample.interval is None else map(float, sample.interval)
    rests_on = support if sample.support is None else sample.support
    labels = {name: str(label) for name, label in sample.labels.items()}
    return MetricValue(
        name=f"model_{sample.name}",
        labels=labels,
        value=float(sample.value),
        lower=lower,
        upper=upper,
        support=float(rests_on),
    )


def values_of(evaluator: Evaluator, series: Series, sums: Sums) -> list[MetricValue]:
    """Computes all values that are defined for these sums."""
    support = sums.get(PAIRS, 0.0)
    return [value_of(sample, support) for sample in evaluator.values(series, sums)]


def interval_of(value: MetricValue) -> tuple[float, float] | None:
    """Returns the ends of the interval of a value, if it has one."""
    return None if value.lower is UNSET or value.upper is UNSET else (value.lower, value.upper)


def is_of_server(name: str) -> bool:
    """Returns whether a value is one that every series has, whatever its metric model."""
    return name.startswith(OF_SERVER)


def headline_among(values: Iterable[MetricValue]) -> MetricValue | None:
    """Returns the headline among the values of a series: the first of its metric model, if there is one."""
    first = next((value for value in values if value.name != "model_support"), None)
    return None if first is None or is_of_server(first.name) else first


def report_of(
    evaluator: Evaluator,
    series: Series,
    slices: Iterable[Series],
    totals: SeriesTotals,
    windows: Mapping[str, WindowReport],
    *,
    objectives: Iterable[ObjectiveState],
) -> SeriesReport:
    """Returns the report of a series from its totals, how its objectives stand, and the reports of its windows."""
    scoring, pivot = series.identity.scoring, series.parameters.get("pivot")
    parameters = Parameters(
        threshold=scoring.threshold,
        class_names=list(scoring.class_names),
        max_classes=scoring.max_classes,
        classes=evaluator.exported(series),
        pivot=UNSET if pivot is None else float(pivot),
    )
    headlines = filter(None, (headline_among(window.values) for window in windows.values()))
    return SeriesReport(
        slice=series.identity.slice or UNSET,
        slices=names_of(slices),
        parameters=parameters,
        headline=next((headline.name for headline in headlines), None),
        label_delay=_label_delay(totals.cumulative[CUMULATIVE]),
        custom_metrics=[custom_metric_of(reading) for reading in evaluator.custom_metrics(series, totals)],
        objectives=list(map(objective_of, objectives)),
        windows=dict(windows),
        **about(series),
    )


def objective_of(state: ObjectiveState) -> ObjectiveReport:
    """Returns how an objective stands."""
    return ObjectiveReport(
        **state.objective._asdict(),
        degraded=state.is_missed,
        evidence=state.evidence if math.isfinite(state.evidence) else UNSET,
        since=UNSET if state.since is None else state.since,
        hours=state.hours,
    )


def custom_metric_of(reading: CustomReading) -> CustomMetricValue:
    """Returns the reading of a custom metric, as /v1/metrics has it."""
    (kind, key, tags), value, at, buckets = reading
    labels = dict(tags)
    if kind is CustomType.TIMER:
        return CustomMetricValue(name=key, type="histogram", labels=labels, count=buckets[-1][1], sum=value)
    if kind is CustomType.COUNTER:
        return CustomMetricValue(name=f"{key}{TOTAL}", type="counter", labels=labels, value=value)
    return CustomMetricValue(name=key, type="gauge", labels=labels, value=value, at=UNSET if at is None else at)


def _label_delay(cumulative: Sums) -> LabelDelay | UnsetType:
    if (histogram := cumulated(DELAY, cumulative)) is None:
        return UNSET
    (*bounded, (_, labels)), seconds = histogram
    return LabelDelay(buckets=[(float(bound), count) for bound, count in bounded], count=labels, sum=seconds)


def about(series: Series) -> dict[str, Any]:
    """Returns the fields that every response about a series has."""
    return {
        **series.labels._asdict(),
        "task": series.task or None,
        "metric_model": series.parameters.get("model"),
        "created_at": series.created_at,
        "last_prediction_at": series.predicted_at or None,
        "last_label_at": series.labelled_at or None,
    }


def names_of(slices: Iterable[Series]) -> list[str]:
    """Returns the names of slices."""
    return [slice_.identity.slice for slice_ in slices]


def window_report_of(
    evaluator: Evaluator, series: Series, sums: Sums, span: tuple[float, float], tables: Mapping[str, Table] | None
) -> WindowReport:
    """Returns the report of a series in one window, which covers this span of time."""
    support, logged = sums.get(PAIRS, 0.0), sums.get(LOGGED, 0.0)
    values = values_of(evaluator, series, sums)
    return WindowReport(
        since=span[0],
        until=span[1],
        support=support,
        coverage=support / logged if logged > 0 and support <= logged else UNSET,
        values=values,
        value=_value_report_of(values),
        confusion=_confusion(evaluator, series, sums),
        tables=UNSET if tables is None else dict(tables),
    )


def _value_report_of(values: Iterable[MetricValue]) -> ValueReport | UnsetType:
    by_name = {value.name: value for value in values}
    if (mean := by_name.get("model_value_mean")) is None:
        return UNSET
    best = ("best_threshold", "best_threshold_value")
    return ValueReport(
        mean=mean.value,
        lower=mean.lower,
        upper=mean.upper,
        net=by_name["model_value_net"].value,
        **{name: by_name[f"model_{name}"].value for name in best if f"model_{name}" in by_name},
    )


def class_order(label: str) -> tuple[bool, bool, int, str]:
    """Returns a sort key of class labels: numbers by their size, then names, and the class of all others last."""
    is_number = label.isdecimal() and len(label) < 19
    return label == OTHER_CLASSES, not is_number, int(label) if is_number else 0, label


def _confusion(evaluator: Evaluator, series: Series, sums: Sums) -> Confusion | UnsetType:
    """Returns the confusion matrix of the classes that occur; all classes beyond the limit are one, the last."""
    cells = {
        (sample.labels["truth"], sample.labels["prediction"]): float(sample.value)
        for sample in evaluator.counts(series, sums, {})
        if sample.name == "confusion" and sample.labels.keys() == {"truth", "prediction"}
    }
    if not cells:
        return UNSET
    ordered = sorted({label for cell in cells for label in cell}, key=class_order)
    return Confusion(
        classes=ordered, counts=[[cells.get((truth, prediction), 0.0) for prediction in ordered] for truth in ordered]
    )


def with_costs(tables: Mapping[str, Table], false_positive: float, false_negative: float) -> dict[str, Table]:
    """Adds the mean cost of a pair at each threshold to the rows of tables."""
    return {name: [_with_cost(row, false_positive, false_negative) for row in rows] for name, rows in tables.items()}


def _with_cost(row: dict[str, str | float], false_positive: float, false_negative: float) -> dict[str, str | float]:
    counts = [row[name] for name in ("fp", "fn", "tp", "tn") if name in row]
    if len(counts) < 4 or not all(isinstance(count, (int, float)) for count in counts):
        return row
    fp, fn, tp, tn = map(float, counts)
    if not (pairs := fp + fn + tp + tn):
        return row
    return {**row, "cost": (false_positive * fp + false_negative * fn) / pairs}


def headline_of(evaluator: Evaluator, series: Series, sums: Sums) -> MetricValue | None:
    """Computes the headline, the first value of the metric model, and no other value."""
    return _headline_of(_leading(evaluator, series, sums), sums)


def _leading(evaluator: Evaluator, series: Series, sums: Sums) -> list[Sample]:
    """Computes the first two values: the headline, and what is to be said of it."""
    return list(islice((sample for sample in evaluator.values(series, sums) if sample.name != "support"), 2))


def _headline_of(leading: Sequence[Sample], sums: Sums) -> MetricValue | None:
    if not leading or is_of_server(f"model_{leading[0].name}"):
        return None
    return value_of(leading[0], sums.get(PAIRS, 0.0))


def window_summary_of(evaluator: Evaluator, series: Series, sums: Sums) -> WindowSummary:
    """Returns the summary of a series in one window, from the sums of that window."""
    support, predictions, rewards = (sums.get(name, 0.0) for name in (PAIRS, LOGGED, REWARDS))
    leading = _leading(evaluator, series, sums)
    return WindowSummary(
        support=support,
        predictions=predictions,
        rewards=rewards,
        headline=_headline_of(leading, sums),
        indexes=next((one.labels["indexes"] for one in leading if one.name == VOCABULARIES_DIFFER), UNSET),
    )


def series_summary_of(
    evaluator: Evaluator,
    series: Series,
    slices: Iterable[Series],
    totals: SeriesTotals,
    baseline: str,
    *,
    objectives: Iterable[ObjectiveState],
) -> SeriesSummary:
    """Returns the summary of a series for the list of series."""
    cumulative = totals.cumulative[CUMULATIVE]
    return SeriesSummary(
        path=path_of(series.labels),
        slices=names_of(slices),
        labels={name.removeprefix(LABELS): count for name, count in cumulative.items() if name.startswith(LABELS)},
        windows={window: window_summary_of(evaluator, series, sums) for window, sums in totals.windows.items()},
        baseline=baseline,
        objectives=list(map(objective_of, objectives)),
        **about(series),
    )
