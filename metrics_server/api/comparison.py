"""Comparison: the predictors of a deployment side by side in one window, such as a canary and what it may replace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from metrics_server.api.responses import headline_among, interval_of
from metrics_server.api.schema import Comparison, Difference, Headline, MetricValue, PredictorReport
from metrics_server.metrics.confidence import difference_interval
from metrics_server.series.series import Labels

_Key = tuple[str, tuple[tuple[str, str], ...]]


def baselines_of(
    first_seen_at: Mapping[Labels, float], declared: Callable[[Labels], str | None]
) -> dict[tuple[str, str, str], str]:
    """Returns the predictor that the others are compared with, by namespace, deployment and model.

    It is the declared one if that was seen, else the one that was seen first: a canary comes after what it may replace,
    however its name sorts and however many labels it gets.
    """
    baselines: dict[tuple[str, str, str], Labels] = {}
    for labels in sorted(first_seen_at, key=lambda one: (declared(one) != one.predictor, first_seen_at[one])):
        baselines.setdefault(labels.group, labels)
    return {group: labels.predictor for group, labels in baselines.items()}


def comparison_of(model: str, window: str, values: Mapping[str, Sequence[MetricValue]], baseline: str) -> Comparison:
    """Compares predictors by their values, given by name of the predictor.

    With a baseline that has no values there are no differences. The intervals take the pairs of two predictors as
    independent, as they are when each request goes to one of them.
    """
    by_support = sorted(values, key=lambda predictor: (-_support(values[predictor]), predictor))
    of_baseline = values.get(baseline, ())
    headlines = filter(None, map(headline_among, (of_baseline, *(values[predictor] for predictor in by_support))))
    headline = next((value.name for value in headlines), None)
    return Comparison(
        model=model,
        window=window,
        headline=headline,
        baseline=baseline,
        predictors=[
            _report(predictor, values[predictor], () if predictor == baseline else of_baseline, headline)
            for predictor in sorted(values)
        ],
    )


def _report(
    predictor: str, values: Sequence[MetricValue], of_baseline: Iterable[MetricValue], headline: str | None
) -> PredictorReport:
    differences = list(_differences(values, of_baseline))
    headline_value = next((value for value in values if value.name == headline and not value.labels), None)
    return PredictorReport(
        predictor=predictor,
        headline=None if headline_value is None else _headline(headline_value, differences),
        support=_support(values),
        values=list(values),
        differences=differences,
    )


def _headline(value: MetricValue, differences: Iterable[Difference]) -> Headline:
    headline = Headline(name=value.name, value=value.value, lower=value.lower, upper=value.upper)
    for one in differences:
        if one.name == value.name and one.labels == value.labels:
            headline.difference = one.difference
            headline.difference_lower, headline.difference_upper = one.lower, one.upper
    return headline


def _differences(values: Iterable[MetricValue], of_baseline: Iterable[MetricValue]) -> Iterator[Difference]:
    """Yields the difference of each value that both predictors have with an interval."""
    others = {_key(value): value for value in of_baseline}
    for value in values:
        other = others.get(_key(value))
        ours, theirs = interval_of(value), None if other is None else interval_of(other)
        if other is None or ours is None or theirs is None:
            continue
        lower, upper = difference_interval(value.value, ours, other.value, theirs)
        difference = value.value - other.value
        yield Difference(name=value.name, labels=value.labels, difference=difference, lower=lower, upper=upper)


def _key(value: MetricValue) -> _Key:
    return value.name, tuple(sorted(value.labels.items()))


def _support(values: Iterable[MetricValue]) -> float:
    return next((value.value for value in values if value.name == "model_support"), 0.0)
