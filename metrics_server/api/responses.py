"""What the JSON API answers: its types, of which the OpenAPI document is made too, and how they are filled from sums.

Values have the names that they have on /v1/metrics, and come from the same `Reader`. What is undefined is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import UNSET, UnsetType

from metrics_server.api.parameters import part_of
from metrics_server.api.routes import Route
from metrics_server.api.schema import (
    Confusion,
    LabelDelay,
    MetricValue,
    Parameters,
    SeriesReport,
    SeriesSummary,
    Table,
    WindowReport,
    WindowSummary,
)
from metrics_server.metrics.components import LABELS, LOGGED, PAIRS
from metrics_server.metrics.duration_histogram import DELAY, cumulated
from metrics_server.metrics.model import OTHER_CLASSES, Sample
from metrics_server.metrics.reward_stats import REWARDS
from metrics_server.metrics.sums import Sums
from metrics_server.series.evaluator import OF_SERVER, Evaluator
from metrics_server.series.series import Labels, Series


def path_of(labels: Labels) -> str:
    """The path of a series."""
    return Route.MODEL.path(*map(part_of, labels))


def value_of(sample: Sample, support: float) -> MetricValue:
    """A sample of sums with this support as a value."""
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
    """All values that can be read from sums."""
    support = sums.get(PAIRS, 0.0)
    return [value_of(sample, support) for sample in evaluator.values(series, sums)]


def is_of_server(name: str) -> bool:
    """Whether this is what the server itself says of every series, whatever its metric model."""
    return name.startswith(OF_SERVER)


def headline_among(values: Iterable[MetricValue]) -> MetricValue | None:
    """The same of values that were read already."""
    first = next((value for value in values if value.name != "model_support"), None)
    return None if first is None or is_of_server(first.name) else first


def report_of(
    evaluator: Evaluator, series: Series, slices: Iterable[Series], ever: Sums, windows: Mapping[str, WindowReport]
) -> SeriesReport:
    """A series with what its ledger of all that was applied and its windows say."""
    scoring, pivot = series.identity.scoring, series.parameters.get("pivot")
    parameters = Parameters(
        threshold=scoring.threshold,
        class_names=list(scoring.class_names),
        max_classes=scoring.max_classes,
        classes=evaluator.exported(series),
        pivot=UNSET if pivot is None else float(pivot),
    )
    first = next(
        (value.name for window in windows.values() if (value := headline_among(window.values)) is not None), None
    )
    part = series.identity.slice or UNSET
    return SeriesReport(
        slice=part,
        slices=names_of(slices),
        parameters=parameters,
        headline=first,
        label_delay=_label_delay(ever),
        windows=dict(windows),
        **about(series),
    )


def _label_delay(ever: Sums) -> LabelDelay | UnsetType:
    if (found := cumulated(DELAY, ever)) is None:
        return UNSET
    *bounded, (_, labels) = found[0]
    return LabelDelay(buckets=[(float(bound), count) for bound, count in bounded], count=labels, sum=found[1])


def about(series: Series) -> dict[str, Any]:
    """What every answer about a series says of it."""
    return {
        **series.labels._asdict(),
        "task": series.task or None,
        "metric_model": series.parameters.get("model"),
        "created_at": series.created_at,
        "last_prediction_at": series.predicted_at or None,
        "last_label_at": series.labelled_at or None,
    }


def names_of(slices: Iterable[Series]) -> list[str]:
    """The names of slices."""
    return [part.identity.slice for part in slices]


def window_report_of(
    evaluator: Evaluator, series: Series, sums: Sums, span: tuple[float, float], tables: Mapping[str, Table] | None
) -> WindowReport:
    """A series in one window that covers this span of time."""
    support, logged = sums.get(PAIRS, 0.0), sums.get(LOGGED, 0.0)
    return WindowReport(
        since=span[0],
        until=span[1],
        support=support,
        coverage=support / logged if logged > 0 and support <= logged else UNSET,
        values=values_of(evaluator, series, sums),
        confusion=_confusion(evaluator, series, sums),
        tables=UNSET if tables is None else dict(tables),
    )


def class_order(label: str) -> tuple[bool, bool, int, str]:
    """Numbers by their size, then names; what stands for other classes last."""
    is_number = label.isdecimal() and len(label) < 19
    return label == OTHER_CLASSES, not is_number, int(label) if is_number else 0, label


def _confusion(evaluator: Evaluator, series: Series, sums: Sums) -> Confusion | UnsetType:
    """The matrix of a classification: of the classes that occur; those without a place in the matrix are one, the
    last.
    """
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
    """The tables with the mean cost of a pair at each threshold."""
    return {name: [_with_cost(row, false_positive, false_negative) for row in rows] for name, rows in tables.items()}


def _with_cost(row: dict[str, str | float], false_positive: float, false_negative: float) -> dict[str, str | float]:
    fp, fn, *right = (row.get(name) for name in ("fp", "fn", "tp", "tn"))
    counts = [count for count in (fp, fn, *right) if isinstance(count, (int, float))]
    if len(counts) < 4 or not (pairs := sum(counts)):
        return row
    return {**row, "cost": (false_positive * counts[0] + false_negative * counts[1]) / pairs}


def headline_of(evaluator: Evaluator, series: Series, sums: Sums) -> MetricValue | None:
    """The first value of the metric model, without reading the others."""
    for sample in evaluator.values(series, sums):
        if sample.name != "support":
            return None if is_of_server(f"model_{sample.name}") else value_of(sample, sums.get(PAIRS, 0.0))
    return None


def window_summary_of(evaluator: Evaluator, series: Series, sums: Sums) -> WindowSummary:
    """A series in one window, from the sums of that."""
    support, predictions, rewards = (sums.get(name, 0.0) for name in (PAIRS, LOGGED, REWARDS))
    return WindowSummary(
        support=support, predictions=predictions, rewards=rewards, headline=headline_of(evaluator, series, sums)
    )


def series_summary_of(
    evaluator: Evaluator, series: Series, slices: Iterable[Series], ever: Sums, windows: Mapping[str, Sums]
) -> SeriesSummary:
    """A series as it stands in the list."""
    return SeriesSummary(
        path=path_of(series.labels),
        slices=names_of(slices),
        labels={name.removeprefix(LABELS): count for name, count in ever.items() if name.startswith(LABELS)},
        windows={window: window_summary_of(evaluator, series, sums) for window, sums in windows.items()},
        **about(series),
    )
