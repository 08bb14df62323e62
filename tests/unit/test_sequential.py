"""Statistics that hold at every look: closed forms, symmetries, extremes, and what other implementations say.

How often they are wrong is simulated in tests/laws/test_sequential_simulation.py.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import ville
from scipy import special, stats
from sklearn import metrics

from cm_models.binary_metrics import BinaryMetrics
from cm_models.multiclass_numeric import MultiClassNumeric
from cm_models.regression import Regression
from metrics_server.metrics.model import Sample
from metrics_server.metrics.sequential import detector
from metrics_server.metrics.sequential.asymptotic import BURN_IN, TIGHTEST_AT, precision_for, radius
from metrics_server.metrics.sequential.detector import (
    FALLS,
    SPAN_HOURS,
    advance,
    evidence_of,
    share_evidence,
    threshold,
)
from metrics_server.metrics.sequential.estimate import (
    AsymptoticEstimate,
    Sequential,
    ShareEstimate,
    difference,
    difference_of_sums,
    interval,
    mean_estimate,
)
from metrics_server.metrics.sequential.paired import log_paired_evidence, paired_verdict
from metrics_server.metrics.sequential.share import (
    JEFFREYS,
    log_beta,
    log_evidence_against,
    share_difference,
    share_interval,
)
from metrics_server.metrics.sequential.verdict import (
    Arm,
    Verdict,
    compare,
    gain_whatever_is_missing,
    split_differs,
    verdict_of,
)
from metrics_server.metrics.sums import Sums
from metrics_server.pairing.scoring import weighted

ALPHAS = (0.001, 0.05, 0.2)


def _counts() -> tuple[np.ndarray, np.ndarray]:
    """Successes and trials: all, none, one, all but one, half, and at random, of one trial to 1e7."""
    random = np.random.default_rng(0)
    trials = np.concatenate([np.repeat([1, 2, 10, 1000, 10**7], 5), random.integers(1, 10**7, 200)])
    kinds = np.stack([0 * trials, trials, 1 + 0 * trials, trials - 1, trials // 2])
    right = kinds[np.arange(trials.size) % 5, np.arange(trials.size)]
    right[-150:] = random.random(150) * (trials[-150:] + 1)
    return right.astype(float), trials.astype(float)


SUCCESSES, TRIALS = _counts()


# Shares.


def test_log_beta_is_that_of_scipy() -> None:
    """The logarithm of the beta function is SciPy's, of halves to 1e7, to nine digits of the larger of it and 1."""
    a = np.concatenate([[0.5, 1, 1.5, 9.99, 10], np.geomspace(0.5, 1e7, 60)])
    assert log_beta(a[:, None], a) == pytest.approx(special.betaln(a[:, None], a), rel=1e-9, abs=1e-9)


def test_log_beta_keeps_its_digits_where_three_logarithms_of_gamma_lose_them() -> None:
    """At 1e12 it follows the limit log B(n, n) = -2 n log 2 + log(4 pi / n) / 2 + 1 / 8n, of which the difference of
    gammas is 0.01 off.
    """
    n = 1e12
    assert float(log_beta(n, n)) == pytest.approx(-2 * n * math.log(2) + math.log(4 * math.pi / n) / 2, abs=1e-3)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_ends_of_a_share_are_where_the_evidence_is_enough(alpha: float) -> None:
    """At both ends, unless they are 0 and 1, E is 1 / alpha, to what a float next to 1 leaves of it; the observed
    share is between them.
    """
    lower, upper = share_interval(SUCCESSES, TRIALS, alpha)
    assert (lower <= SUCCESSES / TRIALS).all()
    assert (upper >= SUCCESSES / TRIALS).all()
    for end, inner in ((lower, SUCCESSES > 0), (upper, SUCCESSES < TRIALS)):
        found = log_evidence_against(end[inner], SUCCESSES[inner], TRIALS[inner])
        assert found == pytest.approx(np.full(found.shape, -math.log(alpha)), abs=0.01)
    assert (lower[SUCCESSES == 0] == 0).all()
    assert (upper[SUCCESSES == TRIALS] == 1).all()


@pytest.mark.parametrize("right", [0, 1, 20, 190, 199, 200])
def test_the_interval_of_a_share_is_that_of_ville(right: int) -> None:
    """Another implementation of the beta-binomial confidence sequence has the same ends."""
    trials = np.repeat([1, 0], [right, 200 - right])
    other = ville.BernoulliCS(alpha=0.05, prior=(JEFFREYS, JEFFREYS), intersect=False).fit(trials)
    assert share_interval(right, 200) == pytest.approx((other.lower_[-1], other.upper_[-1]), abs=1e-9)


def test_evidence_is_the_beta_binomial_of_scipy_by_the_binomial() -> None:
    """E(p) is the chance of the counts under the mixture by that under p."""
    counts = np.arange(0, 41)
    other = stats.betabinom.logpmf(counts, 40, JEFFREYS, JEFFREYS) - stats.binom.logpmf(counts, 40, 0.7)
    assert log_evidence_against(0.7, counts, 40) == pytest.approx(other, abs=1e-9)


def test_failures_have_the_mirrored_interval() -> None:
    """The interval of the failures is 1 less that of the successes."""
    lower, upper = share_interval(SUCCESSES, TRIALS)
    mirrored = share_interval(TRIALS - SUCCESSES, TRIALS)
    assert mirrored[0] == pytest.approx(1 - upper, abs=1e-12)
    assert mirrored[1] == pytest.approx(1 - lower, abs=1e-12)


def test_intervals_of_less_risk_hold_those_of_more() -> None:
    """With a smaller alpha the interval is wider on both sides."""
    ends = [share_interval(SUCCESSES, TRIALS, alpha) for alpha in ALPHAS]
    for (lower, upper), (inner_lower, inner_upper) in itertools.pairwise(ends):
        assert (lower <= inner_lower).all()
        assert (upper >= inner_upper).all()


def test_of_n_successes_the_lower_end_has_a_closed_form() -> None:
    """With n of n it is (alpha B(a + n, a) / B(a, a))^(1/n), and the upper end 1."""
    for n in (1, 30, 10**7):
        expected = math.exp((math.log(0.05) + special.betaln(0.5 + n, 0.5) - special.betaln(0.5, 0.5)) / n)
        assert share_interval(n, n) == pytest.approx((expected, 1.0), abs=1e-12)


def test_without_trials_nothing_is_known() -> None:
    """Of no trial the interval is 0 to 1, of none on both sides the difference -1 to 1."""
    assert share_interval(0, 0) == (0, 1)
    assert share_difference((0, 0), (0, 0)) == (-1, 1)


def test_a_difference_changes_its_sign_with_the_arms() -> None:
    """Baseline less candidate is the mirror of candidate less baseline, of any two arms; it holds the one observed."""
    one, other = (SUCCESSES[:40, None], TRIALS[:40, None]), (SUCCESSES[None], TRIALS[None])
    lower, upper = share_difference(one, other)
    mirrored = share_difference(other, one)
    assert mirrored[0] == pytest.approx(-upper, abs=1e-9)
    assert mirrored[1] == pytest.approx(-lower, abs=1e-9)
    observed = one[0] / one[1] - other[0] / other[1]
    assert (lower <= observed + 1e-12).all()
    assert (observed <= upper + 1e-12).all()


@pytest.mark.parametrize(("one", "other"), [((45, 50), (160, 200)), ((50, 50), (0, 7)), ((3, 9), (9, 9))])
def test_the_difference_of_shares_is_that_of_a_search_over_a_grid(one: tuple, other: tuple) -> None:
    """No pair of shares on a fine grid that is not rejected has a larger difference, and one comes near."""
    lower, upper = share_difference(one, other)
    grid = np.linspace(0, 1, 2001)
    together = log_evidence_against(grid[:, None], *one) + log_evidence_against(grid[None, :], *other)
    differences = (grid[:, None] - grid[None, :])[together < math.log(1 / 0.05)]
    assert (differences.min(), differences.max()) == pytest.approx((lower, upper), abs=2e-3)
    assert differences.min() >= lower - 1e-12
    assert differences.max() <= upper + 1e-12


def test_the_difference_is_narrower_than_that_of_two_intervals() -> None:
    """One promise of both arms is worth about a sixth of the width of two promises of half the risk."""
    (lower, upper), one, other = (
        share_difference((900, 1000), (850, 1000)),
        share_interval(900, 1000, 0.025),
        share_interval(850, 1000, 0.025),
    )
    assert 0.8 < (upper - lower) / (one[1] - one[0] + other[1] - other[0]) < 0.87


# Means.


@pytest.mark.parametrize("n", [BURN_IN, 1000, 10**7])
def test_the_interval_of_a_mean_is_that_of_ville(n: int) -> None:
    """Another implementation of the asymptotic confidence sequence has the same width."""
    eta = precision_for(TIGHTEST_AT, 0.05)
    expected = ville.normal_mixture(n, 0.05, eta) / n * 3.0
    assert float(radius(9.0 / n, n)) == pytest.approx(float(expected), rel=1e-12)


def test_the_interval_is_tightest_where_it_is_meant_to_be() -> None:
    """No other precision is narrower by more than 1 % there."""
    best, eta = ville.best_rho(TIGHTEST_AT, 0.05), precision_for(TIGHTEST_AT, 0.05)
    widths = [float(ville.normal_mixture(TIGHTEST_AT, 0.05, rho)) for rho in (best, eta)]
    assert widths[1] == pytest.approx(widths[0], rel=0.01)


def test_the_sums_of_a_mean_say_what_its_values_say() -> None:
    """n, Σx and Σx² give the mean and the variance of the mean that numpy has of the values."""
    values = np.random.default_rng(1).lognormal(size=500)
    found = mean_estimate(values.sum(), values @ values, 500)
    assert (found.value, found.variance) == pytest.approx((values.mean(), values.var(ddof=1) / 500))


def test_a_mean_of_a_completed_arm_is_that_of_all_values() -> None:
    """Missing values at a bound change mean and variance as if they had come."""
    values = np.random.default_rng(2).random(4000)
    found = mean_estimate(values.sum(), values @ values, 4000, bounds=(0.0, 1.0)).completed(1000, best=True)
    whole = np.append(values, np.ones(1000))
    assert (found.value, found.variance) == pytest.approx((whole.mean(), whole.var() / 5000), rel=0.01)


@pytest.mark.parametrize(
    ("estimate", "ready"),
    [
        (AsymptoticEstimate(0.5, 1e-4, BURN_IN - 1), False),
        (AsymptoticEstimate(0.5, 1e-4, BURN_IN), True),
        (AsymptoticEstimate(0.5, 1e-4, 5000, {"a": 9, "b": 4991}), False),
        (AsymptoticEstimate(0.5, 1e-4, 5000, {"a": 10, "b": 4990}), True),
        (ShareEstimate(1, 1), True),
        (ShareEstimate(0, 0), False),
    ],
)
def test_what_is_asymptotic_waits(estimate: AsymptoticEstimate | ShareEstimate, ready: bool) -> None:
    """Only shares say anything before the burn-in, or before ten truths of each class: other verdicts are undecided."""
    assert (interval(estimate) is not None) == ready
    assert ready or verdict_of(difference(estimate, estimate)) is Verdict.UNDECIDED


def test_averages_over_other_classes_are_not_compared() -> None:
    """A class that only one arm has seen makes the difference undefined."""
    one, other = (AsymptoticEstimate(0.5, 1e-4, 5000, dict.fromkeys(classes, 1000)) for classes in ("ab", "abc"))
    assert difference(one, other) is None


# Differences and verdicts of any family.


def test_an_error_has_its_sign_turned() -> None:
    """Of two errors, the smaller is the better: the interval says how much better the candidate is."""
    one, other = (AsymptoticEstimate(value, 1e-4, 5000) for value in (1.0, 2.0))
    assert verdict_of(difference(one, other, better=-1)) is Verdict.BETTER
    assert verdict_of(difference(one, other, better=1)) is Verdict.WORSE


def test_several_candidates_share_the_error() -> None:
    """Each of four candidates has the interval of a quarter of alpha, of either kind."""
    for one, other in (
        (ShareEstimate(900, 1000), ShareEstimate(850, 1000)),
        (AsymptoticEstimate(0.9, 1e-4, 5000), AsymptoticEstimate(0.8, 1e-4, 5000)),
    ):
        assert difference(one, other, candidates=4) == difference(one, other, alpha=0.0125)


def _classification(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truths = random.choice(["a", "b", "c"], p=[0.5, 0.3, 0.2], size=1000).astype(object)
    return truths, np.where(random.random(1000) < 0.8, truths, "a").astype(object)


def test_families_say_what_their_values_are() -> None:
    """Accuracy is a share, an absolute error a mean, macro F1 a value with the delta method's variance: that which a
    bootstrap has.
    """
    truths, predictions = _classification(3)
    model = MultiClassNumeric()
    assert isinstance(model, Sequential)
    sums = model.increments(truths, predictions)
    assert model.estimate("accuracy_ratio", sums) == ShareEstimate((truths == predictions).sum(), 1000)
    found = model.estimate("f1_macro_ratio", sums)
    random = np.random.default_rng(4)
    rows = (random.integers(0, 1000, 1000) for _ in range(100))
    again = [metrics.f1_score(truths[row], predictions[row], average="macro") for row in rows]
    assert found.value == pytest.approx(metrics.f1_score(truths, predictions, average="macro"))
    assert math.sqrt(found.variance) == pytest.approx(np.std(again), rel=0.25)
    assert dict(found.truths) == {label: (truths == label).sum() for label in "abc"}


def test_a_weighted_share_is_a_mean() -> None:
    """Pairs with weights are no trials: the share is asymptotic then, of as many pairs as tell as much."""
    truths, predictions = _classification(3)
    model = MultiClassNumeric()
    sums = weighted(model.increments(truths, predictions), 1000, 0.5)
    found = model.estimate("accuracy_ratio", sums)
    assert isinstance(found, AsymptoticEstimate)
    assert (found.count, found.bounds) == (pytest.approx(1000), (0.0, 1.0))


def test_the_difference_of_any_family_is_asked_for_alike() -> None:
    """From two sums and the name of a value comes how much better the candidate is; None of what is not sequential."""
    random = np.random.default_rng(5)
    truths = random.normal(size=2000)
    model = Regression()
    good, bad = (model.increments(truths, truths + random.normal(scale=scale, size=2000)) for scale in (1.0, 1.5))
    lower, upper = difference_of_sums(model, "mean_absolute_error", good, bad)
    assert 0 < lower < 0.5 * math.sqrt(2 / math.pi) < upper
    for name in ("r2", "mean_error", "no_such_value"):
        assert difference_of_sums(model, name, good, bad) is None
    empty: Sums = {}
    assert difference_of_sums(model, "mean_absolute_error", empty, bad) is None
    binary = BinaryMetrics()
    sums = binary.increments((truths > 0).astype(float), (truths > 0.2).astype(float))
    assert difference_of_sums(binary, "accuracy_ratio", sums, sums)[1] > 0


@pytest.mark.parametrize(
    ("gain", "margin", "verdict"),
    [
        ((0.001, 0.2), 0.0, "better"),
        ((0.001, 0.2), 0.01, "undecided"),
        ((-0.2, -0.001), 0.0, "worse"),
        ((-0.2, -0.011), 0.01, "worse"),
        ((-0.01, 0.01), 0.01, "equivalent"),
        ((-0.01, 0.02), 0.01, "undecided"),
        ((-0.2, 0.2), 0.0, "undecided"),
        (None, 1.0, "undecided"),
    ],
)
def test_a_verdict_is_where_the_interval_is(gain: tuple | None, margin: float, verdict: str) -> None:
    """Above the margin, below its negative, within both, or none of these."""
    assert verdict_of(gain, margin) == verdict


def _arm(right: int, labelled: int, predictions: int) -> Arm:
    return Arm(ShareEstimate(right, labelled), predictions, labelled)


@pytest.mark.parametrize(
    ("candidate", "baseline", "verdict"),
    [
        (_arm(1900, 2000, 2000), _arm(5000, 6000, 6000), "better"),
        (_arm(950, 1000, 2000), _arm(5000, 6000, 6000), "incomparable"),  # the other half may be wrong
        (_arm(1560, 1600, 2000), _arm(3000, 6000, 6000), "better"),  # though none of the other 400 may be right
        (_arm(1080, 1200, 1500), _arm(2700, 3000, 3750), "undecided"),  # alike, and labelled alike
        (_arm(10, 10, 40), _arm(5000, 6000, 6000), "undecided"),  # nothing to contradict
        (_arm(100, 1000, 2000), _arm(5900, 6000, 6000), "worse"),  # even with the other half right
    ],
)
def test_arms_that_are_labelled_differently_are_incomparable(candidate: Arm, baseline: Arm, verdict: str) -> None:
    """Unless the missing labels could not change the verdict, whatever they turn out to be."""
    assert compare(candidate, baseline) == verdict


def test_missing_labels_favour_errors_the_other_way_round() -> None:
    """Of an error, the worst that the missing labels of a candidate can be is the greatest; without bounds no range."""
    known = AsymptoticEstimate(0.2, 1e-6, 10_000, bounds=(0.0, 1.0))
    one, other = Arm(known, 20_000, 10_000), Arm(known, 10_000, 10_000)
    lower, upper = gain_whatever_is_missing(one, other, better=-1)
    assert lower == pytest.approx(-0.4, abs=0.02)
    assert upper == pytest.approx(0.1, abs=0.02)
    unbounded = Arm(AsymptoticEstimate(0.2, 1e-6, 10_000), 20_000, 10_000)
    assert gain_whatever_is_missing(unbounded, other) is None
    assert compare(unbounded, Arm(AsymptoticEstimate(0.5, 1e-6, 10_000), 10_000, 10_000)) is Verdict.INCOMPARABLE


@pytest.mark.parametrize(("count", "differs"), [(25_000, False), (25_400, False), (26_000, True), (24_000, True)])
def test_a_split_that_is_not_the_declared_one_is_told(count: int, differs: bool) -> None:
    """Of 100,000 requests with a quarter declared, a percent more is chance and four percent are not."""
    assert split_differs(count, 100_000, 0.25) == differs


# Paired.


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (3, 8), (500, 480), (10**6, 0), (10**6, 10**6 - 999)])
def test_paired_evidence_is_the_beta_binomial_by_a_fair_coin(won: int, lost: int) -> None:
    """E is what the test of a share of one half has, with a uniform prior; the same for either order of the two."""
    other = (won + lost) * math.log(2) + special.betaln(1 + won, 1 + lost)
    assert log_paired_evidence(won, lost) == pytest.approx(other, abs=1e-6, rel=1e-9)
    assert log_paired_evidence(won, lost) == pytest.approx(log_paired_evidence(lost, won), abs=1e-6)


def test_paired_evidence_has_a_mean_of_one() -> None:
    """Over all outcomes of n fair coins E is 1 on average: a martingale from 1 on."""
    for n in (1, 7, 40):
        chances = stats.binom.pmf(np.arange(n + 1), n, 0.5)
        values = [math.exp(log_paired_evidence(won, n - won)) for won in range(n + 1)]
        assert chances @ values == pytest.approx(1)


def test_a_paired_verdict_needs_less_than_independent_arms() -> None:
    """Where 40 of 1000 requests divide the two, the paired test decides and two independent arms do not."""
    assert paired_verdict(won=34, lost=6) is Verdict.BETTER
    assert paired_verdict(won=6, lost=34) is Verdict.WORSE
    assert paired_verdict(won=26, lost=10) is Verdict.UNDECIDED
    gain = difference(ShareEstimate(934, 1000), ShareEstimate(906, 1000))
    assert verdict_of(gain) is Verdict.UNDECIDED


# Detectors.


@pytest.mark.parametrize("objective", [0.5, 0.9, 0.99])
def test_an_e_value_of_a_share_is_one_on_average_at_the_objective(objective: float) -> None:
    """Over all outcomes of an hour it is exactly 1 there for every fall, and less above."""
    right = np.arange(21)
    values = np.exp(share_evidence(right, np.full(21, 20), objective))
    assert stats.binom.pmf(right, 20, objective) @ values == pytest.approx(np.ones(len(FALLS)))
    assert (stats.binom.pmf(right, 20, objective + 0.005) @ values < 1).all()


def test_an_e_value_of_values_between_0_and_1_is_at_most_that_of_a_share() -> None:
    """Of values spread within [0, 1] with their mean at the objective, E is at most 1 on average."""
    values = np.random.default_rng(6).beta(1.8, 0.2, size=(4000, 10))
    found = np.exp(share_evidence(values.sum(axis=1), np.full(4000, 10.0), 0.9)).mean(axis=0)
    assert (found <= 1).all()


def test_an_hour_without_labels_says_nothing() -> None:
    """Its e is 1 for every fall."""
    assert not share_evidence(0, 0, 0.9).any()


def _by_definition(log_e: np.ndarray) -> float:
    """The mean over falls of the sum over starts within the span of the products since then."""
    recent = np.exp(log_e[-SPAN_HOURS:])
    return float(np.mean(sum(recent[start:].prod(axis=0) for start in range(len(recent)))))


def test_stepping_is_summing_over_the_starts_of_the_span() -> None:
    """Hour by hour, with starts that leave after 8 days, M is what its definition says."""
    right = np.random.default_rng(7).binomial(20, 0.88, size=2 * SPAN_HOURS)
    log_e = share_evidence(right, np.full(right.size, 20.0), 0.9)
    nothing = np.full(len(FALLS), -math.inf)
    log_m, products = nothing, np.cumsum(np.concatenate((np.zeros((1, len(FALLS))), log_e)), axis=0)
    for hour, entering in enumerate(log_e):
        leaving = products[hour + 1] - products[hour - SPAN_HOURS] if hour >= SPAN_HOURS else nothing
        log_m = advance(log_m, entering, leaving)
        if hour % 50 == 0 or hour == right.size - 1:
            found = evidence_of(log_e[: hour + 1], 0.1).log_over_threshold
            expected = math.log10(_by_definition(log_e[: hour + 1]) / threshold(0.1))
            assert found == pytest.approx(expected, abs=1e-9)
            assert math.log10(np.exp(log_m).mean() / threshold(0.1)) == pytest.approx(expected, abs=1e-6)


def test_evidence_begins_where_the_share_fell() -> None:
    """The strongest start is within hours of the change, also when it is more than 8 days of hours into the stream."""
    random = np.random.default_rng(8)
    right = np.concatenate((random.binomial(20, 0.93, size=300), random.binomial(20, 0.75, size=40)))
    found = evidence_of(share_evidence(right, np.full(340, 20.0), 0.9), 0.1)
    assert found.log_over_threshold > 0
    assert abs(found.since - 300) <= 5


def test_without_evidence_nothing_begins() -> None:
    """Above the objective there is no start, and none without hours."""
    good = share_evidence(np.full(200, 20.0), np.full(200, 20.0), 0.9)
    assert evidence_of(good, 0.1).since is None
    assert evidence_of(np.zeros((0, len(FALLS))), 0.1).log_over_threshold == -math.inf


def test_the_threshold_says_both_promises() -> None:
    """c hours to a false alarm on average, and a chance within a year of a year's hours by c."""
    assert threshold(0.1) == pytest.approx(10 * detector.HOURS_A_YEAR)


def test_samples_are_as_before() -> None:
    """An estimate is the value that `compute` yields under the same name."""
    truths, predictions = _classification(9)
    model = MultiClassNumeric()
    sums = model.increments(truths, predictions)
    values: dict[str, Sample] = {sample.name: sample for sample in model.compute(sums) if not sample.labels}
    for name in ("accuracy_ratio", "f1_macro_ratio", "balanced_accuracy_ratio", "recall_weighted_ratio"):
        found = model.estimate(name, sums)
        assert found is None or found.value == pytest.approx(values[name].value)
