"""Means, and whatever else has a variance, at every look: asymptotic confidence sequences.

After n values with the sample variance s² the interval is (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2024, "Time-
uniform central limit theory and asymptotic confidence sequences"; the normal mixture is that of Robbins 1970)

    mean ± s sqrt( (1 + η / n) (log(1 + n / η) - 2 log alpha) / n )

which a Brownian motion, that the sum of the values comes to be like, leaves with a chance of alpha. η, their 1 / ρ²,
says for which n the interval is at its narrowest: see `TIGHTEST_AT`.

An efficient estimate of anything else, at variances V that shrink as pairs come, is like a Brownian motion at times 1/V
(Scharfstein, Tsiatis, Robins 1997; Jennison and Turnbull 1997): so the same interval, with s²/n = V, serves an area
under a curve (DeLong's V), an F1 (the delta method's), and the difference of two independent arms (the sum of both V,
whatever traffic each is given).

Promise: in the limit of late first looks, a chance of at least 1 - alpha that the interval holds the truth at all looks
together. For looks from `BURN_IN` on simulation says so, and nothing else does (tests/laws/test_sequential_simulation).

What breaks it: looks before that; values a few of which make nearly all of the variance and have not come yet, however
many pairs there are (the error of a nearly perfect model, heavy tails); rows that are alike; labels that come sooner,
or at all, for one outcome.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from metrics_server.metrics.model import Array

BURN_IN = 200  # pairs of an arm; see the table of docs/explanation/verdicts.md
TIGHTEST_AT = 5000  # later than most looks: early intervals are wider, which is what skewed values need


def precision_for(tightest_at: float, alpha: float) -> float:
    """The η of the interval that is about its narrowest after so many values.

    n / η = -2 log alpha + log(1 - 2 log alpha): the first terms of Lambert's W, within 1 % of the least width.
    """
    twice = -2 * math.log(alpha)
    return tightest_at / (twice + math.log1p(twice))


def radius(variance: npt.ArrayLike, count: npt.ArrayLike, alpha: float = 0.05) -> Array:
    """Half the width of the interval of an estimate with this variance, of so many pairs.

    >>> round(float(radius(variance=0.25 / 1000, count=1000)), 4)
    0.0532

    Args:
        variance: of the estimate, V; of a mean s² / n.
        count: n, > 0; with the variance of a single value, n V, it is the time of the Brownian motion.
        alpha: the chance of ever leaving out the truth.
    """
    eta = precision_for(TIGHTEST_AT, alpha)
    spread, n = np.asarray(variance, dtype=float), np.asarray(count, dtype=float)
    result: Array = np.sqrt(spread * (1 + eta / n) * (np.log1p(n / eta) - 2 * math.log(alpha)))
    return result
