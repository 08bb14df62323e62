"""Detectors: has a metric fallen behind its objective, with a stated number of false alarms a year.

Each hour, once the labels that will come for it have come, becomes an e-value e: evidence against "the objective is
met", at most 1 on average while it is. The evidence that it has been missed since some hour k is the product of the e
since then, and since any hour the sum of these products over k: the Shiryaev-Roberts e-detector (Shin, Ramdas, Rinaldo
2024, "E-detectors: a nonparametric framework for sequential change detection")

    M(t) = e(t) (1 + M(t - 1)),    M(0) = 0,    alarm when M >= c

While the objective is met, M(t) - t does not grow on average. So the mean time to a false alarm is at least c hours,
and the chance of one within n hours at most n / c (Doob 1953). `threshold` makes c of a number of false alarms a year.
Sums that leave out starts, such as those older than 8 days, are smaller and keep both promises.

How far a metric falls is not known: there is an e-value for each of several falls (`FALLS`), a detector for each, and
M is their mean, which keeps the promises as well.

An e-value is of the labels that an hour had when it entered. What is corrected later must not change it: who looked at
the evidence may have acted on it.

What breaks it: labels that come sooner, or at all, where the prediction was wrong; rows that are alike.

Values without bounds have no e-value here. The normal one, exp(λ √n z - λ² n / 2), is above 1 on average for skewed
values, and hours multiply that: of exponential errors, 20 an hour, 14 % of years had a false alarm where 10 % were
promised, of lognormal ones 55 %. Set an objective for the share of errors within a tolerance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metrics_server.metrics.model import Array

HOURS_A_YEAR = 8766.0
SPAN_HOURS = 8 * 24  # starts that are looked at
FALLS = tuple(0.05 * 2.0**step for step in range(7))  # of a share, in log odds


@dataclass(frozen=True)
class Evidence:
    """The evidence that an objective has been missed.

    Attributes:
        log_over_threshold: log10 of M / c; there is an alarm from 0 on.
        since: the hour, counted from the first of those given, with which the strongest product begins; None while no
            product is above 1.
    """

    log_over_threshold: float
    since: int | None


def threshold(false_alarms_a_year: float) -> float:
    """c, the hours of a year by the false alarms a year.

    >>> threshold(0.1)
    87660.0
    """
    return HOURS_A_YEAR / false_alarms_a_year


def share_evidence(total: npt.ArrayLike, count: npt.ArrayLike, objective: float) -> Array:
    """The log e of an hour, for each of `FALLS`, against "the mean is at least the objective"; shape (..., falls).

    The likelihood ratio (p / p0)^s ((1 - p) / (1 - p0))^(n - s) of an objective p0 and a share p below it, at a fall in
    log odds. Of a share exact; of values from 0 to 1 too, as the ratio is convex in each: it is then at most as large
    on average as that of a share. While no label has come e is 1.

    Of an error, where less is better, give count - total and 1 - objective.

    Args:
        total: successes of the hour, or the sum of its values in [0, 1]; shape (...).
        count: how many; the same shape.
        objective: p0, within 0 and 1.
    """
    found, trials = np.asarray(total, dtype=float)[..., None], np.asarray(count, dtype=float)[..., None]
    fallen = 1 / (1 + np.exp(np.array(FALLS) - math.log(objective / (1 - objective))))
    missed: Array = (trials - found) * np.log((1 - fallen) / (1 - objective))
    result: Array = found * np.log(fallen / objective) + missed
    return result


def advance(before: Array, entering: Array, leaving: Array) -> Array:
    """The log M of each fall an hour later: the new hour enters, and the start of `SPAN_HOURS` ago leaves.

    Args:
        before: log M at the hour before, -inf at the first; shape (..., falls).
        entering: log e of this hour.
        leaving: the sum of the log e of this hour and the `SPAN_HOURS` before it; -inf while there are not so many.
    """
    whole = entering + np.logaddexp(0.0, before)
    with np.errstate(divide="ignore"):  # of a start that was all there is: -inf is right
        result: Array = whole + np.log1p(-np.exp(np.minimum(leaving - whole, 0.0)))
    return result


def evidence_of(log_e: Array, false_alarms_a_year: float) -> Evidence:
    """The evidence at the last of these hours, in their order, each with its log e for every fall.

    To begin anew after an alarm that was acted on, give the hours after it.

    >>> hours = np.concatenate((share_evidence([19] * 48, [20] * 48, 0.9), share_evidence([14] * 48, [20] * 48, 0.9)))
    >>> found = evidence_of(hours, false_alarms_a_year=0.1)
    >>> found.since, found.log_over_threshold > 0
    (48, True)
    """
    recent = log_e[-SPAN_HOURS:]
    if not len(recent):
        return Evidence(-math.inf, None)
    products = np.cumsum(recent[::-1], axis=0)[::-1]
    by_start = np.logaddexp.reduce(products, axis=1) - math.log(products.shape[1])
    log_m = float(np.logaddexp.reduce(by_start))
    since = len(log_e) - len(recent) + int(np.argmax(by_start))
    over = (log_m - math.log(threshold(false_alarms_a_year))) / math.log(10)
    return Evidence(over, since if by_start.max() > 0 else None)
