"""Two shares compared in one look: intervals, p values and Holm's correction are those of statsmodels; where that is
wrong, those of the score test itself.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats import proportion
from statsmodels.stats.multitest import multipletests

from cm_models.binary_metrics import BinaryMetrics
from cm_models.multiclass_numeric import MultiClassNumeric
from metrics_server.metrics.group import Rate, disparities
from metrics_server.metrics.share_comparison import equality_p_value, holm, koopman_intervals, newcombe_interval
from metrics_server.pairing.scoring import weighted


def _inner_tables(seed: int, number: int = 60) -> list[tuple[int, int, int, int]]:
    """Successes and trials of two groups, neither with none nor with nothing but successes; of 2 to 5,000 trials."""
    random = np.random.default_rng(seed)
    trials = np.exp(random.uniform(math.log(2), math.log(5000), size=(number, 2))).astype(int)
    found = random.integers(1, np.maximum(trials, 2))
    return [(int(x), int(n), int(y), int(m)) for (x, y), (n, m) in zip(found, trials, strict=True)]


TABLES = _inner_tables(1)
EDGES = [(0, 10, 4, 20), (5, 10, 0, 30), (10, 10, 10, 12), (8, 12, 9, 9), (10, 10, 10, 10), (1, 1, 1, 100_000)]


@pytest.mark.parametrize("table", [*TABLES, *EDGES, (0, 5, 0, 7)])
def test_a_difference_has_the_interval_of_newcombe(table: tuple[int, int, int, int]) -> None:
    """Also where one group has no successes, or nothing else."""
    assert newcombe_interval(*table) == pytest.approx(
        proportion.confint_proportions_2indep(*table, compare="diff", method="newcomb")
    )


def test_a_ratio_has_the_interval_of_koopman() -> None:
    """Of many tables at once, each as of itself."""
    lower, upper = koopman_intervals(*np.array(TABLES).T)
    expected = [
        proportion.confint_proportions_2indep(*each, compare="ratio", method="score", correction=False)
        for each in TABLES
    ]
    assert lower == pytest.approx([low for low, _ in expected], rel=1e-6)
    assert upper == pytest.approx([high for _, high in expected], rel=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # statsmodels divides by the reference's share of 0
@pytest.mark.parametrize("table", EDGES)
def test_the_ends_of_a_ratio_are_where_its_score_test_rejects(table: tuple[int, int, int, int]) -> None:
    """Where a group has no successes or nothing else, too: just within the interval the p value of statsmodels' score
    test is above 0.05, just beyond it below.
    """
    for end, inwards in zip(map(float, koopman_intervals(*table)), (1.001, 0.999), strict=True):
        if not 0 < end < math.inf:
            continue
        inner, outer = (
            proportion.test_proportions_2indep(
                *table, value=end * by, compare="ratio", method="score", correction=False
            ).pvalue
            for by in (inwards, 2 - inwards)
        )
        assert inner > 0.05 > outer


def test_a_ratio_without_successes_has_no_end_on_that_side() -> None:
    """0 where the group has none, infinity where the reference has none, and both where nobody has."""
    assert koopman_intervals(0, 10, 4, 20)[0] == 0
    assert koopman_intervals(5, 10, 0, 30)[1] == math.inf
    assert koopman_intervals(0, 10, 0, 30) == (0, math.inf)


@pytest.mark.parametrize("table", TABLES)
def test_the_p_value_is_that_of_the_score_test(table: tuple[int, int, int, int]) -> None:
    """Of statsmodels; it is below 0.05 just where the ratio's interval leaves out 1, for both invert one test."""
    found = equality_p_value(*table)
    assert found == pytest.approx(
        proportion.test_proportions_2indep(*table, value=0, compare="diff", method="score", correction=False).pvalue
    )
    lower, upper = koopman_intervals(*table)
    assert (found < 0.05) == (not lower <= 1 <= upper)


def test_groups_that_are_all_alike_do_not_differ() -> None:
    """Without successes, or with nothing else, in both groups, the p value is 1."""
    assert equality_p_value(0, 10, 0, 20) == equality_p_value(10, 10, 20, 20) == 1


@pytest.mark.parametrize("number", [1, 2, 7, 40])
def test_the_correction_is_that_of_holm(number: int) -> None:
    """Of statsmodels, with ties and with small and large values; of none there is none."""
    p_values = np.random.default_rng(number).choice([0.0001, 0.004, 0.01, 0.03, 0.2, 0.9], size=number).tolist()
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([]) == []


def _sizes(share: float, other: float, runs: int = 4000) -> np.ndarray:
    random = np.random.default_rng(9)
    return np.stack(
        (random.binomial(60, share, runs), np.full(runs, 60), random.binomial(200, other, runs), np.full(runs, 200))
    )


@pytest.mark.parametrize(("share", "other"), [(0.5, 0.5), (0.1, 0.2), (0.9, 0.6), (0.03, 0.05)])
def test_intervals_hold_the_truth_as_often_as_they_say(share: float, other: float) -> None:
    """Of 4,000 pairs of groups of 60 and 200, 93 % to 98 % of the intervals of difference and ratio hold it."""
    tables = _sizes(share, other)
    lower, upper = koopman_intervals(*tables)
    ratio = np.mean((lower <= share / other) & (share / other <= upper))
    ends = np.array([newcombe_interval(*each) for each in tables.T.tolist()])
    difference = np.mean((ends[:, 0] <= share - other) & (share - other <= ends[:, 1]))
    assert 0.93 <= ratio <= 0.98
    assert 0.93 <= difference <= 0.98


def test_any_wrong_of_many_groups_has_the_chance_of_one() -> None:
    """Of 1,000 reports on eight groups like their reference, at most 5 % have a corrected p value below 0.05; without
    the correction a quarter has.
    """
    random = np.random.default_rng(11)
    corrected = plain = 0
    for _ in range(1000):
        reference = Rate("accuracy", {}, float(random.binomial(2000, 0.8)), 2000.0)
        groups = [Rate("accuracy", {}, float(random.binomial(300, 0.8)), 300.0) for _ in range(8)]
        found = disparities(groups, reference)
        corrected += min(each.holm_p_value for each in found) < 0.05
        plain += min(each.p_value for each in found) < 0.05
    assert corrected <= 65  # 50, and two standard deviations
    assert plain > 200


# What metric models read.


def _pairs(seed: int, rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truths = (random.random(rows) < 0.4).astype(float)
    return truths, np.clip(truths * 0.3 + random.random(rows) * 0.7, 0, 1)


def test_the_rates_of_a_binary_model_are_shares_of_its_pairs() -> None:
    """Counted from the plain pairs, at the threshold of the model."""
    truths, scores = _pairs(3)
    model, decided = BinaryMetrics(threshold=0.6), scores >= 0.6
    found = {
        rate.name: (rate.labels, rate.successes, rate.trials) for rate in model.rates(model.increments(truths, scores))
    }
    assert found == {
        "accuracy": ({}, (decided == truths).sum(), 500),
        "selection_rate": ({"class": "1"}, decided.sum(), 500),
        "true_positive_rate": ({"class": "1"}, (decided * truths).sum(), truths.sum()),
        "false_positive_rate": ({"class": "1"}, (decided * (1 - truths)).sum(), (1 - truths).sum()),
    }


def test_each_class_is_compared_with_the_rest() -> None:
    """Of several classes each has its rates, up to ten of them; the accuracy is one."""
    random = np.random.default_rng(4)
    truths = random.integers(0, 14, 3000)
    predicted = np.where(random.random(3000) < 0.7, truths, random.integers(0, 14, 3000))
    names = tuple(map(str, range(14)))
    model = MultiClassNumeric(classes=names)
    rates = list(model.rates(model.increments(truths.astype(str), predicted.astype(str))))
    assert len(rates) == 1 + 3 * 10
    (positive,) = [rate for rate in rates if rate[:2] == ("true_positive_rate", {"class": "3"})]
    assert positive.value == pytest.approx((predicted[truths == 3] == 3).mean())
    (false,) = [rate for rate in rates if rate[:2] == ("false_positive_rate", {"class": "3"})]
    assert false.value == pytest.approx((predicted[truths != 3] == 3).mean())


def test_a_rate_without_trials_is_undefined() -> None:
    """Without positives there is no true positive rate; without pairs there is nothing."""
    model = BinaryMetrics()
    found = [rate.name for rate in model.rates(model.increments(np.zeros(5), np.ones(5)))]
    assert found == ["accuracy", "selection_rate", "false_positive_rate"]
    assert not list(model.rates({}))


def test_weights_count_for_as_many_as_tell_as_much() -> None:
    """Pairs of weight 1/2 each give the rates and the trials of as many pairs of weight 1."""
    model = BinaryMetrics()
    plain = model.increments(*_pairs(5))
    half = weighted(plain, 500, 0.5)
    for one, other in zip(model.rates(plain), model.rates(half), strict=True):
        assert (other.successes, other.trials) == pytest.approx((one.successes, one.trials))
