"""Comparison: the predictors of a deployment side by side in one window, such as a canary and what it may replace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import UNSET

from metrics_server.api.responses import headline_among
from metrics_server.api.schema import Comparison, Difference, Headline, MetricValue, PredictorReport
from metrics_server.metrics.confidence import of_difference

_Key = tuple[str, tuple[tuple[str, str], ...]]


def comparison_of(
    model: str, window: str, read: Mapping[str, Sequence[MetricValue]], baseline: str | None
) -> Comparison:
    """Compares the values of predictors, given by name.

    Without a baseline it is the predictor of the largest support; of equal ones, the first by name. One that is not
    there is compared with nothing. The intervals take the pairs of two predictors as independent, as they are when each
    request goes to one of them.
    """
    by_support = sorted(read, key=lambda name: (-_support(read[name]), name))
    against = by_support[0] if baseline is None else baseline
    base = read.get(against, ())
    first = headline_among(base) or next(filter(None, (headline_among(read[name]) for name in by_support)), None)
    name = None if first is None else first.name
    rows = [_row(predictor, read[predictor], () if predictor == against else base, name) for predictor in sorted(read)]
    return Comparison(model=model, window=window, headline=name, baseline=against, predictors=rows)


def _row(
    predictor: str, values: Sequence[MetricValue], base: Iterable[MetricValue], headline: str | None
) -> PredictorReport:
    differences = list(_differences(values, base))
    shown = next((value for value in values if value.name == headline and not value.labels), None)
    return PredictorReport(
        predictor=predictor,
        headline=None if shown is None else _headline(shown, differences),
        support=_support(values),
        values=list(values),
        differences=differences,
    )


def _headline(value: MetricValue, differences: Iterable[Difference]) -> Headline:
    found = Headline(name=value.name, value=value.value, lower=value.lower, upper=value.upper)
    for one in differences:
        if one.name == value.name and one.labels == value.labels:
            found.difference, found.difference_lower, found.difference_upper = one.difference, one.lower, one.upper
    return found


def _differences(values: Iterable[MetricValue], base: Iterable[MetricValue]) -> Iterator[Difference]:
    """Of the values that both sides have with an interval."""
    others = {_key(value): value for value in base}
    for value in values:
        other = others.get(_key(value))
        if (
            other is None
            or value.lower is UNSET
            or value.upper is UNSET
            or other.lower is UNSET
            or other.upper is UNSET
        ):
            continue
        lower, upper = of_difference(value.value, (value.lower, value.upper), other.value, (other.lower, other.upper))
        difference = value.value - other.value
        yield Difference(name=value.name, labels=value.labels, difference=difference, lower=lower, upper=upper)


def _key(value: MetricValue) -> _Key:
    return value.name, tuple(sorted(value.labels.items()))


def _support(values: Iterable[MetricValue]) -> float:
    return next((value.value for value in values if value.name == "model_support"), 0.0)
