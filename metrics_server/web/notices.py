"""What deserves a look: the notices of each series, and the order that they give the series in.

All of it is read from the running totals, so that it costs nothing to ask often.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from metrics_server.api.schema import MetricValue, SeriesSummary
from metrics_server.metrics.confidence import of_difference
from metrics_server.metrics.labels import LabelStatus
from metrics_server.series.families import direction_of
from metrics_server.web import formatting as wording
from metrics_server.web.chart.chart import ends_of, metric_title, shown

BAD, WARN, NOTE = 2, 1, 0
FEW_LABELS = 30.0  # below it an interval of 95 % is wider than most differences that matter
LOW_COVERAGE = 0.1
MANY_MISMATCHES = 0.01  # of the truths
MANY_PREDICTIONS = 50.0  # so many without a label are worth a word


class Notice(NamedTuple):
    """Something worth a look."""

    severity: int
    text: str


class Ranked(NamedTuple):
    """A series with its notices, the gravest first."""

    entry: SeriesSummary
    notices: list[Notice]

    @property
    def worst(self) -> int:
        """The severity of the gravest notice, -1 without any."""
        return self.notices[0].severity if self.notices else -1


def ranked(entries: Sequence[SeriesSummary], window: str, windows: Mapping[str, int], now: float) -> list[Ranked]:
    """The series, those that need attention most first; of equal ones in the order of their labels.

    Args:
        entries: all predictors of a deployment must be among them, to be compared.
        window: the window that is looked at.
        windows: all of them with their seconds.
        now: Unix seconds.
    """
    baselines = _baselines(entries, window)
    found = []
    for entry in entries:
        notices = sorted(
            _notices(entry, baselines[_group(entry)], window, windows, now), key=lambda notice: -notice.severity
        )
        found.append(Ranked(entry, notices))
    return sorted(found, key=lambda one: [-notice.severity for notice in one.notices] + [1])


def worse(value: MetricValue, than: MetricValue) -> tuple[float, float] | None:
    """The ends of how much worse one value is than the same of other pairs, as numbers above 0; None if that is open to
    doubt.
    """
    direction, ours, theirs = direction_of(value.name), ends_of(value), ends_of(than)
    if (value.name, value.labels) != (than.name, than.labels) or not direction or ours is None or theirs is None:
        return None
    if min(value.support, than.support) < FEW_LABELS:  # an interval of so few says too often what is not so
        return None
    lower, upper = sorted(-direction * end for end in of_difference(value.value, ours, than.value, theirs))
    return (lower, upper) if lower > 0 else None


def _group(entry: SeriesSummary) -> tuple[str, str, str]:
    return entry.namespace, entry.deployment, entry.model


def _baselines(entries: Iterable[SeriesSummary], window: str) -> dict[tuple[str, str, str], SeriesSummary]:
    """Of each deployment and model, the predictor of the largest support; of equal ones, the first."""
    found: dict[tuple[str, str, str], SeriesSummary] = {}
    for entry in entries:
        known = found.setdefault(_group(entry), entry)
        if entry.windows[window].support > known.windows[window].support:
            found[_group(entry)] = entry
    return found


def _notices(
    entry: SeriesSummary, baseline: SeriesSummary, window: str, windows: Mapping[str, int], now: float
) -> Iterator[Notice]:
    here, longest = entry.windows[window], max(windows, key=lambda name: windows[name])
    if here.headline is not None:
        yield from _of_predictor(here.headline, entry, baseline, window)
        yield from _of_time(here.headline, entry.windows[longest].headline, longest)
    if mismatched := entry.labels.get(LabelStatus.TASK_MISMATCH):
        text = f"{wording.count(mismatched)} truths so far did not fit the task {entry.task}: --storage_uri, or the configuration file"
        severity = WARN if mismatched >= MANY_MISMATCHES * sum(entry.labels.values()) else NOTE
        yield Notice(severity, f"{text} for this deployment, can name another metric model")
    yield from _of_labels(entry, window, windows[window], now)


def _of_predictor(value: MetricValue, entry: SeriesSummary, baseline: SeriesSummary, window: str) -> Iterator[Notice]:
    other = baseline.windows[window].headline
    if baseline is not entry and other is not None and (by := worse(value, other)) is not None:
        difference, ends = abs(value.value - other.value), " to ".join(wording.number(end, by) for end in by)
        amount = (
            f"{wording.number(difference, by)} (95 %: {ends}) {'lower' if direction_of(value.name) > 0 else 'higher'}"
        )
        yield Notice(
            BAD,
            f"{metric_title(value.name)} is {amount} than that of predictor {baseline.predictor or wording.UNNAMED}",
        )


def _of_time(value: MetricValue, longer: MetricValue | None, name: str) -> Iterator[Notice]:
    """A window is part of the longer one, so the difference is, if anything, larger than this says."""
    if longer is not None and worse(value, longer) is not None:
        yield Notice(BAD, f"{metric_title(value.name)} {shown(value)} is worse than the {shown(longer)} of {name}")


def _of_labels(entry: SeriesSummary, window: str, seconds: int, now: float) -> Iterator[Notice]:
    here = entry.windows[window]
    seen = max(entry.last_prediction_at or 0.0, entry.last_label_at or 0.0)
    if not here.predictions and not here.support and not here.rewards:
        if seen:
            yield Notice(WARN, f"no prediction was made in {window}; the last event came {wording.ago(seen, now)}")
    elif not here.support:
        if here.predictions >= MANY_PREDICTIONS and not here.rewards:
            yield from _unlabelled(entry, here.predictions, now - seconds, now)
    elif here.predictions >= MANY_PREDICTIONS and here.support < LOW_COVERAGE * here.predictions:
        yield Notice(WARN, f"only {wording.percent(here.support / here.predictions)} of the predictions are labelled")
    elif here.support < FEW_LABELS:
        yield Notice(NOTE, f"few labels: {wording.count(here.support)}")


def _unlabelled(entry: SeriesSummary, predictions: float, since: float, now: float) -> Iterator[Notice]:
    """Labels that come, but not yet for these predictions, are only late."""
    none = f"no labels yet for {wording.count(predictions)} predictions"
    if entry.last_label_at is None:
        yield Notice(WARN, f"{none}; none has ever come")
    else:
        severity = NOTE if entry.last_label_at >= since else WARN
        yield Notice(severity, f"{none}; the last came {wording.ago(entry.last_label_at, now)}")
