"""Histograms of scores in [0, 1]: what stands in for the scores themselves, and what can be read from it.

Sums:
    score / class / + / i: scores of a class in the i-th bin, of pairs that are of this class; score / class / - / i of
    the others.

The bins are cut at every 0.05; near both ends at 0.07, 0.05, 0.04, 0.03, 0.02, 0.015, 0.01, 0.005, 0.002, 0.001,
0.0003, 0.0001 and then at ever greater powers of ten, from 0 and from 1; 0 and 1 have bins of their own. A bin holds
its lower edge: so whether a score reaches a threshold is exact for thresholds that are edges. Of the scores within one
bin the order is not known, which is all the error there is. Every bin in use is a number in each time bucket of a
series, which is why there are not more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from metrics_server.metrics import SEPARATOR, Array, Sums, component

_NEAR = (
    0.07,
    0.05,
    0.04,
    0.03,
    0.02,
    0.015,
    0.01,
    0.005,
    0.002,
    0.001,
    0.0003,
    0.0001,
    1e-5,
    1e-6,
    1e-7,
    1e-9,
    1e-12,
    1e-15,
)
_FAR = (1e-20, 1e-30, 1e-50, 1e-100, 1e-200, 5e-324)  # of 0 alone: a float cannot tell such numbers from 1
EDGES = sorted(
    {
        *_NEAR,
        *_FAR,
        *(float(f"{1 - near:.15g}") for near in _NEAR),
        *(twentieth / 20 for twentieth in range(2, 19)),
        1.0,
    }
)
BINS = len(EDGES) + 1
PRIOR = 5.0  # pairs of the rarer class that the assumed variance of `roc_auc` counts as
_EQUAL = np.isin(np.arange(BINS), (0, BINS - 1))  # whether all scores of a bin are equal: of 0 and 1
TINY = 2.0**-500  # in place of a denominator of 0, where the numerator is 0 too

SCORE = component("score", "")
# Where a component's part of a histogram begins, in the list of all of it.
_SIGNS = {"+": 0, "-": BINS}


@lru_cache(1024)
def names_of(label: str, sign: str) -> tuple[str, ...]:
    """The components of the histogram of a class, by bin. Making their names is most of what counting costs."""
    return tuple(component("score", label, sign, str(number)) for number in range(BINS))


@lru_cache(65536)
def _place_of(name: str) -> tuple[str, int] | None:
    """The class of a histogram, and the place of this component in the list of all of it; None for any other
    component.
    """
    if not name.startswith(SCORE):
        return None
    label, sign, number = name[len(SCORE) :].split(SEPARATOR)
    return label, _SIGNS[sign] + int(number)


def bin_of(score: float) -> int:
    """The bin that a score in [0, 1] falls into."""
    return bisect_right(EDGES, score)


def _exponential_variance(auc: Array, positives: Array, negatives: Array) -> Array:
    """The variance of an area of exponential scores, shape (k,) as its arguments (Hanley and McNeil 1982)."""
    missed = 1 - auc
    by_class = (positives - 1) * auc * missed * missed / (2 - auc) + (negatives - 1) * auc * auc * missed / (1 + auc)
    return np.maximum(0.0, auc * missed + by_class) / np.maximum(positives * negatives, TINY)


@dataclass(frozen=True)
class Histograms:
    """The histograms of the scores of k classes.

    Values by class have the shape (k,).

    Attributes:
        labels: the classes.
        positive: pairs that truly are of the class, by class and bin from score 0 up; shape (k, `BINS`).
        negative: the same of all other pairs.
    """

    labels: tuple[str, ...]
    positive: Array
    negative: Array

    @classmethod
    def of(cls, sums: Sums, least: float = 0.0) -> Histograms:
        """Makes the histograms of all classes that occur in sums, without bins of at most `least` pairs: those are the
        rounding of weights.
        """
        found: dict[str, list[float]] = {}
        for place, value in zip(map(_place_of, sums), sums.values(), strict=True):
            if place is not None and value > least:
                label, at = place
                if label not in found:
                    found[label] = [0.0] * (2 * BINS)
                found[label][at] = value
        parts = np.array(list(found.values())).reshape(-1, 2 * BINS)
        return cls(tuple(found), parts[:, :BINS], parts[:, BINS:])

    @cached_property
    def positives(self) -> Array:
        """Counts the pairs that truly are of the class, shape (k,)."""
        return self.positive.sum(axis=1)

    @cached_property
    def negatives(self) -> Array:
        """Counts the pairs that are not of the class, shape (k,)."""
        return self.negative.sum(axis=1)

    @cached_property
    def _crossings(self) -> Array:
        """Counts how many (positive, negative) there are; 1 where none, so that it can be divided by."""
        return np.maximum(self.positives * self.negatives, TINY)

    @cached_property
    def roc_auc(self) -> Array:
        """Returns the area under the ROC curve, shape (k,): the share of (positive, negative) for which the positive
        has the higher score, ties half (Hanley and McNeil 1982). 0 where there are none.
        """
        return (self.positive * self._negatives_below).sum(axis=1) / self._crossings

    @property
    def roc_auc_error(self) -> Array:
        """Returns how far `roc_auc` is at most from that of the scores themselves, shape (k,): half the share of
        (positive, negative) in one bin.
        """
        return (self.positive * self.negative).sum(axis=1) / 2 / self._crossings

    @cached_property
    def _negatives_below(self) -> Array:
        """By bin, negatives with a lower score and half of those in it."""
        return self.negative.cumsum(axis=1) - self.negative / 2

    def roc_auc_variance(self, effective_weight: float) -> Array:
        """Returns the variance of `roc_auc` (DeLong, DeLong, Clarke-Pearson 1988), drawn to that of Hanley and McNeil
        1982; shape (k,).

        Args:
            effective_weight: see `metrics_server.metrics.confidence`.
        """
        auc, pairs = self.roc_auc, np.maximum((self.positives, self.negatives), TINY)
        below = self.positive.cumsum(axis=1) - self.positive / 2
        # By kind, positives first, then by class and bin: the share of the others that a pair is on the right side of.
        placements = np.array((self._negatives_below / pairs[1, :, None], 1 - below / pairs[0, :, None]))
        deviations = placements - auc[:, None]
        squares = (np.array((self.positive, self.negative)) * deviations * deviations).sum(axis=2)
        weights = pairs * effective_weight
        spread = (squares / pairs / np.maximum(weights - 1, 1)).sum(axis=0)
        # Few scores tell little of their own variance. So that of exponential scores counts as much as `PRIOR` of the
        # rarer class.
        fewer = weights.min(axis=0)
        return (fewer * spread + PRIOR * _exponential_variance(auc, *weights)) / (fewer + PRIOR)

    @cached_property
    def _from_above(self) -> tuple[Array, Array]:
        """Positives, and all, whose score reaches the lower edge of each bin."""
        hits = self.positive[:, ::-1].cumsum(axis=1)[:, ::-1]
        return hits, hits + self.negative[:, ::-1].cumsum(axis=1)[:, ::-1]

    @cached_property
    def _precision(self) -> Array:
        hits, reached = self._from_above
        return hits / np.maximum(reached, TINY)

    @cached_property
    def average_precision(self) -> Array:
        """Returns the average precision, shape (k,): Σ (Rn - Rn-1) Pn over the scores, as scikit-learn's, those of a
        bin evenly mixed but for those that are 0 or 1. 0 without positives.

        After `above` others of which `before` are positive, p positives among n add ∫ p (before + p u) / (above + n u)
        du from 0 to 1.
        """
        hits, reached = self._from_above
        pairs = self.positive + self.negative
        count, before, above = np.maximum(pairs, TINY), hits - self.positive, np.maximum(reached - pairs, TINY)
        share = self.positive / count
        mixed = share + (before - share * above) / count * np.log1p(count / above)
        added = self.positive * np.where(_EQUAL, self._precision, mixed)
        return added.sum(axis=1) / np.maximum(self.positives, TINY)

    @property
    def average_precision_error(self) -> Array:
        """Returns how far `average_precision` is at most from that of the scores themselves, shape (k,).

        In each bin the positives may all stand above the negatives, or all below. Of p positives, after t others and f
        negatives, the i-th adds the precision (t + i) / (t + i + f): that is at most that of the last, and all of them
        together are at least the integral of it from 0 to p.
        """
        hits, reached = self._from_above
        false = reached - hits
        best = self.positive * hits / np.maximum(reached - self.negative, TINY)
        worst = self.positive - false * np.log((reached + TINY) / (reached - self.positive + TINY))
        errors = (
            np.abs(bound.sum(axis=1) / np.maximum(self.positives, TINY) - self.average_precision)
            for bound in (best, worst)
        )
        return np.maximum(*errors)

    def average_precision_variance(self, effective_weight: float) -> Array:
        """Returns the variance of `average_precision`, by the delta method over the bins; shape (k,).

        Args:
            effective_weight: see `metrics_server.metrics.confidence`.
        """
        reached, precision = self._from_above[1], self._precision
        share = self.positive / np.maximum(reached, TINY)
        # A score counts for all thresholds below it.
        falls = (share * precision).cumsum(axis=1)
        by_positive = precision - self.average_precision[:, None] + share.cumsum(axis=1) - falls
        spread = (self.positive * by_positive * by_positive + self.negative * falls * falls).sum(axis=1)
        return spread / np.maximum(self.positives, TINY) ** 2 / effective_weight

    def cuts(self, row: int) -> Iterator[tuple[float, float, float, float, float]]:
        """Yields (threshold, tp, fp, fn, tn) of each edge that separates scores, ascending: of those below scores, and
        of the one above all of them, unless some are 1.

        Args:
            row: the place of the class in `labels`.
        """
        hits, reached = (part[row] for part in self._from_above)
        positives, negatives = float(self.positives[row]), float(self.negatives[row])
        used = np.flatnonzero(self.positive[row] + self.negative[row]).tolist()
        for at in used:
            tp, fp = float(hits[at]), float(reached[at] - hits[at])
            yield EDGES[at - 1] if at > 0 else 0.0, tp, fp, positives - tp, negatives - fp
        if used and used[-1] < BINS - 1:
            yield EDGES[used[-1]], 0.0, 0.0, positives, negatives

    def thresholds(self, row: int) -> Iterator[dict[str, float]]:
        """Yields for each edge below scores, ascending, what deciding "positive" from there on would give: the
        edge as "threshold", pairs by "tp", "fp", "fn" and "tn", precision, and recall unless there are no positives.

        Args:
            row: the place of the class in `labels`.
        """
        for threshold, tp, fp, fn, tn in self.cuts(row):
            if tp + fp > 0:
                found = {"threshold": threshold, "tp": tp, "fp": fp, "fn": fn, "tn": tn, "precision": tp / (tp + fp)}
                if self.positives[row] > 0:
                    found["recall"] = tp / float(self.positives[row])
                yield found
