"""95 % intervals, from sums alone.

One form serves every ratio: the score interval of a proportion (Wilson 1927), of as many trials as give the ratio's own
variance. For a plain proportion that is Wilson's interval itself; for F1, an average over classes or the area under a
curve the variance comes from the delta method, and the interval stays within [0, 1] and does not shrink to nothing at
its ends, as a normal one would. Means have Student's interval, straightened by the skewness where no value is negative
(Hall 1992); differences the one that follows from the two intervals (Zou and Donner 2008).

Weighted pairs count for as many as give the same variance, (Σw)² / Σw² (Kish 1965). `WEIGHT_EXCESS` holds Σ(w² - w),
which is 0 and absent while no truth carries a weight.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from metrics_server.metrics.sums import ROUNDING, Sums

Interval: TypeAlias = "tuple[float, float]"

Z95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution
WEIGHT_EXCESS = "weight_excess"
FEWEST = 4  # values that say anything of their own variance


def effective_weight(sums: Sums, pairs: float) -> float:
    """Returns how much a pair tells: 1 without weights, else Σw / Σw², so that `pairs * effective_weight` unweighted
    pairs would tell as much (Kish 1965).

    >>> effective_weight({}, 10.0), effective_weight({WEIGHT_EXCESS: 4.0}, 4.0)  # ten of 1; two of weight 2
    (1.0, 0.5)

    Args:
        sums: of the pairs.
        pairs: the sum of their weights.
    """
    squares = pairs + sums.get(WEIGHT_EXCESS, 0.0)
    return pairs / squares if pairs > 0 and squares > 0 else 1.0


def holding(value: float, interval: Interval) -> Interval:
    """Returns the interval, widened to the value where rounding has put that outside."""
    lower, upper = interval
    return min(value, lower), max(value, upper)


def wilson_interval(successes: float, trials: float, share: float = 1.0) -> Interval:
    """The score interval of a proportion (Wilson 1927).

    With p = successes / trials, n trials and z = 1.96: (p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n).

    Args:
        successes: how many, or the sum of their weights.
        trials: the same of all.
        share: their `effective_weight`.
    """
    value, square, trials = successes / trials, Z95 * Z95, trials * share
    centre = value + square / (2 * trials)
    spread = Z95 * math.sqrt(max(0.0, value * (1 - value)) / trials + square / (4 * trials * trials))
    scale = 1 + square / trials
    return holding(value, (max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)))


def ratio_interval(value: float, variance: float, trials: float) -> Interval:
    """Returns the interval of a ratio in [0, 1]: Wilson's, of as many trials as give its variance.

    Args:
        value: the ratio.
        variance: of the ratio, estimated from the pairs.
        trials: used in its place where the value is 0 or 1, since the variance is 0 there.
    """
    inner = value * (1 - value)
    if inner > ROUNDING and variance * trials > ROUNDING * inner:
        trials = inner / variance
    return holding(value, wilson_interval(value * trials, trials))


def correlation_interval(value: float, variance: float, trials: float) -> Interval:
    """Returns the interval of a coefficient in [-1, 1], by that of the ratio (1 + value) / 2; arguments as there."""
    lower, upper = ratio_interval((1 + value) / 2, variance / 4, trials)
    return holding(value, (2 * lower - 1, 2 * upper - 1))


class RatioMean(NamedTuple):
    """The plain mean of ratios in [0, 1], with what its interval is made of.

    The few trials of a rare class often all come out alike, which does not make its ratio certain. So each ratio has
    the variance that it would have with one more trial of either outcome (Laplace's rule).

    Attributes:
        value: the mean.
        ratios: how many there are.
        observed: sum of their variances, as estimated from the pairs.
        expected: sum of their variances by Laplace's rule.
        inverse_trials: sum of 1 / trials, of as many trials as give the variance of each.
    """

    value: float
    ratios: float
    observed: float
    expected: float
    inverse_trials: float

    def interval(self, variance: float) -> Interval:
        """Its 95 % interval.

        Args:
            variance: of the mean, which differs from that of independent ratios when they are wrong together.
        """
        square = self.ratios * self.ratios
        together = variance / self.observed if self.observed > 0 else 1 / square
        # At 0 and 1 as much is known as from the ratios' own trials together.
        return ratio_interval(self.value, self.expected * together, square / self.inverse_trials)


def ratio_means(
    values: npt.NDArray[Any], variances: npt.NDArray[Any], inverse_trials: npt.NDArray[Any]
) -> list[RatioMean]:
    """Returns the mean of each row of ratios, of which there is at least one.

    Args:
        values: the ratios by row, shape (m, k); 0 where one is undefined.
        variances: of each, shape (m, k); 0 where one is undefined.
        inverse_trials: 1 / trials of each, for those at 0 and 1, shape (m, k); 0 where one is undefined.
    """
    inner = values * (1 - values)
    varied = (inner > ROUNDING) & (variances > ROUNDING * inner * inverse_trials)
    observed = variances * varied
    inverse = np.where(varied, observed / np.where(varied, inner, 1.0), inverse_trials)
    shares = (values + inverse) / (1 + 2 * inverse)
    columns = np.array((values, inverse > 0, observed, shares * (1 - shares) * inverse, inverse)).sum(axis=2)
    return [RatioMean(total / count, count, *sums) for total, count, *sums in columns.T.tolist()]


def mean_interval(
    total: float, squares: float, count: float, share: float = 1.0, least: float = -math.inf
) -> Interval | None:
    """Student's interval of a mean; None for fewer than four values.

    Args:
        total: the sum of the values.
        squares: the sum of their squares.
        count: how many there are, or the sum of their weights.
        share: their `effective_weight`.
        least: what no value is below.
    """
    mean, trials = total / count, count * share
    return estimate_interval(mean, max(0.0, squares / count - mean * mean) / max(1.0, trials - 1), trials, least)


def skewed_mean_interval(
    total: float, squares: float, cubes: float, count: float, share: float = 1.0
) -> Interval | None:
    """The interval of a mean of values >= 0, a few of which may be far larger than the others; None for fewer than four
    values.

    Student's, straightened by the skewness (Hall 1992): with t = (mean - m) / error and a = skewness / √n it holds the
    m for which t + a t² / 3 + a² t³ / 27 + a / 6 is within Student's quantiles.

    Args:
        total: the sum of the values.
        squares: the sum of their squares.
        cubes: the sum of their cubes.
        count: how many there are, or the sum of their weights.
        share: their `effective_weight`.
    """
    mean, trials = total / count, count * share
    if trials < FEWEST:
        return None
    if mean <= 0 or (spread := squares / count / mean / mean - 1) <= ROUNDING:
        return mean, mean
    skewness = (cubes / count / mean / mean / mean - 3 * spread - 1) / spread**1.5
    error, slope = mean * math.sqrt(spread / (trials - 1)), max(0.0, skewness) / math.sqrt(trials)
    lower, upper = (
        mean - error * _straight(quantile, slope)
        for quantile in (student_quantile(trials - 1), -student_quantile(trials - 1))
    )
    return holding(mean, (max(0.0, lower), upper))


def _straight(at: float, slope: float) -> float:
    """The t for which t + slope t² / 3 + slope² t³ / 27 + slope / 6 is `at`."""
    return 3 * (math.cbrt(1 + slope * (at - slope / 6)) - 1) / slope if slope > 1e-6 else at


def estimate_interval(value: float, variance: float, trials: float, least: float = -math.inf) -> Interval | None:
    """Returns Student's interval of an estimate, in its unit; None for fewer than four trials.

    Args:
        value: the estimate.
        variance: of the estimate (not of one trial), in its unit squared.
        trials: from how many the variance was estimated.
        least: what the estimated quantity is never below.
    """
    if trials < FEWEST:
        return None
    spread = student_quantile(trials - 1) * math.sqrt(variance)
    return holding(value, (max(least, value - spread), value + spread))


def quotient_variance(
    numerator: float, denominator: float, squares: tuple[float, float, float], share: float = 1.0
) -> float:
    """The variance of Σa / Σb over independent pairs (the delta method): Σ(a - r b)² / (Σb)².

    Args:
        numerator: Σa.
        denominator: Σb.
        squares: Σa², Σab and Σb².
        share: the `effective_weight` of the pairs.
    """
    ratio = numerator / denominator
    aa, ab, bb = squares
    return max(0.0, aa - 2 * ratio * ab + ratio * ratio * bb) / (denominator * denominator * share)


def student_quantile(freedom: float) -> float:
    """Returns the 97.5 % quantile of Student's distribution, to 1 % from 3 degrees of freedom on (the expansion of
    Cornish and Fisher 1938 to the third order).

    >>> round(student_quantile(10), 3), round(student_quantile(1e6), 3)
    (2.228, 1.96)
    """
    z, v = Z95, max(1.0, freedom)
    first = (z**3 + z) / (4 * v)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    return z + first + second + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)


def difference_interval(value: float, interval: Interval, other: float, other_interval: Interval) -> Interval:
    """Returns the interval of `value - other` from the intervals of both, whose pairs are independent.

    From the difference d it reaches down by √((value - lower)² + (other_upper - other)²), and up alike (Zou and Donner
    2008; of proportions Newcombe 1998).

    >>> [round(end, 3) for end in difference_interval(0.9, (0.86, 0.93), 0.8, (0.77, 0.83))]
    [0.05, 0.142]
    """
    (lower, upper), (other_lower, other_upper) = interval, other_interval
    difference = value - other
    below, above = math.hypot(value - lower, other_upper - other), math.hypot(upper - value, other - other_lower)
    return difference - below, difference + above
