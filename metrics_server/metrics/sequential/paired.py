"""Paired evidence: two predictors that answered the same requests, of which one was right and the other wrong.

A request on which both are right, or both wrong, tells nothing of which is the better. Of the others, the discordant
ones, a predictor that is as good wins half. With b of them won and c lost, and a Beta(a, a) mixture over the share,

    E = 2^(b + c) B(a + b, a + c) / B(a, a)

is a martingale from 1 on while both are equally good (McNemar's test at every look), so it reaches 1 / alpha with a
chance of at most alpha. It is exact under corrections, as nothing but b and c goes into it.

The prior is uniform, a = 1: near a half, where two versions of a model mostly are, it costs less than Jeffreys'.

What breaks it: labels that come sooner, or at all, where a certain one of the two is right; requests that are repeated.
"""

from __future__ import annotations

import math

from metrics_server.metrics.sequential.share import log_beta
from metrics_server.metrics.sequential.verdict import Verdict

ACCURACY = "accuracy_ratio"  # the value of a metric model that says of a pair whether it is right
UNIFORM = 1.0


def log_paired_evidence(won: float, lost: float, prior: float = UNIFORM) -> float:
    """The log E, the evidence that two predictors are not equally often right.

    >>> round(math.exp(log_paired_evidence(won=3, lost=1)), 3)
    0.8

    Args:
        won: requests on which the candidate alone was right, b.
        lost: those on which the baseline alone was, c.
        prior: a.
    """
    mixture = log_beta(prior + won, prior + lost) - log_beta(prior, prior)
    return float((won + lost) * math.log(2) + mixture)


def paired_verdict(won: float, lost: float, *, candidates: int = 1, alpha: float = 0.05) -> Verdict:
    """Better or worse once the evidence is 1 / alpha, with the error shared by the declared candidates; else undecided.

    >>> str(paired_verdict(won=30, lost=8)), str(paired_verdict(won=20, lost=12))
    ('better', 'undecided')
    """
    if log_paired_evidence(won, lost) < math.log(candidates / alpha):
        return Verdict.UNDECIDED
    return Verdict.BETTER if won > lost else Verdict.WORSE
