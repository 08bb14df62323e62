"""95 % intervals, from sums alone.

One form serves every ratio: the score interval of a proportion (Wilson 1927), of as many trials as give the ratio's own variance.
For a plain proportion that is Wilson's interval itself; for F1, an average over classes or the area under a curve the variance
comes from the delta method, and the interval stays within [0, 1] and does not shrink to nothing at its ends, as a normal one
would. Means have Student's interval, differences the one that follows from the two intervals (Zou and Donner 2008).

Weighted pairs count for as many as give the same variance, (Σw)² / Σw² (Kish 1965). `WEIGHT_EXCESS` holds Σ(w² - w), which is 0 and
absent while no truth carries a weight.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from metrics_server.sums import Sums

Interval: TypeAlias = "tuple[float, float]"

Z95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution
WEIGHT_EXCESS = "weight_excess"


def evidence(sums: Sums, pairs: float) -> float:
    """How much a pair tells: 1 without weights, else Σw / Σw², so that `pairs * evidence` unweighted ones would tell as much.

    Args:
        sums: of the pairs.
        pairs: the sum of their weights.
    """
    return pairs / (pairs + sums.get(WEIGHT_EXCESS, 0.0)) if pairs > 0 else 1.0


def wilson(successes: float, trials: float) -> Interval:
    """The score interval of a proportion (Wilson 1927).

    With p = successes / trials, n = trials and z = 1.96: (p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n).
    """
    share, square = successes / trials, Z95 * Z95
    centre = share + square / (2 * trials)
    spread = Z95 * math.sqrt(max(0.0, share * (1 - share)) / trials + square / (4 * trials * trials))
    scale = 1 + square / trials
    # At shares of 0 and 1 rounding would leave the share itself outside.
    return min(share, max(0.0, (centre - spread) / scale)), max(share, min(1.0, (centre + spread) / scale))


def of_ratio(value: float, variance: float, trials: float) -> Interval:
    """The interval of a ratio in [0, 1] with this variance; at 0 and 1, where that is 0, of a proportion of so many trials."""
    inner = value * (1 - value)
    if inner > 0 and variance > 0:
        trials = inner / variance
    return wilson(value * trials, trials)


def of_correlation(value: float, variance: float, trials: float) -> Interval:
    """The interval of a coefficient in [-1, 1], by that of (1 + value) / 2."""
    lower, upper = of_ratio((1 + value) / 2, variance / 4, trials)
    return 2 * lower - 1, 2 * upper - 1


def of_mean(total: float, squares: float, count: float, share: float = 1.0, least: float = -math.inf) -> Interval | None:
    """Student's interval of a mean; None for fewer than two values.

    Args:
        total: the sum of the values.
        squares: the sum of their squares.
        count: how many there are, or the sum of their weights.
        share: their `evidence`.
        least: what no value is below.
    """
    mean, trials = total / count, count * share
    return of_estimate(mean, max(0.0, squares / count - mean * mean) / max(1.0, trials - 1), trials, least)


def of_estimate(value: float, variance: float, trials: float, least: float = -math.inf) -> Interval | None:
    """Student's interval of a value with this variance, which was estimated from so many trials; None for fewer than two."""
    if trials < 2:
        return None
    spread = student(trials - 1) * math.sqrt(variance)
    return max(least, value - spread), value + spread


def quotient_variance(numerator: float, denominator: float, squares: tuple[float, float, float], share: float = 1.0) -> float:
    """The variance of Σa / Σb over independent pairs (the delta method): Σ(a - r b)² / (Σb)².

    Args:
        numerator: Σa.
        denominator: Σb.
        squares: Σa², Σab and Σb².
        share: the `evidence` of the pairs.
    """
    ratio = numerator / denominator
    aa, ab, bb = squares
    return max(0.0, aa - 2 * ratio * ab + ratio * ratio * bb) / (denominator * denominator * share)


def student(freedom: float) -> float:
    """The 97.5 % quantile of Student's distribution, to 1 % from 3 degrees of freedom on (Cornish and Fisher 1938)."""
    z, v = Z95, max(1.0, freedom)
    first = (z**3 + z) / (4 * v)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    return z + first + second + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)


def of_difference(value: float, interval: Interval, other: float, other_interval: Interval) -> Interval:
    """The interval of `value - other`, of independent pairs, from the intervals of both (Zou and Donner 2008; Newcombe 1998)."""
    (lower, upper), (other_lower, other_upper) = interval, other_interval
    difference = value - other
    below, above = math.hypot(value - lower, other_upper - other), math.hypot(upper - value, other - other_lower)
    return difference - below, difference + above
