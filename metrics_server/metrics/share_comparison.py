"""Two shares of independent trials beside each other, in one look: their difference, their ratio, and whether they are
equal.

Nothing here holds at every look; `metrics_server.metrics.sequential` is for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metrics_server.metrics.confidence import Z95, Interval, difference_interval, wilson_interval
from metrics_server.metrics.model import Array

_HALVINGS = 60
_WIDEST = 60.0  # logarithm of the largest ratio that is looked at


def newcombe_interval(successes: float, trials: float, others: float, other_trials: float) -> Interval:
    """The 95 % interval of a share less another: the hybrid of both score intervals (Newcombe 1998, his method 10).

    >>> [round(end, 4) for end in newcombe_interval(56, 70, 48, 80)]
    [0.0524, 0.3339]
    """
    return difference_interval(
        successes / trials,
        wilson_interval(successes, trials),
        others / other_trials,
        wilson_interval(others, other_trials),
    )


def koopman_intervals(
    successes: npt.ArrayLike, trials: npt.ArrayLike, others: npt.ArrayLike, other_trials: npt.ArrayLike
) -> tuple[Array, Array]:
    """The 95 % intervals of a share by another: the ratios that their score test does not reject (Koopman 1984).

    Without successes of the first the lower end is 0, without those of the other the upper one is infinite; without any
    on either side nothing is known, 0 to infinity.

    >>> [round(float(end), 3) for end in koopman_intervals(36, 40, 16, 80)]
    [2.94, 7.152]

    Args:
        successes: of the first; all arguments are of one shape, or numbers.
        trials: of the first, > 0.
        others: successes of the other.
        other_trials: of the other, > 0.
    """
    x, n, y, m = (np.asarray(each, dtype=float) for each in (successes, trials, others, other_trials))
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.log(x / n) - np.log(y / m)
    centre = np.clip(np.nan_to_num(observed, nan=0.0, posinf=_WIDEST, neginf=-_WIDEST), -_WIDEST, _WIDEST)
    lower, upper = (_last_accepted(centre, end, (x, n, y, m)) for end in (-_WIDEST, _WIDEST))
    return np.where(x > 0, np.exp(lower), 0.0), np.where(y > 0, np.exp(upper), np.inf)


def _last_accepted(centre: Array, end: float, counts: tuple[Array, Array, Array, Array]) -> Array:
    """The logarithm of the ratio between the observed one and this end up to which none is rejected."""
    accepted, rejected = centre, np.full_like(centre, end)
    for _ in range(_HALVINGS):
        middle = (accepted + rejected) / 2
        is_accepted = _squared_score(np.exp(middle), *counts) <= Z95 * Z95
        accepted, rejected = np.where(is_accepted, middle, accepted), np.where(is_accepted, rejected, middle)
    return accepted


def _squared_score(ratio: Array, x: Array, n: Array, y: Array, m: Array) -> Array:
    """(x/n - r y/m)² by its variance at the likeliest shares of this ratio r, those that Koopman's U² has.

    The other's share is the smaller root of (n + m) r q² - (r (n + y) + x + m) q + x + y = 0, in the form that loses no
    digits.
    """
    linear = ratio * (n + y) + x + m
    root = np.sqrt(np.maximum(0.0, linear * linear - 4 * (n + m) * ratio * (x + y)))
    q = np.minimum(1.0, 2 * (x + y) / (linear + root))
    p = np.minimum(1.0, ratio * q)
    off, variance = x / n - ratio * y / m, p * (1 - p) / n + ratio * ratio * q * (1 - q) / m
    result: Array = np.divide(off * off, variance, out=np.zeros_like(off), where=variance > 0)
    return result


def equality_p_value(successes: float, trials: float, others: float, other_trials: float) -> float:
    """The chance of shares that differ at least so much if both are the same: the score test (Pearson 1900), two-sided.

    >>> round(equality_p_value(56, 70, 48, 80), 4)
    0.008
    """
    pooled = (successes + others) / (trials + other_trials)
    variance = pooled * (1 - pooled) * (1 / trials + 1 / other_trials)
    off = abs(successes / trials - others / other_trials)
    return math.erfc(off / math.sqrt(2 * variance)) if variance > 0 else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """The same for all of these tests together (Holm 1979): those at most 0.05 have a chance of at most 0.05 that any
    of them is wrong.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted
