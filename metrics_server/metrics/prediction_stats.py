"""Statistics of predictions, labelled or not: two pure functions, like those of a metric model.

Sums:
    output / rows: numeric predictions.
    output / sum, output / square: their sum, and that of their squares.
    output / bin / i, output / zero: see `metrics_server.metrics.log_histogram`.
    output / class / label: predictions of this class.

The mean and the shares are exact; minimum, maximum and quantiles are to 2.5 %, and exact for predictions all alike. The
minimum is never above the mean, nor the mean above the maximum.
"""

from __future__ import annotations

from collections.abc import Iterable

from metrics_server.metrics.confidence import holding, mean_interval, wilson_interval
from metrics_server.metrics.log_histogram import NEARLY_ZERO, LogHistogram, Moments, bin_counts
from metrics_server.metrics.model import OTHER_CLASSES, Sample
from metrics_server.metrics.sums import Sums, component

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

NAME = "output"
ROWS = component(NAME, "rows")
SUM = component(NAME, "sum")
SQUARE = component(NAME, "square")
CLASS = component(NAME, "class", "")


def increments(values: Iterable[tuple[str | None, float | None]]) -> Sums:
    r"""Returns the sums of predictions, each given as (class, number), where None is what it is not.

    >>> sorted(increments([("cat", None), (None, 2.0)]).items())[:2]
    [('output\x1fbin\x1f+15', 1.0), ('output\x1fclass\x1fcat', 1.0)]
    """
    sums: dict[str, float] = {}
    numbers = []
    for label, number in values:
        if label is not None:
            name = CLASS + label
            sums[name] = sums.get(name, 0.0) + 1.0
        if number is not None:
            numbers.append(number if abs(number) >= NEARLY_ZERO else 0.0)
    if numbers:
        sums |= {
            ROWS: float(len(numbers)),
            SUM: float(sum(numbers)),
            SQUARE: float(sum(number * number for number in numbers)),
        }
        sums |= bin_counts(NAME, numbers)
    return sums


def compute(sums: Sums) -> Iterable[Sample]:
    """Yields mean, minimum, maximum and quantiles of numeric predictions, in their unit; nothing before the first.

    The mean has Student's interval; how exact the others are says the top of this module.
    """
    rows, moments = sums.get(ROWS, 0.0), Moments(sums.get(SUM, 0.0), sums.get(SQUARE, 0.0))
    if rows > 0 and (histogram := LogHistogram.of(NAME, sums, moments)) is not None:
        mean = histogram.mean
        bounds = mean_interval(moments.total, moments.squares, rows)
        yield Sample("output_mean", {}, mean, None if bounds is None else holding(mean, bounds), rows)
        yield Sample("output_min", {}, histogram.quantile(0.0), support=rows)
        yield Sample("output_max", {}, histogram.quantile(1.0), support=rows)
        for share in QUANTILES:
            yield Sample("output_quantile", {"q": str(share)}, histogram.quantile(share), support=rows)


def shares(sums: Sums, known: Iterable[str], most: int) -> Iterable[Sample]:
    """Yields the share of each class among predictions that are classes, from 0 to 1, with Wilson's interval.

    Args:
        sums: of the predictions.
        known: the classes of the series, in their order.
        most: so many classes have a value of their own: those that are known, then the others; the rest are
            `__other__`.
    """
    classes = {name[len(CLASS) :]: count for name, count in sums.items() if name.startswith(CLASS)}
    shown = set([*known, *sorted(classes)][:most]) if len(classes) > most else classes
    others = sum(count for label, count in classes.items() if label not in shown)
    predicted = sum(classes.values())
    for label, count in [
        *((label, classes[label]) for label in classes if label in shown),
        *([(OTHER_CLASSES, others)] if others else []),
    ]:
        yield Sample(
            "predicted_class_ratio", {"class": label}, count / predicted, wilson_interval(count, predicted), predicted
        )
