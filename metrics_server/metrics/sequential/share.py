"""Shares at every look: exact confidence sequences of one share, and of the difference of two.

The share p of a stream of trials is put to the test by the mixture e-process (Ville 1939; Robbins 1970; Howard, Ramdas,
McAuliffe, Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences")

    E(p) = B(a + s, a + f) / B(a, a) / (p^s (1 - p)^f)

of s successes and f failures: the likelihood of a Beta(a, a) mixture by that of p. If p is true, E is a martingale that
starts at 1, so by Ville's inequality it reaches 1 / alpha at any time with a chance of at most alpha. The shares that
E has not rejected are an interval that holds p at all looks together, however often and for whatever reason one looks.

The prior is Jeffreys', a = 1/2. What a mixture costs in width is its regret: with a = 1/2 that is log(pi n / 2) / 2
whatever the share is; with the uniform a = 1 it is less for shares from 0.11 to 0.89 and more beyond, and at a share of
1 twice as much. Models that serve are mostly beyond. The promise does not depend on the prior.

What breaks it: a trial whose chance depends on more than the past, such as rows of one request that are right or wrong
together; labels that come sooner, or at all, for one outcome. Weighted truths are no trials:
`metrics_server.metrics.sequential.asymptotic` is for them.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from metrics_server.metrics.model import Array

JEFFREYS = 0.5
_HALVINGS = 52  # as many as a float has bits
_SERIES_FROM = 10.0  # from here on the series below is exact to 1e-14
# Bernoulli numbers B(2k) / (2k (2k - 1)): the terms of Stirling's series (DLMF 5.11.1).
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)


def log_beta(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """The logarithm of the beta function, of arguments > 0.

    Three logarithms of gamma, each of order n log n, lose the digits that count: at n = 1e12 the result is off by 0.01.
    Written by the shares of a and b (DiDonato and Morris 1992, `bcorr`), the terms are of its own order.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    both = x + y
    main = -(x - 0.5) * np.log1p(y / x) - y * np.log1p(x / y) - 0.5 * np.log(y)
    correction = _stirling_rest(x) + _stirling_rest(y) - _stirling_rest(both)
    result: Array = main + 0.5 * math.log(2 * math.pi) + correction
    return result


def _stirling_rest(x: Array) -> Array:
    """The rest log Γ(x) - ((x - 1/2) log x - x + log(2 pi) / 2); small arguments by that of x + 1, and so on."""
    at, rest = x, np.zeros_like(x)
    while (small := at < _SERIES_FROM).any():
        rest = np.where(small, rest + (at + 0.5) * np.log1p(1 / at) - 1, rest)
        at = np.where(small, at + 1, at)
    inverse = 1 / at
    series = np.polynomial.polynomial.polyval(inverse * inverse, _STIRLING)
    result: Array = rest + inverse * series
    return result


def log_evidence_against(share: npt.ArrayLike, successes: npt.ArrayLike, trials: npt.ArrayLike) -> Array:
    """The log E(p), the evidence that the share is another; from -log alpha on it is rejected at level alpha.

    >>> round(float(log_evidence_against(0.5, successes=60, trials=100)), 2)
    -0.52
    """
    found, count = np.asarray(successes, dtype=float), np.asarray(trials, dtype=float)
    p = np.asarray(share, dtype=float)
    result: Array = _divergence(found, count - found, p, 1 - p) - regret(found, count)
    return result


def regret(successes: Array, trials: Array, prior: float = JEFFREYS) -> Array:
    """How much less than the likelihood of the best share that of the mixture is, as a logarithm; >= 0."""
    failures = trials - successes
    best = _x_log(successes, successes / np.maximum(trials, 1)) + _x_log(failures, failures / np.maximum(trials, 1))
    result: Array = best - log_beta(prior + successes, prior + failures) + log_beta(prior, prior)
    return result


def share_interval(successes: npt.ArrayLike, trials: npt.ArrayLike, alpha: float = 0.05) -> tuple[Array, Array]:
    """The shares that E has not rejected at this look.

    Promise: with a chance of at least 1 - alpha it holds the share at all looks together, from the first trial on.
    Exact, for any share and number of trials. Without trials it is 0 to 1.

    >>> lower, upper = share_interval(90, 100)
    >>> round(float(lower), 3), round(float(upper), 3)
    (0.772, 0.971)
    """
    found, count = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(trials, dtype=float))
    return 1 - _greatest_sum((count - found)[None], count[None], alpha), _greatest_sum(found[None], count[None], alpha)


def share_difference(
    candidate: tuple[npt.ArrayLike, npt.ArrayLike], baseline: tuple[npt.ArrayLike, npt.ArrayLike], alpha: float = 0.05
) -> tuple[Array, Array]:
    """The differences (candidate - baseline) of two independent shares that are not rejected.

    The product of the e-processes of both is one itself, E(p) E(q), as each trial belongs to one arm. A difference is
    rejected when all pairs (p, q) with it are. With n trials in each arm that is narrower by about a sixth than the
    difference of two intervals at alpha / 2.

    Promise: as `share_interval`. It holds for any division of the trials that does not depend on their outcome.

    Args:
        candidate: successes and trials.
        baseline: the same.
        alpha: the chance of ever leaving out the true difference.
    """
    (found, count), (other, others) = (
        (np.asarray(s, dtype=float), np.asarray(n, dtype=float)) for s, n in (candidate, baseline)
    )
    found, count, other, others = np.broadcast_arrays(found, count, other, others)
    trials = np.stack((count, others))
    # p - q = p + (1 - q) - 1: the share of failures in the place of the one to be subtracted.
    upper = _greatest_sum(np.stack((found, others - other)), trials, alpha) - 1
    lower = 1 - _greatest_sum(np.stack((count - found, other)), trials, alpha)
    return lower, upper


def _greatest_sum(successes: Array, trials: Array, alpha: float) -> Array:
    """The greatest sum of shares, one of each arm, of which the product of E is below 1 / alpha.

    By Lagrange, all arms have the same slope m = d log E / d p there, and the share at a slope is the root of a
    quadratic equation. log E grows with m, which is found by halving: from below, as an arm adds at most m (log E is
    convex), up to where a single failure would be enough.

    Args:
        successes: shape (arms, ...).
        trials: the same shape.
        alpha: the level.
    """
    allowed = -math.log(alpha) + regret(successes, trials).sum(axis=0)
    low, high = np.log(allowed / len(trials)), np.log(trials.max(axis=0) + 1) + allowed + 1
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        shares, rest = _at_slope(successes, trials, np.exp(middle))
        rejected = _divergence(successes, trials - successes, shares, rest).sum(axis=0) > allowed
        low, high = np.where(rejected, low, middle), np.where(rejected, middle, high)
    result: Array = (1 - _at_slope(successes, trials, np.exp(high))[1]).sum(axis=0)
    return result


def _at_slope(successes: Array, trials: Array, slope: Array) -> tuple[Array, Array]:
    """The share p with -s / p + f / (1 - p) = slope > 0, and 1 - p: each in the form that loses no digit."""
    left = trials - slope
    root = np.sqrt(left * left + 4 * slope * successes)
    apart = np.where(left > 0, left + root, 1.0)
    share = np.where(left > 0, 2 * successes / apart, (root - left) / (2 * slope))
    return share, 2 * (trials - successes) / (trials + slope + root)


def _divergence(successes: Array, failures: Array, share: Array, rest: Array) -> Array:
    """The number of trials times the Kullback-Leibler divergence of the observed share from `share` = 1 - `rest`."""
    trials = np.maximum(successes + failures, 1)
    result: Array = -_x_log(successes, share * trials / np.maximum(successes, 1e-300)) - _x_log(
        failures, rest * trials / np.maximum(failures, 1e-300)
    )
    return result


def _x_log(x: Array, y: Array) -> Array:
    """The product x log y, which is 0 for x = 0."""
    some = x > 0
    with np.errstate(divide="ignore"):  # of a share of 0 with successes: -inf is right
        result: Array = np.where(some, x * np.log(np.where(some, y, 1.0)), 0.0)
    return result
