"""Multilabel: rows of labels, any number of which hold at once, against a score of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from cm_models.classification import RATIO_FAMILIES, RATIOS, Ratio
from cm_models.mean import estimate_of, mean_of
from metrics_server.metrics import (
    ROUNDING,
    SEPARATOR,
    Array,
    AsymptoticEstimate,
    Families,
    GaugeSpec,
    Sample,
    SequentialEstimate,
    Sums,
    component,
    effective_weight,
    quotient_variance,
    ratio_interval,
    share_estimate,
    unseen_variance,
    wilson_interval,
)

COUNTS = ("hits", "support", "predicted")
_PRODUCTS = tuple((a, b) for at, a in enumerate(COUNTS) for b in COUNTS[at:])

FAMILIES: Families = {
    "exact_match_ratio": GaugeSpec(
        "Share of labelled predictions all of whose labels are right.", has_interval=True, better=1
    ),
    "hamming_loss": GaugeSpec("Mean share of a prediction's labels that are wrong.", has_interval=True, better=-1),
    "jaccard_samples_ratio": GaugeSpec(
        "Mean over predictions of the labels that hold and were predicted by those that hold or were; "
        "of predictions with any.",
        has_interval=True,
        better=1,
    ),
    **RATIO_FAMILIES,
}
# Recall weighted by support, Σ support · hits / support, is the micro average too.
_MICRO = {f"{ratio.name}_micro_ratio": ratio for ratio in RATIOS} | {"recall_weighted_ratio": RATIOS[1]}


@dataclass(frozen=True)
class MultiLabel:
    """Readings of the labels predicted for each row, those whose score reaches the threshold, against those that hold.

    Sums (missing ones are 0), where of a row the hits are its labels that hold and were predicted, the support those
    that hold:
        pairs: labelled predictions, n rows.
        exact: rows all of whose labels are right.
        wrong, wrong / square: sum of the share of a row's labels that are wrong, and of its square.
        labelled: rows for which a label holds or was predicted; jaccard, jaccard / square: of these the sum of hits by
        such labels,
            and of its square.
        hits / i, support / i, predicted / i: rows by label, i being its column.
        product / a / b: sum over the rows of the product of two of hits, support and predicted.

    Names and formulas are scikit-learn's. What has the denominator 0 is undefined and not yielded; macro and weighted
    averages are over the labels for which the value is defined (its `zero_division=nan`), the Jaccard index over the
    labelled rows. Oracle: sklearn.metrics.accuracy_score, hamming_loss, precision_recall_fscore_support, jaccard_score.

    The labels of a row are not independent, the rows are. A micro average is a ratio of two sums over rows, with the
    variance of such. The macro and weighted averages would need the products of all pairs of labels; without them,
    their intervals take the labels to err together (the standard deviation of a sum is at most the sum of those of its
    terms), which makes them too wide
    rather than too narrow: of k independent labels up to √k times.

    >>> model = MultiLabel(threshold=0.5)
    >>> scores = np.array([[0.9, 0.6, 0.8], [0.2, 0.7, 0.1]])
    >>> sums = model.increments(np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), scores)
    >>> values = {sample.name: round(sample.value, 3) for sample in model.compute(sums)}
    >>> values["exact_match_ratio"], values["hamming_loss"], values["f1_micro_ratio"]
    (0.5, 0.167, 0.857)

    Args:
        threshold: the lowest score in [0, 1] with which a label is predicted.
        class_names: the labels of the columns; of those beyond them, their index.
        max_exported_classes: values of a label are yielded for the first so many columns.
    """

    threshold: float = 0.5
    class_names: tuple[str, ...] = ()
    max_exported_classes: int = 100

    task = "multilabel"
    families = FAMILIES

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        """y_true is 0.0 or 1.0, y_pred a score in [0, 1], both by label: float, shape (n, k), n >= 0, k >= 1."""
        if not y_true.size:
            return {}
        decided = (y_pred >= self.threshold).astype(float)
        cells = dict(zip(COUNTS, (y_true * decided, y_true, decided), strict=True))
        rows = {name: each.sum(axis=1) for name, each in cells.items()}
        sums = _of_rows(y_true.shape[1], **rows)
        sums |= {component("product", a, b): float(rows[a] @ rows[b]) for a, b in _PRODUCTS}
        for name, each in cells.items():
            counts, names = each.sum(axis=0), _names(name, y_true.shape[1])
            sums |= {names[column]: float(counts[column]) for column in counts.nonzero()[0].tolist()}
        return {name: value for name, value in sums.items() if value}

    def compute(self, sums: Sums) -> Iterable[Sample]:
        """The share of rows that are right in all labels first. Nothing before the first pair."""
        if (pairs := sums.get("pairs", 0.0)) <= 0:
            return
        share = effective_weight(sums, pairs)
        exact = min(pairs, max(0.0, sums.get("exact", 0.0)))
        yield Sample("exact_match_ratio", {}, exact / pairs, wilson_interval(exact, pairs, share), pairs)
        yield mean_of("hamming_loss", {}, "wrong", sums, pairs)
        if (labelled := sums.get("labelled", 0.0)) > ROUNDING * pairs:
            yield mean_of("jaccard_samples_ratio", {}, "jaccard", sums, labelled)
        labels = _Labels.of(sums)
        for ratio in RATIOS:
            yield from labels.averages(ratio)
        names = [*self.class_names, *map(str, range(len(self.class_names), self.max_exported_classes))]
        yield from labels.each(names[: self.max_exported_classes])

    def estimate(self, name: str, sums: Sums) -> SequentialEstimate | None:
        """The share of rows that are right in all labels, the means over rows, and the micro averages as ratios of two
        sums over rows; neither macro nor weighted averages, whose variances the sums do not hold, nor single labels.
        """
        pairs, labelled = sums.get("pairs", 0.0), sums.get("labelled", 0.0)
        if pairs <= 0:
            return None
        if name == "exact_match_ratio":
            return share_estimate(sums.get("exact", 0.0), pairs, effective_weight(sums, pairs))
        if name == "hamming_loss":
            return estimate_of("wrong", sums, pairs)
        if name == "jaccard_samples_ratio" and labelled > ROUNDING * pairs:
            return estimate_of("jaccard", sums, labelled)
        return _Labels.of(sums).estimate(_MICRO[name]) if name in _MICRO else None


@lru_cache(100)
def _names(name: str, width: int) -> tuple[str, ...]:
    return tuple(component(name, str(column)) for column in range(width))


def _of_rows(width: int, hits: Array, support: Array, predicted: Array) -> dict[str, float]:
    """Tells what is summed over rows, from how many labels of each hold and were predicted."""
    either = support + predicted - hits
    wrong = (either - hits) / width
    jaccard = hits[either > 0] / either[either > 0]
    return {
        "pairs": float(hits.size),
        "exact": float((wrong == 0).sum()),
        "wrong": float(wrong.sum()),
        component("wrong", "square"): float(wrong @ wrong),
        "labelled": float(jaccard.size),
        "jaccard": float(jaccard.sum()),
        component("jaccard", "square"): float(jaccard @ jaccard),
    }


class _Micro(NamedTuple):
    """A micro average, with its variance and of how many rows it is: of rows that differ in size, of how many that do
    not (Kish 1965).
    """

    value: float
    variance: float
    rows: float


@dataclass(frozen=True)
class _Labels:
    """The labels that hold or were predicted anywhere, by column, with their counts."""

    sums: Sums
    columns: list[int]
    hits: Array
    support: Array
    predicted: Array
    pairs: float
    effective_weight: float

    @classmethod
    def of(cls, sums: Sums) -> _Labels:
        pairs = sums.get("pairs", 0.0)
        found: dict[str, dict[int, float]] = {name: {} for name in COUNTS}
        for name, count in sums.items():
            kind, _, column = name.partition(SEPARATOR)
            if kind in found and count > ROUNDING * pairs:
                found[kind][int(column)] = count
        columns = sorted(found["support"].keys() | found["predicted"].keys())
        hits, support, predicted = (np.array([found[name].get(column, 0.0) for column in columns]) for name in COUNTS)
        return cls(sums, columns, hits, support, predicted, pairs, effective_weight(sums, pairs))

    def denominator(self, ratio: Ratio) -> Array:
        """The denominator, by label."""
        return self.support * ratio.support + self.predicted * ratio.predicted

    def averages(self, ratio: Ratio) -> Iterator[Sample]:
        """The micro average (all labels of all rows alike), macro (all labels alike) and that weighted by their
        support.
        """
        denominator = self.denominator(ratio)
        defined = denominator > 0
        if not defined.any():
            return
        found = self._micro(ratio, float(denominator.sum()))
        # At 0 and 1, where no row differs, as much is known as from so many rows of one label each.
        micro = Sample(f"{ratio.name}_micro_ratio", {}, found.value, ratio_interval(*found), self.pairs)
        yield micro
        yield self._mean(f"{ratio.name}_macro_ratio", ratio, defined / defined.sum(), 0.0)
        if ratio.name == "recall":  # the same number
            yield micro._replace(name="recall_weighted_ratio")
        elif (total := float(self.support[defined].sum())) > 0:
            yield self._mean(
                f"{ratio.name}_weighted_ratio", ratio, np.where(defined, self.support, 0.0) / total, 1 / total
            )

    def estimate(self, ratio: Ratio) -> AsymptoticEstimate | None:
        """The micro average as one may look at it again and again; None while it is undefined."""
        if (denominator := float(self.denominator(ratio).sum())) <= 0:
            return None
        value, variance, rows = self._micro(ratio, denominator)
        return AsymptoticEstimate(value, variance + unseen_variance(value, rows), rows)

    def _micro(self, ratio: Ratio, denominator: float) -> _Micro:
        product = {(a, b): self.sums.get(component("product", a, b), 0.0) for a, b in _PRODUCTS}
        above, h, s, p = ratio.hits * float(self.hits.sum()), ratio.hits, ratio.support, ratio.predicted
        squares = (
            h * h * product["hits", "hits"],
            h * (s * product["hits", "support"] + p * product["hits", "predicted"]),
            s * s * product["support", "support"]
            + 2 * s * p * product["support", "predicted"]
            + p * p * product["predicted", "predicted"],
        )
        alike = denominator * denominator
        rows = alike / max(squares[2], alike / self.pairs) * self.effective_weight
        variance = quotient_variance(above, denominator, squares, self.effective_weight)
        return _Micro(above / denominator, variance, rows)

    def _mean(self, name: str, ratio: Ratio, weights: Array, by_support: float) -> Sample:
        """The mean of the labels' ratios with these weights, which are their support times `by_support` unless that is
        0.
        """
        denominator = self.denominator(ratio)
        inverse = np.divide(1.0, denominator, out=np.zeros_like(denominator), where=denominator > 0)
        values = ratio.hits * self.hits * inverse
        mean = min(1.0, float(weights @ values))
        # The derivatives by hits, by labels predicted that do not hold and by those that hold and were not predicted.
        slope, moved = weights * inverse, np.where(denominator > 0, values - mean, 0.0) * by_support
        gradients = np.array(
            [
                slope * ratio.hits * (1 - values) + moved,
                -slope * ratio.predicted * values,
                moved - slope * ratio.support * values,
            ]
        )
        counts = np.array([self.hits, self.predicted - self.hits, self.support - self.hits])
        first, second = (counts * gradients).sum(axis=0), (counts * gradients * gradients).sum(axis=0)
        deviation = float(np.sqrt(np.maximum(0.0, second - first * first / self.pairs)).sum())
        # At 0 and 1, where no label varies, as much is known as from the labels' own numbers if they err together.
        trials = 1 / (float(weights @ inverse) * (ratio.support + ratio.predicted))
        bounds = ratio_interval(mean, deviation * deviation / self.effective_weight, trials * self.effective_weight)
        return Sample(name, {}, mean, bounds, self.pairs)

    def each(self, names: list[str]) -> Iterator[Sample]:
        """The ratios of the labels of the first columns, which have these names."""
        counts = zip(self.columns, self.hits.tolist(), self.support.tolist(), self.predicted.tolist(), strict=True)
        for column, hits, support, predicted in counts:
            if column < len(names):
                labels = {"class": names[column]}
                if predicted:
                    yield _proportion("precision_ratio", labels, hits, predicted, self.effective_weight)
                if support:
                    yield _proportion("recall_ratio", labels, hits, support, self.effective_weight)
                yield _f1(labels, hits, support + predicted, self.effective_weight)


def _proportion(name: str, labels: dict[str, str], hits: float, trials: float, share: float) -> Sample:
    return Sample(name, labels, hits / trials, wilson_interval(hits, trials, share), trials)


def _f1(labels: dict[str, str], hits: float, both: float, share: float) -> Sample:
    f1 = 2 * hits / both
    variance = (hits * (2 - 2 * f1) ** 2 + (both - 2 * hits) * f1 * f1) / both / both / share
    return Sample("f1_ratio", labels, f1, ratio_interval(f1, variance, both / 2 * share), both / 2)
