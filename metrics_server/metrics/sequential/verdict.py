"""Verdicts: what may be said of a candidate against a baseline, now and at every later look."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from metrics_server.metrics.confidence import Interval
from metrics_server.metrics.sequential.estimate import SequentialEstimate, ShareEstimate, difference, interval

COVERAGE_APART = 0.1  # shares of labelled predictions that differ by more are not compared


class Verdict(StrEnum):
    """What the labels say of a candidate. Only the first three may promote or roll back."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"
    INCOMPARABLE = "incomparable"


@dataclass(frozen=True)
class Arm:
    """One of two predictors that are compared.

    Attributes:
        estimate: of the metric, from its labelled predictions.
        predictions: how many are so old that their labels were to be expected, the same age for both arms.
        labelled: how many of these have one.
    """

    estimate: SequentialEstimate
    predictions: float
    labelled: float

    @property
    def missing(self) -> float:
        return max(0.0, self.predictions - self.labelled)


def verdict_of(gain: Interval | None, margin: float = 0.0) -> Verdict:
    """What an interval of the difference (more is better) says.

    Whoever looks at every event, and acts once on the first verdict, is wrong with a chance of at most the alpha of the
    interval: each wrong verdict needs an interval that leaves out the true difference.

    >>> str(verdict_of((0.01, 0.05))), str(verdict_of((-0.01, 0.015), margin=0.02)), str(verdict_of(None))
    ('better', 'equivalent', 'undecided')

    Args:
        gain: None while there is none.
        margin: how large a difference does not matter, >= 0.
    """
    if gain is None:
        return Verdict.UNDECIDED
    lower, upper = gain
    if lower > margin:
        return Verdict.BETTER
    if upper < -margin:
        return Verdict.WORSE
    return Verdict.EQUIVALENT if lower >= -margin and upper <= margin else Verdict.UNDECIDED


def compare(
    candidate: Arm, baseline: Arm, *, margin: float = 0.0, better: int = 1, candidates: int = 1, alpha: float = 0.05
) -> Verdict:
    """The verdict, unless the two arms have been labelled so differently that it could come from that alone.

    The verdict of labelled predictions takes it that whether a label has come does not depend on whether the prediction
    was right. Where the labelled shares of both arms surely differ by more than 0.1, that cannot be taken for granted.
    Then the missing labels are assigned to the candidate's harm and again to its gain (Manski 1990): a verdict that is
    the same in the whole range stands, whatever they turn out to be, and so does `undecided`.

    Args:
        candidate: see `Arm`.
        baseline: see `Arm`.
        margin: see `verdict_of`.
        better: see `difference`.
        candidates: see `difference`.
        alpha: see `difference`.
    """
    gain = difference(candidate.estimate, baseline.estimate, better=better, candidates=candidates, alpha=alpha)
    found = verdict_of(gain, margin)
    if found is Verdict.UNDECIDED or not coverage_differs(candidate, baseline, alpha):
        return found
    whole = gain_whatever_is_missing(candidate, baseline, better=better, candidates=candidates, alpha=alpha)
    return found if verdict_of(whole, margin) is found else Verdict.INCOMPARABLE


def coverage_differs(candidate: Arm, baseline: Arm, alpha: float = 0.05) -> bool:
    """Whether the labelled shares surely differ by more than 0.1: by their own confidence sequence, at every look."""
    ours, theirs = (ShareEstimate(min(arm.labelled, arm.predictions), arm.predictions) for arm in (candidate, baseline))
    apart = difference(ours, theirs, alpha=alpha)
    return apart is not None and (apart[0] > COVERAGE_APART or apart[1] < -COVERAGE_APART)


def gain_whatever_is_missing(
    candidate: Arm, baseline: Arm, *, better: int = 1, candidates: int = 1, alpha: float = 0.05
) -> Interval | None:
    """The interval of the difference with missing labels at their worst for the candidate, to that with them at their
    best; None for values without bounds.

    Of shares it holds the difference of all predictions at every look, with no assumption about labels: the intervals
    of the whole truth would, and they are within it.
    """
    ends = []
    for favoured in (False, True):
        ours = candidate.estimate.completed(candidate.missing, best=favoured == (better > 0))
        theirs = baseline.estimate.completed(baseline.missing, best=favoured != (better > 0))
        if ours is None or theirs is None:
            return None
        gain = difference(ours, theirs, better=better, candidates=candidates, alpha=alpha)
        if gain is None:
            return None
        ends.append(gain[favoured])
    return ends[0], ends[1]


def split_differs(count: float, total: float, declared: float, alpha: float = 0.001) -> bool:
    """Whether a share of requests is surely not the declared one, such as a canary's 0.25 of the traffic.

    The sample-ratio check (Lindon and Malek 2022, "Anytime-valid inference for multinomial count data"); of two arms
    their test is that of one share, and exact. The declared share is rejected when the interval of the counts leaves it
    out; with a chance of at most alpha at any look while it holds. Of several arms each is looked at, at alpha by their
    number.

    What breaks it: a split that was changed on the way; sessions that stick to an arm, so that requests come in
    bunches.
    A split that differs is no small thing: some requests were lost for one arm, and they may not be like the others.

    >>> split_differs(count=2_520, total=10_000, declared=0.25), split_differs(2_900, 10_000, declared=0.25)
    (False, True)
    """
    found = interval(ShareEstimate(count, total), alpha)
    return found is not None and not found[0] <= declared <= found[1]
