"""What the JSON API answers: its types, of which the OpenAPI document is made too, and how they are filled from sums.

Values have the names that they have on /v1/metrics, and come from the same `Reader`. What is undefined is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET, UnsetType

from metrics_server.distribution import DELAY, cumulated
from metrics_server.ledger import LOGGED, PAIRS
from metrics_server.model import OTHER_CLASSES, Sample
from metrics_server.query import part_of
from metrics_server.readings import OF_SERVER, Reader
from metrics_server.series import Labels, Series
from metrics_server.sums import Sums

PATH = "/v1/models"
Table = list[dict[str, str | float]]


class Value(msgspec.Struct, kw_only=True):
    """A value, named as on /v1/metrics; `lower` and `upper` are the ends of its 95 % interval, `support` the pairs it rests on."""

    name: str
    labels: dict[str, str]
    value: float
    lower: float | UnsetType = UNSET
    upper: float | UnsetType = UNSET
    support: float


class Parameters(msgspec.Struct, kw_only=True):
    """What the numbers of a series depend on; `classes` are those with values of their own."""

    threshold: float
    class_names: list[str]
    max_classes: int
    classes: list[str]
    pivot: float | UnsetType = UNSET


class Confusion(msgspec.Struct, kw_only=True):
    """A confusion matrix: rows are truths, columns predictions, both in the order of `classes`."""

    classes: list[str]
    counts: list[list[float]]


class WindowReading(msgspec.Struct, kw_only=True):
    """A series in one window; `coverage` is the share of predictions that are labelled."""

    since: float = msgspec.field(name="from")
    until: float = msgspec.field(name="to")
    support: float
    coverage: float | UnsetType = UNSET
    values: list[Value]
    confusion: Confusion | UnsetType = UNSET
    tables: dict[str, Table] | UnsetType = UNSET


class LabelDelay(msgspec.Struct, kw_only=True):
    """How long after their predictions labels came, ever; a bucket is a bound in seconds and how many came up to it, ascending."""

    buckets: list[tuple[float, float]]
    count: float
    sum: float


class Reading(msgspec.Struct, kw_only=True):
    """A series, or a slice of one, in its windows; `headline` is the name of the first value of its metric model."""

    namespace: str
    deployment: str
    predictor: str
    model: str
    slice: str | UnsetType = UNSET
    slices: list[str]
    task: str | None
    metric_model: str | None
    parameters: Parameters
    created_at: float
    last_prediction_at: float | None
    last_label_at: float | None
    headline: str | None
    label_delay: LabelDelay | UnsetType = UNSET
    windows: dict[str, WindowReading]


class Point(msgspec.Struct, kw_only=True):
    """A series in one step of its history."""

    since: float = msgspec.field(name="from")
    until: float = msgspec.field(name="to")
    support: float
    values: list[Value]


class History(msgspec.Struct, kw_only=True):
    """The steps of a series that hold anything, between `from` and `to`; `step` in seconds."""

    since: float = msgspec.field(name="from")
    until: float = msgspec.field(name="to")
    step: int
    points: list[Point]


class Difference(msgspec.Struct, kw_only=True):
    """A value less that of the baseline, and the ends of its 95 % interval."""

    name: str
    labels: dict[str, str]
    difference: float
    lower: float
    upper: float


class Headline(msgspec.Struct, kw_only=True):
    """The headline of a predictor, and its difference from the baseline."""

    name: str
    value: float
    lower: float | UnsetType = UNSET
    upper: float | UnsetType = UNSET
    difference: float | UnsetType = UNSET
    difference_lower: float | UnsetType = UNSET
    difference_upper: float | UnsetType = UNSET


class PredictorReading(msgspec.Struct, kw_only=True):
    """A predictor beside the others; that which is the baseline has no differences."""

    predictor: str
    headline: Headline | None
    support: float
    values: list[Value]
    differences: list[Difference]


class Comparison(msgspec.Struct, kw_only=True):
    """The predictors of one model of a deployment, in one window."""

    model: str
    window: str
    headline: str | None
    baseline: str
    predictors: list[PredictorReading]


class Comparisons(msgspec.Struct, kw_only=True):
    """The comparisons of a deployment, by model."""

    comparisons: list[Comparison]


def path_of(labels: Labels) -> str:
    """The path of a series."""
    return "/".join((PATH, *(quote(part_of(label), safe="") for label in labels)))


def value_of(sample: Sample, support: float) -> Value:
    """A sample of sums with this support as a value."""
    lower, upper = (UNSET, UNSET) if sample.interval is None else map(float, sample.interval)
    rests_on = support if sample.support is None else sample.support
    labels = {name: str(label) for name, label in sample.labels.items()}
    return Value(name=f"model_{sample.name}", labels=labels, value=float(sample.value), lower=lower, upper=upper, support=float(rests_on))


def values_of(reader: Reader, series: Series, sums: Sums) -> list[Value]:
    """All values that can be read from sums."""
    support = sums.get(PAIRS, 0.0)
    return [value_of(sample, support) for sample in reader.values(series, sums)]


def is_of_server(name: str) -> bool:
    """Whether this is what the server itself says of every series, whatever its metric model."""
    return name.startswith(OF_SERVER)


def headline_among(values: Iterable[Value]) -> Value | None:
    """The same of values that were read already."""
    first = next((value for value in values if value.name != "model_support"), None)
    return None if first is None or is_of_server(first.name) else first


def reading_of(reader: Reader, series: Series, slices: Iterable[Series], ever: Sums, windows: Mapping[str, WindowReading]) -> Reading:
    """A series with what its ledger of all that was applied and its windows say."""
    scoring, pivot = series.identity.scoring, series.parameters.get("pivot")
    parameters = Parameters(
        threshold=scoring.threshold,
        class_names=list(scoring.class_names),
        max_classes=scoring.max_classes,
        classes=reader.exported(series),
        pivot=UNSET if pivot is None else float(pivot),
    )
    first = next((value.name for window in windows.values() if (value := headline_among(window.values)) is not None), None)
    part = series.identity.slice or UNSET
    return Reading(
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


def window_of(reader: Reader, series: Series, sums: Sums, span: tuple[float, float], tables: Mapping[str, Table] | None) -> WindowReading:
    """A series in one window that covers this span of time."""
    support, logged = sums.get(PAIRS, 0.0), sums.get(LOGGED, 0.0)
    return WindowReading(
        since=span[0],
        until=span[1],
        support=support,
        coverage=support / logged if logged > 0 and support <= logged else UNSET,
        values=values_of(reader, series, sums),
        confusion=_confusion(reader, series, sums),
        tables=UNSET if tables is None else dict(tables),
    )


def class_order(label: str) -> tuple[bool, bool, int, str]:
    """Numbers by their size, then names; what stands for other classes last."""
    is_number = label.isdecimal() and len(label) < 19
    return label == OTHER_CLASSES, not is_number, int(label) if is_number else 0, label


def _confusion(reader: Reader, series: Series, sums: Sums) -> Confusion | UnsetType:
    """The matrix of a classification: of the classes that occur; those without a place in the matrix are one, the last."""
    cells = {
        (sample.labels["truth"], sample.labels["prediction"]): float(sample.value)
        for sample in reader.counts(series, sums, {})
        if sample.name == "confusion" and sample.labels.keys() == {"truth", "prediction"}
    }
    if not cells:
        return UNSET
    ordered = sorted({label for cell in cells for label in cell}, key=class_order)
    return Confusion(classes=ordered, counts=[[cells.get((truth, prediction), 0.0) for prediction in ordered] for truth in ordered])


def with_costs(tables: Mapping[str, Table], false_positive: float, false_negative: float) -> dict[str, Table]:
    """The tables with the mean cost of a pair at each threshold."""
    return {name: [_with_cost(row, false_positive, false_negative) for row in rows] for name, rows in tables.items()}


def _with_cost(row: dict[str, str | float], false_positive: float, false_negative: float) -> dict[str, str | float]:
    fp, fn, *right = (row.get(name) for name in ("fp", "fn", "tp", "tn"))
    counts = [count for count in (fp, fn, *right) if isinstance(count, (int, float))]
    if len(counts) < 4 or not (pairs := sum(counts)):
        return row
    return {**row, "cost": (false_positive * counts[0] + false_negative * counts[1]) / pairs}
