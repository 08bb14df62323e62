"""Notices: what deserves a look about a series, and the order of series by their notices.

All notices are made from the running totals, so that they may be asked for often.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import UNSET

from metrics_server.api.responses import interval_of
from metrics_server.api.schema import FollowedRequests, MetricValue, SeriesSummary, WindowSummary
from metrics_server.metrics.confidence import difference_interval
from metrics_server.metrics.labels import LabelStatus
from metrics_server.series.families import direction_of
from metrics_server.web import formatting
from metrics_server.web.chart.chart import metric_title, value_text

BAD, WARN, NOTE = 2, 1, 0
FEW_LABELS = 30.0  # below it an interval of 95 % is wider than most differences that matter
LOW_COVERAGE = 0.1
MANY_MISMATCHES = 0.01  # of the truths
INCOMPLETE = 0.1  # of the requests
MANY_DEPLOYMENTS = 5
MANY_PREDICTIONS = 50.0  # so many without a label are worth a notice


class Notice(NamedTuple):
    """Something worth a look."""

    severity: int
    text: str


class Ranked(NamedTuple):
    """A series with its notices, the gravest first."""

    series: SeriesSummary
    notices: list[Notice]

    @property
    def worst(self) -> int:
        """The severity of the gravest notice, -1 without any."""
        return self.notices[0].severity if self.notices else -1


def ranked(series: Sequence[SeriesSummary], window: str, windows: Mapping[str, int], now: float) -> list[Ranked]:
    """Sorts series by their notices, the gravest first; equal ones stay in the order of their labels.

    Args:
        series: all predictors of a deployment must be among them, to be compared.
        window: the window that the page shows.
        windows: all windows with their seconds.
        now: Unix seconds.
    """
    baselines = {_group(one): one for one in series if one.predictor == one.baseline}
    unsorted = []
    for one in series:
        notices = sorted(
            _notices(one, baselines[_group(one)], window, windows, now), key=lambda notice: -notice.severity
        )
        unsorted.append(Ranked(one, notices))
    return sorted(unsorted, key=lambda one: [-notice.severity for notice in one.notices] + [1])


def of_overdue_truths(rows: float) -> Iterator[Notice]:
    """Warns of truths that wait under ids that no prediction has, and says what they lack."""
    if rows:
        have = "truth has" if rows == 1 else "truths have"
        yield Notice(
            WARN,
            f"{formatting.count(rows)} {have} waited for more than an hour under an id that no prediction has, such as "
            "that of the feedback call itself: send the response along, or the request id of the prediction, as the "
            "header Seldon-Puid or as meta.puid",
        )


def of_requests(followed: Iterable[FollowedRequests]) -> Iterator[Notice]:
    """Warns of the deployments with many requests that no response followed, the most first."""
    incomplete = [
        one for one in followed if one.unanswered and one.unanswered >= INCOMPLETE * (one.answered + one.unanswered)
    ]
    incomplete.sort(key=lambda one: -one.unanswered)
    for one in incomplete[:MANY_DEPLOYMENTS]:
        yield Notice(WARN, _of_unanswered(one))
    if (left := len(incomplete) - MANY_DEPLOYMENTS) > 0:
        yield Notice(WARN, f"{left} more deployments log requests without responses")


def _of_unanswered(one: FollowedRequests) -> str:
    name = "/".join(filter(None, (one.namespace, one.deployment))) or formatting.UNNAMED
    seen = f"{formatting.count(one.unanswered)} of {formatting.count(one.answered + one.unanswered)}"
    text = f"{name}: {seen} requests without responses since the start"
    if one.answered:
        return f"{text}; they failed, or their responses were not logged, and no truth can be joined to them"
    return (
        f"{text}; no truth can be joined. The logger needs the mode all or response, and KServe's batcher has to be "
        "without a logger, or it logs no responses"
    )


def worse(value: MetricValue, than: MetricValue) -> tuple[float, float] | None:
    """Returns the 95 % interval of how much worse a value is than the same value of other pairs.

    Both ends are above 0. None unless the value is certainly worse.
    """
    direction, ours, theirs = direction_of(value.name), interval_of(value), interval_of(than)
    if (value.name, value.labels) != (than.name, than.labels) or not direction or ours is None or theirs is None:
        return None
    if min(value.support, than.support) < FEW_LABELS:  # intervals of so few pairs raise too many false alarms
        return None
    lower, upper = sorted(-direction * end for end in difference_interval(value.value, ours, than.value, theirs))
    return (lower, upper) if lower > 0 else None


def _group(series: SeriesSummary) -> tuple[str, str, str]:
    return series.namespace, series.deployment, series.model


def _notices(
    series: SeriesSummary, baseline: SeriesSummary, window: str, windows: Mapping[str, int], now: float
) -> Iterator[Notice]:
    headline, longest = series.windows[window].headline, max(windows, key=lambda name: windows[name])
    if series.windows[window].indexes is not UNSET:  # that no pair can be right is not the model's doing
        yield _of_vocabularies(series.windows[window])
    elif headline is not None:
        yield from _against_predictor(headline, series, baseline, window)
        if not series.objectives:
            yield from _against_time(headline, series.windows[longest].headline, longest)
    yield from _of_objectives(series, now)
    yield from _of_mismatches(series)
    yield from _of_labels(series, window, windows[window], now)


def _of_vocabularies(in_window: WindowSummary) -> Notice:
    names = "truths" if in_window.indexes == "predictions" else "predictions"
    return Notice(
        WARN,
        f"all {in_window.indexes} are indexes of classes and all {names} are names, so none can be right: "
        "--class_names says which index has which name",
    )


def _against_predictor(
    value: MetricValue, series: SeriesSummary, baseline: SeriesSummary, window: str
) -> Iterator[Notice]:
    other = baseline.windows[window].headline
    if baseline is series or other is None or (interval := worse(value, other)) is None:
        return
    difference = formatting.number(abs(value.value - other.value), interval)
    ends = " to ".join(formatting.number(end, interval) for end in interval)
    comparative = "lower" if direction_of(value.name) > 0 else "higher"
    predictor = baseline.predictor or formatting.UNNAMED
    yield Notice(
        BAD,
        f"{metric_title(value.name)} is {difference} (95 %: {ends}) {comparative} than that of predictor {predictor}",
    )


def _against_time(value: MetricValue, longer: MetricValue | None, name: str) -> Iterator[Notice]:
    """Compares a window with the longest one, which includes it: so the true difference is, if anything, larger."""
    if longer is not None and worse(value, longer) is not None:
        title = metric_title(value.name)
        yield Notice(BAD, f"{title} {value_text(value)} is worse than the {value_text(longer)} of {name}")


def _of_objectives(series: SeriesSummary, now: float) -> Iterator[Notice]:
    for one in series.objectives:
        if one.degraded and one.since is not UNSET:
            side = "below" if direction_of(one.metric) > 0 else "above"
            years = formatting.number(1 / one.false_alarms_a_year)
            yield Notice(
                BAD,
                f"{metric_title(one.metric)} is {side} its objective of {formatting.number(one.level)} since"
                f" {formatting.moment(one.since)}, {formatting.ago(one.since, now)}; while it is met, that"
                f" takes {years} years or more on average",
            )


def _of_mismatches(series: SeriesSummary) -> Iterator[Notice]:
    if mismatched := series.labels.get(LabelStatus.TASK_MISMATCH):
        severity = WARN if mismatched >= MANY_MISMATCHES * sum(series.labels.values()) else NOTE
        yield Notice(
            severity,
            f"{formatting.count(mismatched)} truths so far did not fit the task {series.task}: --storage_uri, "
            "or the configuration file for this deployment, can name another metric model",
        )


def _of_labels(series: SeriesSummary, window: str, seconds: int, now: float) -> Iterator[Notice]:
    """Yields at most one notice: of silence, of no labels at all, or of few."""
    in_window = series.windows[window]
    if in_window.support:
        yield from _of_coverage(in_window)
    elif not in_window.predictions and not in_window.rewards:
        yield from _of_silence(series, window, now)
    elif in_window.predictions >= MANY_PREDICTIONS and not in_window.rewards:
        yield from _unlabelled(series, in_window.predictions, now - seconds, now)


def _of_coverage(in_window: WindowSummary) -> Iterator[Notice]:
    is_low = in_window.support < LOW_COVERAGE * in_window.predictions
    if is_low and in_window.predictions >= MANY_PREDICTIONS:
        coverage = formatting.percent(in_window.support / in_window.predictions)
        yield Notice(WARN, f"only {coverage} of the predictions are labelled")
    elif in_window.support < FEW_LABELS:
        yield Notice(NOTE, f"few labels: {formatting.count(in_window.support)}")


def _of_silence(series: SeriesSummary, window: str, now: float) -> Iterator[Notice]:
    if last_event_at := max(series.last_prediction_at or 0.0, series.last_label_at or 0.0):
        last = formatting.ago(last_event_at, now)
        yield Notice(WARN, f"no prediction was made in {window}; the last event came {last}")


def _unlabelled(series: SeriesSummary, predictions: float, since: float, now: float) -> Iterator[Notice]:
    """Warns of predictions without any label; labels that came for earlier ones are only late, which is a note."""
    none = f"no labels yet for {formatting.count(predictions)} predictions"
    if series.last_label_at is None:
        yield Notice(WARN, f"{none}; none has ever come")
    else:
        severity = NOTE if series.last_label_at >= since else WARN
        yield Notice(severity, f"{none}; the last came {formatting.ago(series.last_label_at, now)}")
