"""Ranking: scores of candidates against how relevant each of them is (search, recommendation, retrieval)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cm_models.mean import estimate_of, mean_of
from metrics_server.metrics import (
    ROUNDING,
    Array,
    Families,
    GaugeSpec,
    Sample,
    SequentialEstimate,
    Sums,
    component,
    effective_weight,
    share_estimate,
    wilson_interval,
)

FAMILIES: Families = {
    "ndcg": GaugeSpec(
        "Mean nDCG of the first k candidates, of predictions with a relevant one; equal scores share their ranks.",
        ("k",),
        has_interval=True,
        better=1,
    ),
    "mean_average_precision": GaugeSpec(
        "Mean average precision of the first k candidates, of predictions with a relevant one.",
        ("k",),
        has_interval=True,
        better=1,
    ),
    "hit_ratio": GaugeSpec(
        "Share of predictions with a relevant candidate among the first k, of those that have one.",
        ("k",),
        has_interval=True,
        better=1,
    ),
    "mean_reciprocal_rank": GaugeSpec(
        "Mean of 1 / rank of the first relevant candidate, of predictions with a relevant one.",
        has_interval=True,
        better=1,
    ),
}


@dataclass(frozen=True)
class Ranking:
    """How far up the relevant candidates stand when they are sorted by score, the highest first.

    Sums, for each k (missing ones are 0):
        pairs: labelled predictions, n.
        ranked: those with a relevant candidate, one of a grade above 0. All values are of these alone.
        ndcg / k, ndcg / k / square: sum of nDCG@k, DCG / ideal DCG with the gain `grade` and the discount 1 / log2(1 +
        rank) of the
            first k ranks (Järvelin and Kekäläinen 2002), equal scores sharing their ranks; and of its square.
        average_precision / k, .../ square: sum of AP@k, the precision at each rank up to k that holds a relevant
        candidate, by
            min(k, number of relevant); and of its square.
        hits / k: those with a relevant candidate on the first k ranks.
        reciprocal_rank, reciprocal_rank / square: sum of 1 / rank of the first relevant candidate, and of its square.

    Apart from nDCG, irrelevant candidates come first among equal scores: a model that scores all alike gets no credit.
    Beyond the last candidate there is nothing, so lists may be of any length, also shorter than k. Undefined before the
    first pair with
    a relevant candidate. Oracle: sklearn.metrics.ndcg_score over the pairs that have one, which it would count as 0.

    >>> model = Ranking(k=(2,))
    >>> scores = np.array([[0.1, 0.9, 0.4], [0.3, 0.8, 0.1]])
    >>> sums = model.increments(np.array([[0.0, 2.0, 1.0], [1.0, 0.0, 0.0]]), scores)
    >>> {sample.name: round(sample.value, 3) for sample in model.compute(sums)}
    {'ndcg': 0.815, 'mean_average_precision': 0.75, 'hit_ratio': 1.0, 'mean_reciprocal_rank': 0.75}

    Args:
        k: the ranks to which values are read; the headline is nDCG at the largest of them.
    """

    k: tuple[int, ...] = (1, 5, 10)

    task = "ranking"
    families = FAMILIES

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        """y_true are grades >= 0, y_pred scores, both by candidate: float, shape (n, m), n >= 0, m >= 1."""
        if not y_true.size:
            return {}
        sums = {"pairs": float(len(y_true))}
        ranked = (y_true > 0).any(axis=1)
        if count := int(ranked.sum()):
            sums["ranked"] = float(count)
            for name, values in self._values(y_true[ranked], y_pred[ranked]):
                sums[name] = float(values.sum())
                if values.dtype != bool:  # whose squares they are themselves
                    sums[component(name, "square")] = float(values @ values)
        return {name: value for name, value in sums.items() if value}

    def _values(self, grades: Array, scores: Array) -> Iterator[tuple[str, Array]]:
        """By component the value of each row, all of which have a relevant candidate."""
        width = grades.shape[1]
        order = np.lexsort((grades > 0, -scores), axis=-1)
        sorted_grades, sorted_scores = (np.take_along_axis(each, order, axis=1) for each in (grades, scores))
        relevant = sorted_grades > 0
        found = relevant.cumsum(axis=1)
        precisions = (relevant * found / np.arange(1, width + 1)).cumsum(axis=1)
        ideal, ends = np.sort(grades, axis=1)[:, ::-1], _tie_ends(sorted_scores)
        for k in self.k:
            last = min(k, width) - 1
            discounts = _discounts(width, k)
            yield (
                component("ndcg", str(k)),
                (sorted_grades * _shared(discounts, *ends)).sum(axis=1) / (ideal @ discounts),
            )
            yield component("average_precision", str(k)), precisions[:, last] / np.minimum(k, found[:, -1])
            yield component("hits", str(k)), found[:, last] > 0
        yield "reciprocal_rank", 1 / (1.0 + relevant.argmax(axis=1))

    def compute(self, sums: Sums) -> Iterable[Sample]:
        """The nDCG at the largest k first. Nothing before the first pair with a relevant candidate."""
        pairs, ranked = sums.get("pairs", 0.0), sums.get("ranked", 0.0)
        if ranked <= ROUNDING * pairs:
            return
        share = effective_weight(sums, pairs)
        for name, kept in (("ndcg", "ndcg"), ("mean_average_precision", "average_precision")):
            for k in sorted(self.k, reverse=True):
                yield mean_of(name, {"k": str(k)}, component(kept, str(k)), sums, ranked)
        for k in sorted(self.k, reverse=True):
            hits = min(ranked, max(0.0, sums.get(component("hits", str(k)), 0.0)))
            yield Sample("hit_ratio", {"k": str(k)}, hits / ranked, wilson_interval(hits, ranked, share), ranked)
        yield mean_of("mean_reciprocal_rank", {}, "reciprocal_rank", sums, ranked)

    def estimate(self, name: str, sums: Sums) -> SequentialEstimate | None:
        """All values, those with a k at the largest one: nDCG, average precision and reciprocal rank as means of values
        from 0 to 1, hits as a share.
        """
        pairs, ranked, k = sums.get("pairs", 0.0), sums.get("ranked", 0.0), str(max(self.k))
        if ranked <= ROUNDING * pairs:
            return None
        if name == "hit_ratio":
            return share_estimate(sums.get(component("hits", k), 0.0), ranked, effective_weight(sums, pairs))
        kept = {
            "ndcg": component("ndcg", k),
            "mean_average_precision": component("average_precision", k),
            "mean_reciprocal_rank": "reciprocal_rank",
        }.get(name)
        return None if kept is None else estimate_of(kept, sums, ranked)


@lru_cache(100)
def _discounts(width: int, k: int) -> Array:
    """1 / log2(1 + rank) of the first k ranks, 0 of the others."""
    discounts = 1 / np.log2(np.arange(2, width + 2))
    discounts[k:] = 0
    return discounts


def _tie_ends(scores: Array) -> tuple[Array, Array]:
    """For each place in sorted rows the first place with the same score, and that behind the last."""
    places = np.arange(scores.shape[1])
    edges = np.diff(scores, axis=1) != 0
    starts = np.zeros(scores.shape, dtype=int)
    starts[:, 1:] = np.maximum.accumulate(edges * places[1:], axis=1)
    stops = np.full(scores.shape, places.size)
    stops[:, :-1] = np.minimum.accumulate(np.where(edges, places[1:], places.size)[:, ::-1], axis=1)[:, ::-1]
    return starts, stops


def _shared(discounts: Array, starts: Array, stops: Array) -> Array:
    """The mean discount of the places with the same score."""
    until = np.concatenate(([0.0], discounts.cumsum()))
    return (until[stops] - until[starts]) / (stops - starts)  # type: ignore[no-any-return]
