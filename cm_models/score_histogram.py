"""Histograms of scores in [0, 1]: what stands in for the scores themselves, and what can be read from it.

Sums, under a name such as that of a class:
    <name> / + / i: scores in the i-th bin of pairs that are positive: of this class, or right; <name> / - / i of the others.
    <name> / sum / d: sum of the scores in the d-th tenth of [0, 1], where calibration is wanted.

The bins are cut at every hundredth, at 1, 2 and 5 times each power of ten down to 1e-9 from both ends, then at powers of ten;
0 and 1 have bins of their own. A bin holds its lower edge: so whether a score reaches a threshold is exact for thresholds that
are edges. Of the scores within one bin the order is not known, which is all the error there is: it counts them as ties.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from metrics_server.model import Array
from metrics_server.sums import SEPARATOR, Sums, component

_TAIL = [float(f"{digit}e-{power}") for power in range(9, 2, -1) for digit in (1, 2, 5)]
_LOW = [5e-324, *(10.0**-power for power in (300, 200, 100, 70, 50, 40, *range(30, 9, -1)))]
_HIGH = [1 - 10.0**-power for power in range(10, 16)]
EDGES = [*_LOW, *_TAIL, *(hundredth / 100 for hundredth in range(1, 100)), *(1 - edge for edge in reversed(_TAIL)), *_HIGH, 1.0]
BINS = len(EDGES) + 1
TENTHS = 10
TINY = 2.0**-1022  # in place of a denominator of 0, where the numerator is 0 too

# The bin in which each tenth of [0, 1] begins.
_TENTH_STARTS = [0, *(EDGES.index(tenth / 10) + 1 for tenth in range(1, TENTHS))]
_TENTH_OF = tuple(bisect_right(_TENTH_STARTS, number) - 1 for number in range(BINS))


# Where a component's part of a histogram begins, in the list of all of it.
_SIGNS = {"+": 0, "-": BINS, "sum": 2 * BINS}
# How the names of histograms begin.
KINDS = SCORE, CONFIDENCE = ("score", "confidence")


@lru_cache(1024)
def names_of(name: str, sign: str) -> tuple[str, ...]:
    """The components of a histogram, by bin. Making their names is most of what counting costs."""
    return tuple(component(name, sign, str(number)) for number in range(BINS))


@lru_cache(1024)
def tenths_of(name: str) -> tuple[str, ...]:
    """The components of the sums of scores, by tenth."""
    return tuple(component(name, "sum", str(tenth)) for tenth in range(TENTHS))


@lru_cache(65536)
def _place_of(name: str) -> tuple[str, int] | None:
    """The name of a histogram, and the place of this component in the list of all of it; None for any other component."""
    whose, *rest = name.rsplit(SEPARATOR, 2)
    if len(rest) < 2 or rest[0] not in _SIGNS or whose.split(SEPARATOR)[0] not in KINDS:
        return None
    return whose, _SIGNS[rest[0]] + int(rest[1])


def bin_of(score: float) -> int:
    """The bin that a score in [0, 1] falls into."""
    return bisect_right(EDGES, score)


def add(sums: dict[str, float], name: str, score: float, *, positive: bool) -> None:
    """Counts a score, and its sum by tenths."""
    at = bisect_right(EDGES, score)
    counted = names_of(name, "+" if positive else "-")[at]
    sums[counted] = sums.get(counted, 0.0) + 1.0
    summed = tenths_of(name)[_TENTH_OF[at]]
    sums[summed] = sums.get(summed, 0.0) + score


@dataclass(frozen=True)
class Histograms:
    """Histograms of several classes. All arrays have a row for each; those by bin have a column for each bin, from 0 up.

    Attributes:
        names: of the histograms.
        positive, negative: scores of positives and of negatives, by bin.
        sums: of the scores, by tenth.
    """

    names: tuple[str, ...]
    positive: Array
    negative: Array
    sums: Array

    @classmethod
    def of(cls, sums: Sums, least: float = 0.0) -> Histograms:
        """All that are in these sums. Bins of not more than `least` are the rounding of weights."""
        found: dict[str, list[float]] = {}
        for name, value in sums.items():
            if (place := _place_of(name)) is not None:
                whose, at = place
                if whose not in found:
                    found[whose] = [0.0] * (2 * BINS + TENTHS)
                if value > least:
                    found[whose][at] = value
        parts = np.array(list(found.values())).reshape(-1, 2 * BINS + TENTHS)
        return cls(tuple(found), parts[:, :BINS], parts[:, BINS : 2 * BINS], parts[:, 2 * BINS :])

    def __getitem__(self, chosen: Array) -> Histograms:
        """The chosen rows."""
        names = tuple(self.names[row] for row in chosen.tolist())
        return Histograms(names, self.positive[chosen], self.negative[chosen], self.sums[chosen])

    @cached_property
    def positives(self) -> Array:
        """How many pairs are positive."""
        return self.positive.sum(axis=1)

    @cached_property
    def negatives(self) -> Array:
        """How many are not."""
        return self.negative.sum(axis=1)

    @cached_property
    def _crossings(self) -> Array:
        """How many (positive, negative) there are; 1 where none, so that it can be divided by."""
        return np.maximum(self.positives * self.negatives, TINY)

    @cached_property
    def roc_auc(self) -> Array:
        """The share of (positive, negative) for which the positive has the higher score, ties half; 0 where there are none."""
        return (self.positive * self._negatives_below).sum(axis=1) / self._crossings

    @property
    def roc_auc_error(self) -> Array:
        """How far `roc_auc` is from that of the scores themselves at most: half the share of (positive, negative) in one bin."""
        return (self.positive * self.negative).sum(axis=1) / 2 / self._crossings

    @cached_property
    def _negatives_below(self) -> Array:
        """By bin, negatives with a lower score and half of those in it."""
        return np.cumsum(self.negative, axis=1) - self.negative / 2

    def roc_auc_variance(self, evidence: float) -> Array:
        """The variance of `roc_auc` (DeLong, DeLong, Clarke-Pearson 1988)."""
        positives, negatives = (np.maximum(each, TINY) for each in (self.positives, self.negatives))
        by_positive = self._negatives_below / negatives[:, None] - self.roc_auc[:, None]
        above = 1 - (np.cumsum(self.positive, axis=1) - self.positive / 2) / positives[:, None] - self.roc_auc[:, None]
        of_positives = (self.positive * by_positive * by_positive).sum(axis=1) / positives / np.maximum(positives * evidence - 1, 1)
        return of_positives + (self.negative * above * above).sum(axis=1) / negatives / np.maximum(negatives * evidence - 1, 1)

    @cached_property
    def _from_above(self) -> tuple[Array, Array]:
        """Positives, and all, whose score reaches the lower edge of each bin."""
        hits = np.cumsum(self.positive[:, ::-1], axis=1)[:, ::-1]
        return hits, hits + np.cumsum(self.negative[:, ::-1], axis=1)[:, ::-1]

    @cached_property
    def _precision(self) -> Array:
        hits, reached = self._from_above
        return hits / np.maximum(reached, TINY)

    @cached_property
    def average_precision(self) -> Array:
        """Σ (Rn - Rn-1) Pn over the thresholds at the bins' edges; 0 without positives."""
        return (self.positive * self._precision).sum(axis=1) / np.maximum(self.positives, TINY)

    @property
    def average_precision_error(self) -> Array:
        """How far `average_precision` is from that of the scores themselves at most.

        In each bin the positives may all stand above the negatives, or all below. Of p positives, after a others of which t are
        positives, the i-th then adds (t + i) / (a + i), which is summed up as an integral from 1/2 to p + 1/2.
        """
        hits, reached = self._from_above
        false = reached - hits
        error = np.zeros(len(self.names))
        for ahead in (false - self.negative, false):  # negatives above the positives of the bin: those before it, or all
            last = hits + ahead + 0.5
            added = self.positive - ahead * np.log(last / (last - self.positive))
            error = np.maximum(error, np.abs((added - self.positive * self._precision).sum(axis=1)))
        return error / np.maximum(self.positives, TINY)

    def average_precision_variance(self, evidence: float) -> Array:
        """The variance of `average_precision`, by the delta method over the bins."""
        reached, precision = self._from_above[1], self._precision
        share = self.positive / np.maximum(reached, TINY)
        # A score counts for all thresholds below it.
        falls = np.cumsum(share * precision, axis=1)
        by_positive = precision - self.average_precision[:, None] + np.cumsum(share, axis=1) - falls
        spread = (self.positive * by_positive * by_positive + self.negative * falls * falls).sum(axis=1)
        return spread / np.maximum(self.positives, TINY) ** 2 / evidence

    def reliability(self, row: int = 0) -> Iterator[tuple[float, float, float]]:
        """(scores, their mean, the share of positives) of each tenth of [0, 1] that has any."""
        positive, negative = (np.add.reduceat(part[row], _TENTH_STARTS).tolist() for part in (self.positive, self.negative))
        for hits, misses, total in zip(positive, negative, self.sums[row].tolist(), strict=True):
            if (count := hits + misses) > 0:
                yield count, total / count, hits / count

    def calibration_error(self, row: int = 0) -> float | None:
        """Σ n_b / n · |mean score - share of positives| over ten bins of equal width (Naeini, Cooper, Hauskrecht 2015)."""
        found = list(self.reliability(row))
        count = sum(part for part, _, _ in found)
        return sum(part * abs(mean - share) for part, mean, share in found) / count if count > 0 else None

    def thresholds(self, row: int) -> Iterator[dict[str, float]]:
        """At each edge that separates scores: what deciding "positive" from there on would give."""
        hits, reached = (part[row] for part in self._from_above)
        positives, negatives = float(self.positives[row]), float(self.negatives[row])
        for at in np.flatnonzero(self.positive[row] + self.negative[row]).tolist():
            tp, fp = float(hits[at]), float(reached[at] - hits[at])
            found = {"threshold": EDGES[at - 1] if at > 0 else 0.0, "tp": tp, "fp": fp, "fn": positives - tp, "tn": negatives - fp}
            found["precision"] = tp / (tp + fp)
            if positives > 0:
                found["recall"] = tp / positives
            yield found
