"""Groups of a dimension beside one of them, the reference: by which rates, and how much these differ in one look."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from metrics_server.metrics.confidence import Interval
from metrics_server.metrics.share_comparison import equality_p_value, holm, koopman_intervals, newcombe_interval
from metrics_server.metrics.sums import Sums

SELECTION = "selection_rate"  # the one rate that needs no labels


class Rate(NamedTuple):
    """A share of the pairs of a group; names are those of fairlearn.

    Attributes:
        name: `SELECTION`, "true_positive_rate", "false_positive_rate" or "accuracy".
        labels: the class that is the positive one, as "class"; a selection rate has one.
        successes: how many.
        trials: of how many, > 0; of weighted pairs, of as many unweighted ones as tell as much.
    """

    name: str
    labels: Mapping[str, str]
    successes: float
    trials: float

    @property
    def value(self) -> float:
        return self.successes / self.trials


@runtime_checkable
class Rated(Protocol):
    """A metric model by whose rates groups can be compared."""

    def rates(self, sums: Sums) -> Iterable[Rate]:
        """The rates of these pairs, without those that are undefined."""


class Disparity(NamedTuple):
    """How much a rate of a group differs from that of the reference.

    Attributes:
        difference: the group's less the reference's, with its 95 % interval (Newcombe).
        ratio: the group's by the reference's, None by 0; with its 95 % interval (Koopman), whose upper end is None
            where there is none.
        p_value: of the test that both are equal, and with Holm's correction for the number of groups.
    """

    difference: float
    difference_interval: Interval
    ratio: float | None
    ratio_interval: tuple[float, float | None]
    p_value: float
    holm_p_value: float


def disparities(rates: Sequence[Rate], reference: Rate) -> list[Disparity]:
    """Compares one rate of each group with that of the reference.

    >>> (found,) = disparities([Rate("accuracy", {}, 56.0, 70.0)], Rate("accuracy", {}, 48.0, 80.0))
    >>> round(found.difference, 2), round(found.ratio or 0, 2), round(found.p_value, 3)
    (0.2, 1.33, 0.008)
    """
    if not rates:
        return []
    other = reference.successes, reference.trials
    lower, upper = koopman_intervals([rate.successes for rate in rates], [rate.trials for rate in rates], *other)
    p_values = [equality_p_value(rate.successes, rate.trials, *other) for rate in rates]
    rows = zip(rates, lower.tolist(), upper.tolist(), p_values, holm(p_values), strict=True)
    return [
        Disparity(
            rate.value - reference.value,
            newcombe_interval(rate.successes, rate.trials, *other),
            rate.value / reference.value if reference.value > 0 else None,
            (low, high if math.isfinite(high) else None),
            p_value,
            adjusted,
        )
        for rate, low, high, p_value, adjusted in rows
    ]
