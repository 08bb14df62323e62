"""Readings of a confusion matrix: what all classification models yield.

Names and formulas are scikit-learn's. A value whose denominator is 0 is undefined and not yielded, where scikit-learn would
warn and answer 0; averages are taken over the classes for which the value is defined (its `zero_division=nan`).

Every value is a smooth function of the margins of the matrix that does not change when all counts are doubled; so its variance
is Σ count · gradient² over the cells (the delta method), and `metrics_server.interval` makes the interval of it. For the macro
F1 that is the interval of Takahashi, Yamamoto, Kuchiba, Koyama 2022, and for the accuracy Wilson's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cm_models.confusion import Matrix
from metrics_server.interval import Interval, of_correlation, of_ratio, wilson
from metrics_server.model import Array, Sample


class Gradient(NamedTuple):
    """The derivatives of a value by the hits, support and predictions of each class, and by the number of pairs."""

    hits: Array | float
    support: Array | float
    predicted: Array | float
    pairs: float = 0.0


class Ratio(NamedTuple):
    """A ratio of each class: hits · `hits` / (support · `support` + predicted · `predicted`)."""

    name: str
    hits: float
    support: float
    predicted: float

    def below(self, matrix: Matrix) -> Array:
        """The denominator, by class."""
        return matrix.support * self.support + matrix.predicted * self.predicted


# tp / (tp + fp), tp / (tp + fn), and 2 tp / (2 tp + fp + fn), their harmonic mean.
RATIOS = (Ratio("precision", 1, 0, 1), Ratio("recall", 1, 1, 0), Ratio("f1", 2, 1, 1))


def readings(matrix: Matrix, exported: Sequence[str]) -> Iterator[Sample]:
    """All values, the accuracy first. Nothing before the first pair."""
    if matrix.pairs > 0:
        accuracy = matrix.correct / matrix.pairs
        yield Sample("accuracy_ratio", {}, accuracy, wilson(matrix.correct * matrix.evidence, matrix.pairs * matrix.evidence), matrix.pairs)
        for ratio in RATIOS:  # with one label a pair, they are all the accuracy
            yield Sample(f"{ratio.name}_micro_ratio", {}, accuracy, None, matrix.pairs)
        for ratio in RATIOS:
            yield from _averages(matrix, ratio)
        yield from _coefficient(matrix, "cohen_kappa", _kappa)
        yield from _coefficient(matrix, "matthews_correlation", _matthews)
        yield from per_class(matrix, exported)


def per_class(matrix: Matrix, exported: Sequence[str]) -> Iterator[Sample]:
    """Precision, recall, F1 and specificity of the exported classes, and of the others together."""
    share = matrix.evidence
    for label, hits, support, predicted in matrix.shown(exported):
        labels = {"class": label}
        if predicted:
            yield Sample("precision_ratio", labels, hits / predicted, wilson(hits * share, predicted * share), predicted)
        if support:
            yield Sample("recall_ratio", labels, hits / support, wilson(hits * share, support * share), support)
        if both := support + predicted:
            f1 = 2 * hits / both
            spread = hits * (2 - 2 * f1) ** 2 + (both - 2 * hits) * f1 * f1
            yield Sample("f1_ratio", labels, f1, of_ratio(f1, spread / both / both / share, both / 2 * share), both / 2)
        if (negatives := matrix.pairs - support) > 0:
            rejected = max(0.0, negatives - predicted + hits)
            yield Sample("specificity_ratio", labels, rejected / negatives, wilson(rejected * share, negatives * share), negatives)


def _variance(matrix: Matrix, gradient: Gradient) -> float:
    """The variance of a value with this gradient."""
    truth, prediction, hit, count = matrix.cells
    slope = hit * _each(gradient.hits, truth) + _each(gradient.support, truth) + _each(gradient.predicted, prediction) + gradient.pairs
    return float(count @ (slope * slope)) / matrix.evidence


def _each(by_class: Array | float, at: Array) -> Array | float:
    """The derivative for each cell."""
    return by_class[at] if isinstance(by_class, np.ndarray) else by_class


def _averages(matrix: Matrix, ratio: Ratio) -> Iterator[Sample]:
    """The macro average (all classes alike) and the one weighted by their support."""
    below = ratio.below(matrix)
    defined = below > 0
    if not (count := int(defined.sum())):
        return
    inverse = np.divide(1.0, below, out=np.zeros_like(below), where=defined)
    values = ratio.hits * matrix.hits * inverse

    def interval(value: float, weights: Array, by_support: Array | float, trials: float) -> Interval:
        slope = weights * values * inverse
        gradient = Gradient(ratio.hits * weights * inverse, by_support - ratio.support * slope, -ratio.predicted * slope)
        return of_ratio(value, _variance(matrix, gradient), trials * matrix.evidence)

    macro = float(values.sum()) / count
    scale = ratio.support + ratio.predicted
    # At 0 and 1, where no class varies, as much is known as from the classes' own numbers together.
    bounds = interval(macro, np.full_like(values, 1 / count), 0.0, count * count / (scale * float(inverse.sum())))
    yield Sample(f"{ratio.name}_macro_ratio", {}, macro, bounds, matrix.pairs)
    if ratio.name == "recall":
        yield Sample("balanced_accuracy_ratio", {}, macro, bounds, matrix.pairs)
    support = np.where(defined, matrix.support, 0.0)
    if (total := float(support.sum())) > 0:
        weighted = float(values @ support) / total
        by_support = np.where(defined, values - weighted, 0.0) / total
        bounds = interval(weighted, support / total, by_support, total)
        yield Sample(f"{ratio.name}_weighted_ratio", {}, weighted, bounds, matrix.pairs)


Coefficient = Callable[[Matrix], "tuple[float, Gradient] | None"]


def _coefficient(matrix: Matrix, name: str, of: Coefficient) -> Iterator[Sample]:
    if (found := of(matrix)) is not None:
        value, gradient = found
        bounds = of_correlation(value, _variance(matrix, gradient), matrix.pairs * matrix.evidence)
        yield Sample(name, {}, value, bounds, matrix.pairs)


def _kappa(matrix: Matrix) -> tuple[float, Gradient] | None:
    """(po - pe) / (1 - pe) with po the accuracy and pe = Σ support · predicted / n² (Cohen 1960); undefined when pe is 1."""
    n = matrix.pairs
    agreed, expected = matrix.correct / n, float(matrix.support @ matrix.predicted) / n / n
    if expected >= 1:
        return None
    left = 1 - expected
    by_expected = (agreed - 1) / left / left
    gradient = Gradient(
        1 / n / left,
        by_expected * matrix.predicted / n / n,
        by_expected * matrix.support / n / n,
        -agreed / n / left - 2 * by_expected * expected / n,
    )
    return (agreed - expected) / left, gradient


def _matthews(matrix: Matrix) -> tuple[float, Gradient] | None:
    """Covariance of the two labels by their deviations (Gorodkin 2004): undefined when either side has one class only."""
    n, correct, support, predicted = matrix.pairs, matrix.correct, matrix.support, matrix.predicted
    covariance = correct * n - float(support @ predicted)
    of_predicted, of_support = n * n - float(predicted @ predicted), n * n - float(support @ support)
    if of_predicted <= 0 or of_support <= 0:
        return None
    scale = float(np.sqrt(of_predicted * of_support))
    value = covariance / scale
    gradient = Gradient(
        n / scale,
        -predicted / scale + value * support / of_support,
        -support / scale + value * predicted / of_predicted,
        correct / scale - value * n * (1 / of_predicted + 1 / of_support),
    )
    return value, gradient
