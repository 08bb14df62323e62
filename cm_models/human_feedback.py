"""Human feedback: what people said about answers, whatever these were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from metrics_server.metrics import (
    ROUNDING,
    Array,
    CounterSpec,
    Families,
    GaugeSpec,
    Sample,
    SequentialEstimate,
    Sums,
    component,
    effective_weight,
    mean_estimate,
    mean_interval,
    share_estimate,
    wilson_interval,
)

VALUES = range(-10, 11)  # ratings that are counted each, for every scale in use: thumbs, stars, 0 to 10, -5 to 5
OTHER = "other"
THUMBS = frozenset(("-1", "0", "1"))

FAMILIES: Families = {
    "rating_mean": GaugeSpec("Mean rating; a thumb up is 1, down -1, a boolean 1 or 0.", has_interval=True, better=1),
    "rating_ratio": GaugeSpec("Share of ratings of this value, an integer from -10 to 10, or other.", ("value",)),
    "thumbs_up_ratio": GaugeSpec(
        "Share of thumbs up; absent when any rating of the window is none of 1, 0 and -1.", has_interval=True, better=1
    ),
    "ratings": CounterSpec(
        "Ratings by value, each time applied.", "Ratings that a correction took back, by value.", ("value",)
    ),
}

_RATING = component("rating", "")
_NAMES = {float(value): _RATING + str(value) for value in VALUES}


@dataclass(frozen=True)
class HumanFeedback:
    """Ratings by people: thumbs, stars, or any number. Only the truth is looked at; the answer may be one that no
    metric can read.

    Up is 1, down is -1, a boolean is 1 or 0.

    Sums:
        pairs: ratings, n.
        value, value_square: sum of them, and of their squares.
        rating / v: those that are v, an integer from -10 to 10; rating / other: all others.

    Undefined, hence no sample, until the first rating. The share of thumbs up is that of 1 among 1, 0 and -1, and is
    undefined when
    any rating of the window is another: 1 is the worst of five stars. (A window that holds nothing but single stars
    cannot be told from one of thumbs.) Oracle: numpy.mean.

    >>> import numpy as np
    >>> model = HumanFeedback()
    >>> sums = model.increments(np.array([1.0, 1.0, -1.0, 1.0]), np.zeros(4))
    >>> [(sample.name, *sample.labels.values(), sample.value) for sample in model.compute(sums)]
    [('rating_mean', 0.5), ('thumbs_up_ratio', 0.75), ('rating_ratio', '-1', 0.25), ('rating_ratio', '1', 0.75)]
    """

    task = "feedback"
    families = FAMILIES
    counted = (_RATING,)

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        """y_true is float, shape (n,), n >= 0; y_pred is not looked at."""
        if not y_true.size:
            return {}
        ratings = Counter(_NAMES.get(value, _RATING + OTHER) for value in y_true.tolist())
        named = {name: float(count) for name, count in ratings.items()}
        return {
            "pairs": float(y_true.size),
            "value": float(y_true.sum()),
            "value_square": float(y_true @ y_true),
        } | named

    def compute(self, sums: Sums) -> Iterable[Sample]:
        """The mean first, then the shares."""
        if (pairs := sums.get("pairs", 0.0)) <= 0:
            return
        total, share = sums.get("value", 0.0), effective_weight(sums, pairs)
        yield Sample(
            "rating_mean", {}, total / pairs, mean_interval(total, sums.get("value_square", 0.0), pairs, share), pairs
        )
        ratings = dict(_ratings(sums))
        if ratings.keys() <= THUMBS:
            yield _share("thumbs_up_ratio", {}, ratings.get("1", 0.0), pairs, share)
        for value, count in ratings.items():
            yield _share("rating_ratio", {"value": value}, count, pairs, share)

    def estimate(self, name: str, sums: Sums) -> SequentialEstimate | None:
        """The mean rating, of a scale without known ends, and the share of thumbs up. That of one rating is neither
        better nor worse for being more.
        """
        if (pairs := sums.get("pairs", 0.0)) <= 0:
            return None
        share = effective_weight(sums, pairs)
        if name == "rating_mean":
            return mean_estimate(sums.get("value", 0.0), sums.get("value_square", 0.0), pairs, share)
        if name == "thumbs_up_ratio" and (ratings := dict(_ratings(sums))).keys() <= THUMBS:
            return share_estimate(ratings.get("1", 0.0), pairs, share)
        return None

    def counts(self, sums: Sums) -> Iterable[Sample]:
        """Yields how many ratings there are of each value, a whole number from -10 to 10 or "other"."""
        for value, count in _ratings(sums):
            yield Sample("ratings", {"value": value}, count)


def _ratings(sums: Sums) -> Iterator[tuple[str, float]]:
    """The ratings by value, the lowest first; what rounding left of weighted ones that were taken back is none."""
    least = ROUNDING * sums.get("pairs", 0.0)
    for value in (*map(str, VALUES), OTHER):
        if (count := sums.get(_RATING + value, 0.0)) > least:
            yield value, count


def _share(name: str, labels: dict[str, str], count: float, pairs: float, share: float) -> Sample:
    count = min(count, pairs)
    return Sample(name, labels, count / pairs, wilson_interval(count, pairs, share), pairs)
