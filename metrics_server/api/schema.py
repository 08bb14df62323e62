"""The types of responses of the JSON API, which the OpenAPI document is made from too."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

Table = list[dict[str, str | float]]


class MetricValue(msgspec.Struct, kw_only=True):
    """A value, named as on /v1/metrics.

    `lower` and `upper` are the ends of its 95 % interval, `support` is the number of pairs that it rests on.
    """

    name: str
    labels: dict[str, str]
    value: float
    lower: float | UnsetType = UNSET
    upper: float | UnsetType = UNSET
    support: float


class Parameters(msgspec.Struct, kw_only=True):
    """The parameters of a series; `classes` are the classes with values of their own."""

    threshold: float
    class_names: list[str]
    max_classes: int
    classes: list[str]
    pivot: float | UnsetType = UNSET


class Confusion(msgspec.Struct, kw_only=True):
    """A confusion matrix: rows are truths, columns predictions, both in the order of `classes`."""

    classes: list[str]
    counts: list[list[float]]


class ValueReport(msgspec.Struct, kw_only=True):
    """What the labelled predictions of a window were worth, by the declared value_matrix; `net` is that of all.

    `lower` and `upper` are the ends of the 95 % interval of `mean`. The best threshold, of two classes with scores, is
    chosen on the very pairs that its value is the mean of: of few pairs it flatters.
    """

    mean: float
    lower: float | UnsetType = UNSET
    upper: float | UnsetType = UNSET
    net: float
    best_threshold: float | UnsetType = UNSET
    best_threshold_value: float | UnsetType = UNSET


class WindowReport(msgspec.Struct, kw_only=True):
    """A series in one window; `coverage` is the share of predictions that are labelled."""

    since: float = msgspec.field(name="from")
    until: float = msgspec.field(name="to")
    support: float
    coverage: float | UnsetType = UNSET
    values: list[MetricValue]
    value: ValueReport | UnsetType = UNSET
    confusion: Confusion | UnsetType = UNSET
    tables: dict[str, Table] | UnsetType = UNSET


class LabelDelay(msgspec.Struct, kw_only=True):
    """The times from predictions to their labels, since the series was made.

    A bucket is a bound in seconds and the number of labels that came up to it, ascending.
    """

    buckets: list[tuple[float, float]]
    count: float
    sum: float


class CustomMetricValue(msgspec.Struct, kw_only=True):
    """A metric that the model tells of itself, named as on /v1/metrics; `labels` are its tags.

    A counter and a gauge have a `value`, and `at` is the time that the gauge's is of. A timer is a histogram, with the
    number of durations and their sum in seconds.
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: dict[str, str]
    value: float | UnsetType = UNSET
    at: float | UnsetType = UNSET
    count: float | UnsetType = UNSET
    sum: float | UnsetType = UNSET


class ObjectiveReport(msgspec.Struct, kw_only=True):
    """What a value should be, and the evidence that it is not any more.

    `evidence` is log10 of the evidence of the last 8 days over the threshold, so `degraded` from 0 on; absent before
    the first hour. `since` is when it begins. `hours` have entered, each once, when its labels had come.
    """

    metric: str
    level: float
    false_alarms_a_year: float
    degraded: bool
    evidence: float | UnsetType = UNSET
    since: float | UnsetType = UNSET
    hours: int


class SeriesReport(msgspec.Struct, kw_only=True):
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
    custom_metrics: list[CustomMetricValue]
    objectives: list[ObjectiveReport]
    windows: dict[str, WindowReport]


class Point(msgspec.Struct, kw_only=True):
    """A series in one step of its history."""

    since: float = msgspec.field(name="from")
    until: float = msgspec.field(name="to")
    support: float
    values: list[MetricValue]


class History(msgspec.Struct, kw_only=True):
    """The steps of a series that hold anything, between `from` and `to`; `step` in seconds."""

    since: float = msgspec.field(name="from")
    until: float = msgspec.field(name="to")
    step: int
    points: list[Point]


class Difference(msgspec.Struct, kw_only=True):
    """A value less the same value of the baseline, and the ends of its 95 % interval."""

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


class PredictorReport(msgspec.Struct, kw_only=True):
    """A predictor beside the others; the baseline has no differences."""

    predictor: str
    headline: Headline | None
    support: float
    values: list[MetricValue]
    differences: list[Difference]


class Comparison(msgspec.Struct, kw_only=True):
    """The predictors of one model of a deployment, in one window."""

    model: str
    window: str
    headline: str | None
    baseline: str
    predictors: list[PredictorReport]


class Comparisons(msgspec.Struct, kw_only=True):
    """The comparisons of a deployment, by model."""

    comparisons: list[Comparison]


class CanaryArm(msgspec.Struct, kw_only=True):
    """One of two predictors that are compared, since both were there.

    `support` are its labelled pairs. `predictions` are rows of the request log so old that their labels were to be
    expected, the same age for both; `labelled` of them have one.
    """

    predictor: str
    value: float | UnsetType = UNSET
    support: float
    predictions: float
    labelled: float


class TrafficShare(msgspec.Struct, kw_only=True):
    """The candidate's share of the rows of both: as declared, as observed, and whether that surely differs."""

    declared: float
    observed: float
    differs: bool


class PairedCounts(msgspec.Struct, kw_only=True):
    """Rows that both answered and both have a label for, and of these, on which the predictor alone was right, or the
    baseline alone.
    """

    both: float
    won: float
    lost: float


class CanaryVerdict(msgspec.Struct, kw_only=True):
    """What the labels say of a predictor against its baseline, right at every look with a chance of 95 %.

    `difference` is how much better the candidate is, of an error how much smaller; its interval holds at all looks
    together. `since` is the first second that is looked at, null while the candidate has not been seen. `candidates`
    share the 5 %. Of `arms` the first is the candidate's. `paired` counts the rows that both answered; where that are
    nearly all of the candidate's, as of a shadow, the verdict is by these alone.
    """

    model: str
    predictor: str
    baseline: str
    metric: str | None
    verdict: Literal["better", "worse", "equivalent", "undecided", "incomparable"]
    detail: str
    since: float | None
    margin: float
    candidates: int
    difference: float | UnsetType = UNSET
    lower: float | UnsetType = UNSET
    upper: float | UnsetType = UNSET
    arms: list[CanaryArm]
    traffic: TrafficShare | UnsetType = UNSET
    paired: PairedCounts | UnsetType = UNSET


class CanaryVerdicts(msgspec.Struct, kw_only=True):
    """The verdicts of a deployment: of each predictor that is not the baseline, by model."""

    verdicts: list[CanaryVerdict]


class GroupRate(msgspec.Struct, kw_only=True):
    """A rate of a group, and how much it differs from that of the reference: `difference` is the group's less the
    reference's, `ratio` the group's by the reference's.

    All intervals are of 95 % and for one look. `holm_p_value` takes into account how many groups are compared.
    """

    name: str
    labels: dict[str, str]
    value: float
    lower: float
    upper: float
    support: float
    difference: float | UnsetType = UNSET
    difference_lower: float | UnsetType = UNSET
    difference_upper: float | UnsetType = UNSET
    ratio: float | UnsetType = UNSET
    ratio_lower: float | UnsetType = UNSET
    ratio_upper: float | UnsetType = UNSET
    p_value: float | UnsetType = UNSET
    holm_p_value: float | UnsetType = UNSET


class Group(msgspec.Struct, kw_only=True):
    """A group, by the value that it has in its dimension; `coverage` is the share of its predictions that are labelled.

    Where coverage differs, so may rates, whatever the model does.
    """

    group: str
    predictions: float
    support: float
    coverage: float | UnsetType = UNSET
    rates: list[GroupRate]


class GroupReport(msgspec.Struct, kw_only=True):
    """The groups of one dimension of a predictor's model, the reference first if it has any predictions.

    `selection_of` tells whether the selection rates are of all logged predictions, or of those with a label; all other
    rates are of those with a label.
    """

    predictor: str
    model: str
    dimension: str
    reference: str
    selection_of: Literal["predictions", "labelled"]
    groups: list[Group]


class Groups(msgspec.Struct, kw_only=True):
    """The groups of a deployment in one window: a report for one look, and nothing to alert on."""

    window: str
    since: float = msgspec.field(name="from")
    until: float = msgspec.field(name="to")
    reports: list[GroupReport]


class WindowSummary(msgspec.Struct, kw_only=True):
    """A series in one window; `headline` is the first value of its metric model, null while there is none.

    `support` are labelled pairs, `predictions` rows of the request log, `rewards` feedback with a reward, all by
    prediction time. `indexes` is there while no pair can be right, because that side of them is all indexes of classes
    and the other all names.
    """

    support: float
    predictions: float
    rewards: float
    headline: MetricValue | None
    indexes: str | UnsetType = UNSET


class SeriesSummary(msgspec.Struct, kw_only=True):
    """A series in the list; `labels` are its rows of truth by status, since the series was made.

    `baseline` is the predictor that those of its deployment and model are compared with, it may be its own.
    """

    namespace: str
    deployment: str
    predictor: str
    model: str
    path: str
    slices: list[str]
    task: str | None
    metric_model: str | None
    created_at: float
    last_prediction_at: float | None
    last_label_at: float | None
    baseline: str
    labels: dict[str, float]
    objectives: list[ObjectiveReport]
    windows: dict[str, WindowSummary]


class FollowedRequests(msgspec.Struct, kw_only=True):
    """Requests of a deployment whose response was waited for, since the start of this process.

    Within 5 minutes `answered` of them had a response in the request log, `unanswered` had none.
    """

    namespace: str
    deployment: str
    answered: int
    unanswered: int


class SeriesList(msgspec.Struct, kw_only=True):
    """All series, or those of a deployment; and `requests` of the deployments that log them."""

    models: list[SeriesSummary]
    requests: list[FollowedRequests]


class Fault(msgspec.Struct):
    """Why a request was refused."""

    reason: str
    detail: str


class Error(msgspec.Struct):
    """What every error answers."""

    error: Fault


class FailedElement(msgspec.Struct):
    """An element of a batch that was refused."""

    index: int
    reason: str
    detail: str


class Status(msgspec.Struct):
    """What became of one statement."""

    status: Literal["accepted", "pending", "duplicate", "erased", "rejected"]
    reason: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class RejectedEvent(msgspec.Struct):
    """An event that was refused."""

    time: float
    reason: str
    detail: str
    id: str | UnsetType = UNSET
    source: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    requestid: str | UnsetType = UNSET
