"""Readings of a confusion matrix: what all classification models yield.

Names and formulas are scikit-learn's. A value whose denominator is 0 is undefined and not yielded, where scikit-learn
would warn and answer 0; averages are taken over the classes for which the value is defined (its `zero_division=nan`).

Every value is a smooth function of the margins of the matrix that does not change when all counts are doubled; so its
variance is Σ count · gradient² over the cells (the delta method), and `metrics_server.metrics.confidence` makes the
interval of it. For the macro F1 that is the interval of Takahashi, Yamamoto, Kuchiba, Koyama 2022, and for the accuracy
Wilson's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from cm_models import vocabulary
from cm_models.confusion import Matrix
from metrics_server.metrics import (
    ROUNDING,
    SELECTION,
    Array,
    AsymptoticEstimate,
    Families,
    GaugeSpec,
    Interval,
    Rate,
    RatioMean,
    Sample,
    SequentialEstimate,
    correlation_interval,
    ratio_interval,
    ratio_means,
    share_estimate,
    wilson_interval,
)


class Gradient(NamedTuple):
    """The derivatives of a value by the hits, support and predictions of each class, shape (k,), and by the number of
    pairs.
    """

    hits: Array
    support: Array
    predicted: Array
    pairs: float = 0.0


class Ratio(NamedTuple):
    """A ratio of each class: hits · `hits` / (support · `support` + predicted · `predicted`)."""

    name: str
    hits: float
    support: float
    predicted: float


# tp / (tp + fp), tp / (tp + fn), and 2 tp / (2 tp + fp + fn), their harmonic mean.
RATIOS = (Ratio("precision", 1, 0, 1), Ratio("recall", 1, 1, 0), Ratio("f1", 2, 1, 1))
# What a hit, a true and a predicted pair of a class count for in them; shape (3, 1) each.
_HIT, _TRUE, _PREDICTED = np.array([ratio[1:] for ratio in RATIOS], float).T[:, :, None]
_EITHER = _TRUE + _PREDICTED


def _ratios(name: str, of_a_class: str) -> dict[str, GaugeSpec]:
    """A ratio of classes and its averages over them."""
    mean = f"Mean {name} of the classes"
    return {
        f"{name}_ratio": GaugeSpec(f"{of_a_class} of a class, or of a label of many.", ("class",), better=1),
        f"{name}_micro_ratio": GaugeSpec(
            f"{of_a_class} of all classes together; of one label each the accuracy.", has_interval=True, better=1
        ),
        f"{name}_macro_ratio": GaugeSpec(f"{mean} for which it is defined.", has_interval=True, better=1),
        f"{name}_weighted_ratio": GaugeSpec(f"{mean} weighted by their support.", has_interval=True, better=1),
    }


RATIO_FAMILIES: Families = {
    **_ratios("precision", "tp / (tp + fp)"),
    **_ratios("recall", "tp / (tp + fn)"),
    **_ratios("f1", "2 tp / (2 tp + fp + fn)"),
}
FAMILIES: Families = {
    "accuracy_ratio": GaugeSpec("Share of labelled predictions that are right.", has_interval=True, better=1),
    "balanced_accuracy_ratio": GaugeSpec("Mean recall of the classes that occur.", has_interval=True, better=1),
    **RATIO_FAMILIES,
    **vocabulary.FAMILIES,
    "specificity_ratio": GaugeSpec("tn / (tn + fp) of a class.", ("class",), better=1),
    "matthews_correlation": GaugeSpec("Correlation of truth and prediction, -1 to 1.", has_interval=True, better=1),
    "cohen_kappa": GaugeSpec("Agreement beyond chance, -1 to 1.", has_interval=True, better=1),
}


class Overall(NamedTuple):
    """A value of the whole matrix.

    Attributes:
        names: of its gauges; macro recall is balanced accuracy too.
        value: a share from 0 to 1, or a coefficient from -1 to 1.
        gradient: of which `readings` makes the variance, for all values at once.
        interval: makes the 95 % interval of the variance.
    """

    names: tuple[str, ...]
    value: float
    gradient: Gradient
    interval: Callable[[float], Interval]


def readings(matrix: Matrix, exported: Sequence[str]) -> Iterator[Sample]:
    """Yields all values of a matrix, the accuracy first; nothing before the first pair.

    Args:
        matrix: of a window.
        exported: the classes with values of their own.
    """
    if matrix.pairs <= 0:
        return
    accuracy = matrix.correct / matrix.pairs
    bounds = wilson_interval(matrix.correct, matrix.pairs, matrix.effective_weight)
    yield Sample("accuracy_ratio", {}, accuracy, bounds, matrix.pairs)
    yield from vocabulary.readings(matrix)
    for ratio in RATIOS:  # with one label a pair, they are all the accuracy
        yield Sample(f"{ratio.name}_micro_ratio", {}, accuracy, None, matrix.pairs)
    yield from _overall(matrix)
    yield from per_class(matrix, exported)


def _overall(matrix: Matrix) -> Iterator[Sample]:
    """Yields the averages over classes and the coefficients, whose variances are made together."""
    found = list(_averages(matrix))
    found += [overall for overall in (_kappa(matrix), _matthews(matrix)) if overall is not None]
    for overall, variance in zip(found, _variances(matrix, [overall.gradient for overall in found]), strict=True):
        bounds = overall.interval(variance)
        for name in overall.names:
            yield Sample(name, {}, overall.value, bounds, matrix.pairs)


def estimate(name: str, matrix: Matrix) -> SequentialEstimate | None:
    """The estimate, for looks at any time, of the accuracy or of an average over classes; None of another value.

    With weights the accuracy is a mean. An average asks for truths of every class that occurs.
    """
    if name == "accuracy_ratio":
        return share_estimate(matrix.correct, matrix.pairs, matrix.effective_weight)
    for overall in _averages(matrix):
        if name in overall.names:
            variance = _variances(matrix, [overall.gradient])[0]
            truths = dict(zip(matrix.labels, (matrix.support * matrix.effective_weight).tolist(), strict=True))
            return AsymptoticEstimate(overall.value, variance, matrix.pairs * matrix.effective_weight, truths)
    return None


def rates(matrix: Matrix, positives: Iterable[str]) -> Iterator[Rate]:
    """Yields the rates that groups are compared by: the accuracy, and with each of these classes as the positive one
    the selection rate (predicted as it), the true and the false positive rate; without what is undefined.
    """
    pairs = matrix.pairs
    found = [Rate("accuracy", {}, matrix.correct, pairs)]
    margins = zip(matrix.hits.tolist(), matrix.support.tolist(), matrix.predicted.tolist(), strict=True)
    by_class = dict(zip(matrix.labels, margins, strict=True))
    for label in positives:
        hits, support, predicted = by_class.get(label, (0.0, 0.0, 0.0))
        labels = {"class": label}
        found.append(Rate(SELECTION, labels, predicted, pairs))
        found.append(Rate("true_positive_rate", labels, hits, support))
        found.append(Rate("false_positive_rate", labels, max(0.0, predicted - hits), pairs - support))
    share = matrix.effective_weight
    for rate in found:
        if rate.trials > ROUNDING * pairs:
            yield rate._replace(successes=min(rate.successes, rate.trials) * share, trials=rate.trials * share)


def per_class(matrix: Matrix, exported: Sequence[str]) -> Iterator[Sample]:
    """Yields precision, recall, F1 and specificity of the exported classes, and of the others together: each with the
    pairs in its denominator as its support (of F1 half of them), and not while there are none.

    Intervals: Wilson's; of F1 by the delta method.
    """
    share = matrix.effective_weight
    for label, hits, support, predicted, within in matrix.tallies(exported):
        labels = {"class": label}
        if predicted:
            yield Sample(
                "precision_ratio", labels, hits / predicted, wilson_interval(hits, predicted, share), predicted
            )
        if support:
            yield Sample("recall_ratio", labels, hits / support, wilson_interval(hits, support, share), support)
        if both := support + predicted:
            f1 = 2 * hits / both
            spread = hits * (2 - 2 * f1) ** 2 + (both - 2 * hits) * f1 * f1
            yield Sample(
                "f1_ratio", labels, f1, ratio_interval(f1, spread / both / both / share, both / 2 * share), both / 2
            )
        if (negatives := matrix.pairs - support) > ROUNDING * matrix.pairs:
            rejected = max(0.0, negatives - predicted + within)
            yield Sample(
                "specificity_ratio",
                labels,
                rejected / negatives,
                wilson_interval(rejected, negatives, share),
                negatives,
            )


def _variances(matrix: Matrix, gradients: Sequence[Gradient]) -> list[float]:
    """The variances of values with these gradients."""
    if not gradients:
        return []
    truth, prediction, hit, count = matrix.cells
    hits, support, predicted, pairs = (np.array(part) for part in zip(*gradients, strict=True))
    slope = hits[:, truth] * hit + support[:, truth] + predicted[:, prediction] + pairs[:, None]
    return (slope * slope @ count / matrix.effective_weight).tolist()  # type: ignore[no-any-return]


class _ClassRatios(NamedTuple):
    """The three `RATIOS` of every class, shape (3, k).

    Attributes:
        denominator: in pairs; 0 where the ratio is undefined.
        inverse: of the denominator, or 0.
        values: the ratios, or 0.
    """

    denominator: Array
    inverse: Array
    values: Array

    @classmethod
    def of(cls, matrix: Matrix) -> _ClassRatios:
        denominator = matrix.support * _TRUE + matrix.predicted * _PREDICTED
        inverse = np.divide(1.0, denominator, out=np.zeros_like(denominator), where=denominator > 0)
        return cls(denominator, inverse, matrix.hits * _HIT * inverse)

    def means(self, matrix: Matrix) -> list[RatioMean]:
        """The plain mean of each ratio over the classes."""
        # The variance of a class's own ratio, times the square of its denominator: of hits, misses and false alarms.
        spread = (
            matrix.hits * (_HIT - _EITHER * self.values) ** 2
            + (matrix.support - matrix.hits) * (_TRUE * self.values) ** 2
            + (matrix.predicted - matrix.hits) * (_PREDICTED * self.values) ** 2
        )
        of_one = self.inverse / matrix.effective_weight
        return ratio_means(self.values, spread * self.inverse * of_one, _EITHER * of_one)


def _averages(matrix: Matrix) -> Iterator[Overall]:
    """The macro average of each ratio (all classes alike), and the one weighted by their support where that is defined;
    nothing without a class.
    """
    if not matrix.labels:
        return
    ratios = _ClassRatios.of(matrix)
    defined = ratios.denominator > 0
    # By average, the macro one first, then by ratio and class: shape (2, 3, k).
    weights = defined * np.array([np.ones_like(matrix.support), matrix.support])[:, None]
    totals = weights.sum(axis=2, keepdims=True)
    scale = np.where(totals > 0, totals, 1.0)
    means = (weights * ratios.values).sum(axis=2, keepdims=True) / scale
    slope = weights * ratios.inverse / scale
    fall = slope * ratios.values
    by_support = -_TRUE * fall
    by_support[1] += defined * (ratios.values - means[1]) / scale[1]  # the weights move with it
    macro, weighted = map(_gradients, slope * _HIT, by_support, -_PREDICTED * fall)
    supports = totals[1, :, 0] * matrix.effective_weight
    rows = zip(RATIOS, ratios.means(matrix), macro, means[1, :, 0].tolist(), weighted, supports.tolist(), strict=True)
    for ratio, mean, gradient, value, weighted_gradient, support in rows:
        names = (f"{ratio.name}_macro_ratio", *(("balanced_accuracy_ratio",) if ratio.name == "recall" else ()))
        yield Overall(names, mean.value, gradient, mean.interval)
        if support > 0:
            interval = partial(ratio_interval, value, trials=support)
            yield Overall((f"{ratio.name}_weighted_ratio",), value, weighted_gradient, interval)


def _gradients(hits: Array, support: Array, predicted: Array) -> list[Gradient]:
    """Makes one of each row."""
    return list(map(Gradient, hits, support, predicted))


def _kappa(matrix: Matrix) -> Overall | None:
    """(po - pe) / (1 - pe) with po the accuracy and pe = Σ support · predicted / n² (Cohen 1960); undefined with one
    class only, or blurred ones.
    """
    n = matrix.pairs
    agreed, expected = matrix.correct / n, float(matrix.support @ matrix.predicted) / n / n
    if len(matrix.labels) < 2 or matrix.has_merged_errors:
        return None
    left = 1 - expected
    by_expected = (agreed - 1) / left / left
    gradient = Gradient(
        np.full(len(matrix.labels), 1 / n / left),
        by_expected * matrix.predicted / n / n,
        by_expected * matrix.support / n / n,
        -agreed / n / left - 2 * by_expected * expected / n,
    )
    value = (agreed - expected) / left
    return Overall(
        ("cohen_kappa",), value, gradient, partial(correlation_interval, value, trials=n * matrix.effective_weight)
    )


def _matthews(matrix: Matrix) -> Overall | None:
    """Covariance of the two labels by their deviations (Gorodkin 2004): undefined when either side has one class only,
    or with blurred ones.
    """
    n, correct, support, predicted = matrix.pairs, matrix.correct, matrix.support, matrix.predicted
    of_predicted, of_support = n * n - float(predicted @ predicted), n * n - float(support @ support)
    if np.count_nonzero(support) < 2 or np.count_nonzero(predicted) < 2 or matrix.has_merged_errors:
        return None
    scale = math.sqrt(of_predicted * of_support)
    value = (correct * n - float(support @ predicted)) / scale
    gradient = Gradient(
        np.full(len(matrix.labels), n / scale),
        -predicted / scale + value * support / of_support,
        -support / scale + value * predicted / of_predicted,
        correct / scale - value * n * (1 / of_predicted + 1 / of_support),
    )
    return Overall(
        ("matthews_correlation",),
        value,
        gradient,
        partial(correlation_interval, value, trials=n * matrix.effective_weight),
    )
