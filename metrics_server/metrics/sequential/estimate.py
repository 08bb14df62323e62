"""Estimates: what a metric says of itself so that it can be looked at again and again, and the difference of two.

A metric model whose values are sequential has a method `estimate` (see `Sequential`). The difference of two arms needs
no more than that: `difference(candidate_sums, baseline_sums, …)`, for any family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from metrics_server.metrics.confidence import Interval
from metrics_server.metrics.model import Families, GaugeSpec
from metrics_server.metrics.sequential.asymptotic import BURN_IN, radius
from metrics_server.metrics.sequential.share import share_difference, share_interval
from metrics_server.metrics.sums import Sums

FEWEST_TRUTHS = 10  # of a class, before a metric that is made of classes says anything


@dataclass(frozen=True)
class ShareEstimate:
    """A share of trials that each came out one way or the other: exact from the first one on.

    Attributes:
        successes: how many, a whole number.
        trials: of how many.
    """

    successes: float
    trials: float

    @property
    def value(self) -> float:
        return self.successes / self.trials

    @property
    def variance(self) -> float:
        """That of the share, for a difference from an estimate of the other kind."""
        return self.value * (1 - self.value) / self.trials

    @property
    def count(self) -> float:
        return self.trials

    @property
    def truths(self) -> Mapping[str, float]:
        return {}

    def completed(self, missing: float, *, best: bool) -> ShareEstimate:
        """The share if so many more trials all come out as successes, or all not."""
        return ShareEstimate(self.successes + missing * best, self.trials + missing)


@dataclass(frozen=True)
class AsymptoticEstimate:
    """A value with a variance that shrinks as pairs come: a mean, an area under a curve, an F1, a weighted share.

    Attributes:
        value: the estimate.
        variance: of it, not of a single pair.
        count: of how many pairs; of weighted ones, of how many unweighted ones that tell as much; of an area under a
            curve p n / (p + n), of p positives and n negatives.
        truths: how many of each class, where the value is made of classes.
        bounds: of what it is the mean, where that is bounded: no pair is below the first or above the second.
    """

    value: float
    variance: float
    count: float
    truths: Mapping[str, float] = field(default_factory=dict)
    bounds: Interval | None = None

    def completed(self, missing: float, *, best: bool) -> AsymptoticEstimate | None:
        """The mean if so many more values all are the greatest, or all the least; None unless they are bounded.

        The squares about the new mean are those about the old one, and n m / (n + m) (x - mean)² (Chan, Golub, LeVeque
        1983).
        """
        if self.bounds is None:
            return None
        n, m, x = self.count, missing, self.bounds[best]
        squares = self.variance * n * n + n * m / (n + m) * (x - self.value) ** 2
        value = (n * self.value + m * x) / (n + m)
        return AsymptoticEstimate(value, squares / (n + m) ** 2, n + m, self.truths, self.bounds)


SequentialEstimate: TypeAlias = ShareEstimate | AsymptoticEstimate


@runtime_checkable
class Sequential(Protocol):
    """A metric model some of whose values hold at every look.

    `families` says whether more of a value is better; the estimate need not.
    """

    families: Families

    def estimate(self, name: str, sums: Sums) -> SequentialEstimate | None:
        """The estimate of the value of this name, without labels; None where it is undefined or not sequential."""


def better_of(model: object, name: str) -> int:
    """1 if more of this value of a metric model is better, -1 if less is; 0 if neither, or if it is one of a class."""
    spec = getattr(model, "families", {}).get(name)
    return spec.better if isinstance(spec, GaugeSpec) and "class" not in spec.labels else 0


def mean_estimate(
    total: float, squares: float, count: float, share: float = 1.0, bounds: Interval | None = None
) -> AsymptoticEstimate | None:
    """The mean of values from n, Σx and Σx²; None of fewer than two.

    >>> mean_estimate(total=8.0, squares=24.0, count=4.0)
    AsymptoticEstimate(value=2.0, variance=0.6666666666666666, count=4.0, truths={}, bounds=None)

    Args:
        total: Σx, or Σwx.
        squares: Σx², or Σwx²; about a pivot near the mean where that is far larger than the spread.
        count: n, or Σw.
        share: the `effective_weight` of the pairs.
        bounds: what no value is below, and above; the variance is then never 0, see `unseen_variance`.
    """
    if (trials := count * share) <= 1:
        return None
    mean = total / count
    variance = max(0.0, squares / count - mean * mean) / (trials - 1)
    if bounds is not None:
        variance += unseen_variance(mean, trials, bounds)
    return AsymptoticEstimate(mean, variance, trials, bounds=bounds)


def unseen_variance(value: float, count: float, bounds: Interval = (0.0, 1.0)) -> float:
    """What one more pair at either bound would add to the variance of a mean (Laplace's rule).

    Of a nearly perfect model the few pairs that are not perfect make all of the variance. Until the first has come that
    of the others is 0, and the interval a point that leaves out the truth. What is added is soon forgotten: it falls
    with n², the variance with n.

    >>> unseen_variance(1.0, count=200.0)
    2.5e-05

    Args:
        value: within the bounds.
        count: of how many pairs.
        bounds: what no pair is below, and above.
    """
    least, greatest = bounds
    return ((greatest - value) ** 2 + (value - least) ** 2) / count**2


def share_estimate(successes: float, trials: float, share: float = 1.0) -> SequentialEstimate | None:
    """A share of pairs: exact without weights, of weighted ones a mean; None before the first.

    >>> share_estimate(9.0, 10.0)
    ShareEstimate(successes=9.0, trials=10.0)

    Args:
        successes: how many, or the sum of their weights.
        trials: the same of all.
        share: their `effective_weight`.
    """
    if trials <= 0:
        return None
    found = min(trials, max(0.0, successes))
    return ShareEstimate(found, trials) if share == 1 else mean_estimate(found, found, trials, share, (0.0, 1.0))


def is_ready(estimate: SequentialEstimate) -> bool:
    """Whether its interval says anything yet: always of a share, of others after the burn-in and with truths enough."""
    if isinstance(estimate, ShareEstimate):
        return estimate.trials > 0
    return estimate.count >= BURN_IN and min(estimate.truths.values(), default=FEWEST_TRUTHS) >= FEWEST_TRUTHS


def interval(estimate: SequentialEstimate, alpha: float = 0.05) -> Interval | None:
    """The interval of one estimate that holds at every look; None before it is ready."""
    if not is_ready(estimate):
        return None
    if isinstance(estimate, ShareEstimate):
        lower, upper = share_interval(estimate.successes, estimate.trials, alpha)
        return float(lower), float(upper)
    spread = float(radius(estimate.variance, estimate.count, alpha))
    return estimate.value - spread, estimate.value + spread


def difference(
    candidate: SequentialEstimate,
    baseline: SequentialEstimate,
    *,
    better: int = 1,
    candidates: int = 1,
    alpha: float = 0.05,
) -> Interval | None:
    """How much better the candidate is than the baseline, with a promise that holds at every look.

    Shares: exact, see `share_difference`. Otherwise candidate - baseline ± `radius` of the sum of both variances, of as
    many pairs as have it when all are alike: 1 / (1/n + 1/m).

    Promise: with a chance of at least 1 - alpha none of the declared candidates' intervals ever leaves out the true
    difference (Bonferroni: each is at alpha / candidates). The arms must be independent: each request went to one of
    them. Where both answered it, `metrics_server.metrics.sequential.paired` tells more.

    >>> lower, upper = difference(ShareEstimate(930, 1000), ShareEstimate(2550, 3000))
    >>> round(lower, 3), round(upper, 3)
    (0.028, 0.126)

    Args:
        candidate: of the pairs since it was first seen.
        baseline: of the pairs of the same time.
        better: as `GaugeSpec.better`; -1, of errors, turns the sign, so that more is better.
        candidates: how many were declared against this baseline, whether or not they have pairs.
        alpha: the chance of ever being wrong.

    Returns:
        None while one of them is not ready, or when they have not seen the same classes: averages over different
        classes are different values.
    """
    if not (is_ready(candidate) and is_ready(baseline)) or candidate.truths.keys() != baseline.truths.keys():
        return None
    level = alpha / candidates
    if isinstance(candidate, ShareEstimate) and isinstance(baseline, ShareEstimate):
        lower, upper = map(float, share_difference(_trials(candidate), _trials(baseline), level))
    else:
        count = 1 / (1 / candidate.count + 1 / baseline.count)
        spread = float(radius(candidate.variance + baseline.variance, count, level))
        lower, upper = (candidate.value - baseline.value + sign * spread for sign in (-1, 1))
    return (lower, upper) if better > 0 else (-upper, -lower)


def _trials(estimate: ShareEstimate) -> tuple[float, float]:
    return estimate.successes, estimate.trials


def difference_of_sums(
    model: Sequential, name: str, candidate: Sums, baseline: Sums, *, candidates: int = 1, alpha: float = 0.05
) -> Interval | None:
    """The `difference` of a value of any family from the sums of two arms; None also where the value is
    undefined, or more of it is neither better nor worse.
    """
    better = better_of(model, name)
    found, other = model.estimate(name, candidate), model.estimate(name, baseline)
    if found is None or other is None or not better:
        return None
    return difference(found, other, better=better, candidates=candidates, alpha=alpha)
