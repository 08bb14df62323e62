"""What each family says of itself to be looked at again and again: values and variances are numpy's of the plain rows.

How often the intervals are wrong is simulated in tests/laws/test_sequential_simulation.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from cm_models.binary_metrics import BinaryMetrics
from cm_models.human_feedback import HumanFeedback
from cm_models.multiclass_one_hot import MulticlassOneHot
from cm_models.multilabel import MultiLabel
from cm_models.ranking import Ranking
from metrics_server.metrics.model import MetricModel, Sample
from metrics_server.metrics.sequential.asymptotic import BURN_IN
from metrics_server.metrics.sequential.estimate import (
    AsymptoticEstimate,
    ShareEstimate,
    difference_of_sums,
    interval,
    unseen_variance,
)
from metrics_server.metrics.sequential.verdict import Verdict, verdict_of
from metrics_server.pairing.scoring import weighted

Rows = tuple[np.ndarray, np.ndarray]
ROWS = 2000


def _ranked(rows: int = ROWS, seed: int = 1) -> Rows:
    """Grades of twelve candidates, of some rows all 0, and scores that follow them."""
    random = np.random.default_rng(seed)
    grades = random.choice([0.0, 1.0, 3.0], p=[0.85, 0.1, 0.05], size=(rows, 12))
    return grades, grades + random.normal(size=grades.shape)


def _labelled(rows: int = ROWS, seed: int = 2) -> Rows:
    """Five labels and scores of them; rows differ in how many hold, some have none."""
    random = np.random.default_rng(seed)
    truths = (random.random((rows, 5)) < random.random((rows, 1))).astype(float)
    return truths, np.clip(truths * 0.4 + random.random(truths.shape) * 0.6, 0, 1)


def _scored(rows: int = ROWS, seed: int = 3) -> Rows:
    """Truths and scores at edges of bins, so that the histogram has their order."""
    random = np.random.default_rng(seed)
    truths = (random.random(rows) < 0.3).astype(float)
    return truths, np.clip(np.round((truths * 0.3 + random.random(rows) * 0.7) * 20) / 20, 0.1, 0.9)


def _probable(rows: int = ROWS, seed: int = 4) -> Rows:
    """Classes as labels, and rows of probabilities at edges of bins."""
    random = np.random.default_rng(seed)
    truths = random.choice(3, p=[0.5, 0.3, 0.2], size=rows)
    first = np.where(truths == 0, 0.6, 0.1) + random.choice([0.0, 0.1, 0.2], size=rows)
    second = np.where(truths == 1, 0.6, 0.1) * random.choice([0.5, 1.0], size=rows)
    second = np.minimum(np.round(second * 20) / 20, 1 - first)
    return truths.astype(str), np.stack((first, second, 1 - first - second), axis=1)


def _rated(rows: int = ROWS, seed: int = 5) -> Rows:
    return np.random.default_rng(seed).choice([1.0, 2.0, 4.0, 5.0], size=rows), np.zeros(rows)


def _thumbs(rows: int = ROWS, seed: int = 6) -> Rows:
    return np.random.default_rng(seed).choice([1.0, -1.0], p=[0.8, 0.2], size=rows), np.zeros(rows)


FAMILIES: Mapping[str, tuple[MetricModel, Any]] = {
    "ranking": (Ranking(k=(3, 5)), _ranked),
    "multilabel": (MultiLabel(), _labelled),
    "binary": (BinaryMetrics(), _scored),
    "one-hot": (MulticlassOneHot(), _probable),
    "ratings": (HumanFeedback(), _rated),
    "thumbs": (HumanFeedback(), _thumbs),
}
SEQUENTIAL = {
    "ranking": ("ndcg", "mean_average_precision", "hit_ratio", "mean_reciprocal_rank"),
    "multilabel": (
        "exact_match_ratio",
        "hamming_loss",
        "jaccard_samples_ratio",
        "f1_micro_ratio",
        "precision_micro_ratio",
        "recall_micro_ratio",
        "recall_weighted_ratio",
    ),
    "binary": ("accuracy_ratio", "log_loss", "brier_score", "roc_auc_macro_ratio"),
    "one-hot": ("accuracy_ratio", "f1_macro_ratio", "log_loss", "brier_score", "roc_auc_macro_ratio"),
    "ratings": ("rating_mean",),
    "thumbs": ("rating_mean", "thumbs_up_ratio"),
}
NOT_SEQUENTIAL = {
    "ranking": ("no_such_value",),
    "multilabel": ("f1_macro_ratio", "f1_weighted_ratio", "f1_ratio"),
    "binary": ("calibration_error_ratio", "average_precision_macro_ratio", "roc_auc_ratio"),
    "one-hot": ("top_k_accuracy_ratio", "calibration_error_ratio"),
    "ratings": ("thumbs_up_ratio", "rating_ratio"),
    "thumbs": ("rating_ratio",),
}
EACH = [(family, name) for family, names in SEQUENTIAL.items() for name in names]


def _headlines(model: MetricModel, sums: Mapping[str, float]) -> dict[str, Sample]:
    """The first sample of each name: where it has a k, that of the largest."""
    found: dict[str, Sample] = {}
    for sample in model.compute(sums):
        found.setdefault(sample.name, sample)
    return found


@pytest.mark.parametrize(("family", "name"), EACH)
def test_an_estimate_is_the_value_that_is_shown(family: str, name: str) -> None:
    """Of every sequential value: the same number as the gauge, with an interval at every look that is wider than that
    of one, and a place in the order of better and worse.
    """
    model, draw = FAMILIES[family]
    sums = model.increments(*draw())
    found, shown = model.estimate(name, sums), _headlines(model, sums)[name]
    assert found.value == pytest.approx(shown.value, rel=1e-12)
    lower, upper = interval(found)
    assert lower < shown.interval[0] < shown.interval[1] < upper
    assert model.families[name].better != 0


@pytest.mark.parametrize(("family", "name"), EACH)
def test_nothing_is_said_of_tiny_samples_but_of_shares(family: str, name: str) -> None:
    """Of twenty rows only a share has an interval, within 0 and 1; of none there is no estimate; verdicts are
    undecided.
    """
    model, draw = FAMILIES[family]
    sums = model.increments(*draw(rows=20))
    found = model.estimate(name, sums)
    bounds = interval(found)
    assert (bounds is not None) == isinstance(found, ShareEstimate)
    assert bounds is None or 0 <= bounds[0] <= found.value <= bounds[1] <= 1
    assert model.estimate(name, {}) is None
    assert verdict_of(difference_of_sums(model, name, sums, sums)) is Verdict.UNDECIDED


@pytest.mark.parametrize(("family", "name"), EACH)
def test_weights_make_a_mean_of_as_many_pairs_as_tell_as_much(family: str, name: str) -> None:
    """Pairs of weight 1/2 each are worth as many as there are of them, and no longer trials."""
    model, draw = FAMILIES[family]
    plain = model.increments(*draw())
    pairs = plain["pairs"]
    one, half = model.estimate(name, plain), model.estimate(name, weighted(plain, pairs, 0.5))
    assert isinstance(half, AsymptoticEstimate)
    assert (half.value, half.count) == pytest.approx((one.value, one.count))
    assert half.variance == pytest.approx(one.variance, rel=0.02)


@pytest.mark.parametrize(("family", "name"), [(family, name) for family in FAMILIES for name in NOT_SEQUENTIAL[family]])
def test_what_the_sums_cannot_tell_has_no_estimate(family: str, name: str) -> None:
    """Values without a variance in the sums, of single classes, or with more than one number, are not sequential."""
    model, draw = FAMILIES[family]
    assert model.estimate(name, model.increments(*draw())) is None


def _mean_of(values: np.ndarray) -> tuple[float, float, float]:
    return values.mean(), values.var(ddof=1) / values.size, values.size


def _close(found: AsymptoticEstimate, values: np.ndarray, bounds: tuple[float, float] | None = (0.0, 1.0)) -> None:
    mean, variance, count = _mean_of(values)
    unseen = 0.0 if bounds is None else unseen_variance(mean, count, bounds)
    assert (found.value, found.variance, found.count) == pytest.approx((mean, variance + unseen, count), rel=1e-9)
    assert found.bounds == bounds


def test_the_ndcg_of_rows_has_their_mean_and_variance() -> None:
    """nDCG at the largest k is scikit-learn's of each row that has a relevant candidate, and its spread numpy's."""
    grades, scores = _ranked()
    rows = [
        metrics.ndcg_score([truth], [score], k=5) for truth, score in zip(grades, scores, strict=True) if truth.any()
    ]
    assert len(rows) < ROWS
    model = Ranking(k=(3, 5))
    sums = model.increments(grades, scores)
    _close(model.estimate("ndcg", sums), np.array(rows))
    assert model.estimate("hit_ratio", sums).trials == len(rows)


def test_the_losses_of_labels_have_the_mean_and_variance_of_rows() -> None:
    """Hamming loss of all rows, Jaccard's index of those with any label."""
    truths, scores = _labelled()
    model = MultiLabel()
    decided, sums = (scores >= 0.5).astype(float), model.increments(truths, scores)
    _close(model.estimate("hamming_loss", sums), (decided != truths).mean(axis=1))
    either = np.maximum(decided, truths).sum(axis=1)
    _close(
        model.estimate("jaccard_samples_ratio", sums), (decided * truths).sum(axis=1)[either > 0] / either[either > 0]
    )


def test_a_micro_average_has_the_variance_of_resampled_rows() -> None:
    """The bootstrap of whole rows gives the variance of micro F1; and it counts fewer rows than there are, since they
    differ in size.
    """
    truths, scores = _labelled()
    model, random = MultiLabel(), np.random.default_rng(7)
    found = model.estimate("f1_micro_ratio", model.increments(truths, scores))
    decided = (scores >= 0.5).astype(float)
    assert found.value == pytest.approx(metrics.f1_score(truths, decided, average="micro"))
    hits, size = 2 * (truths * decided).sum(axis=1), (truths + decided).sum(axis=1)
    drawn = random.integers(ROWS, size=(4000, ROWS))
    assert found.variance == pytest.approx((hits[drawn].sum(axis=1) / size[drawn].sum(axis=1)).var(), rel=0.1)
    assert found.count == pytest.approx(size.sum() ** 2 / (size @ size))


def test_the_losses_of_a_score_have_the_mean_and_variance_of_pairs() -> None:
    """Log loss, which has no bounds, and Brier score."""
    truths, scores = _scored()
    model = BinaryMetrics()
    sums = model.increments(truths, scores)
    _close(model.estimate("brier_score", sums), (scores - truths) ** 2)
    _close(model.estimate("log_loss", sums), -np.log(np.where(truths == 1, scores, 1 - scores)), bounds=None)


def test_the_brier_score_of_many_classes_is_at_most_2() -> None:
    """Of rows of three probabilities its bounds are 0 and 2."""
    truths, rows = _probable()
    model = MulticlassOneHot()
    expected = ((rows - np.eye(3)[truths.astype(int)]) ** 2).sum(axis=1)
    _close(model.estimate("brier_score", model.increments(truths, rows)), expected, bounds=(0.0, 2.0))


def test_the_mean_rating_has_the_mean_and_variance_of_ratings() -> None:
    """Of a scale whose ends are not known."""
    ratings, nothing = _rated()
    model = HumanFeedback()
    _close(model.estimate("rating_mean", model.increments(ratings, nothing)), ratings, bounds=None)


def _placements(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each score the share of others below it, ties half."""
    return (scores[:, None] > others).mean(axis=1) + (scores[:, None] == others).mean(axis=1) / 2


def test_the_area_has_the_variance_of_delong() -> None:
    """From the raw scores: the spread of the placements of positives and of negatives, to the little that the assumed
    variance is worth; p n / (p + n) pairs, and the rarer class as truths.
    """
    truths, scores = _scored(rows=4000)
    found = BinaryMetrics().estimate("roc_auc_macro_ratio", BinaryMetrics().increments(truths, scores))
    positive, negative = scores[truths == 1], scores[truths == 0]
    expected = sum(
        _placements(one, other).var(ddof=1) / one.size for one, other in ((positive, negative), (negative, positive))
    )
    assert found.value == pytest.approx(metrics.roc_auc_score(truths, scores))
    assert found.variance == pytest.approx(expected + unseen_variance(found.value, found.count), rel=0.01)
    assert found.count == pytest.approx(positive.size * negative.size / scores.size)
    assert found.truths == {"1": positive.size}


def test_the_area_of_classes_waits_for_the_rarest() -> None:
    """Each class with positives and negatives is a class of its own: of nine truths of one there is no interval."""
    truths, rows = _probable(rows=3000)
    model = MulticlassOneHot()
    few = np.concatenate((np.flatnonzero(truths != "2"), np.flatnonzero(truths == "2")[:9]))
    found = model.estimate("roc_auc_macro_ratio", model.increments(truths[few], rows[few]))
    assert found.truths["2"] == 9
    assert interval(found) is None
    assert interval(model.estimate("roc_auc_macro_ratio", model.increments(truths, rows))) is not None


PERFECT = {
    "hamming_loss": (MultiLabel(), np.tile([1.0, 0.0], (BURN_IN, 1)), np.tile([0.9, 0.1], (BURN_IN, 1))),
    "f1_micro_ratio": (MultiLabel(), np.tile([1.0, 0.0], (BURN_IN, 1)), np.tile([0.9, 0.1], (BURN_IN, 1))),
    "ndcg": (Ranking(), np.tile([1.0, 0.0], (BURN_IN, 1)), np.tile([0.9, 0.1], (BURN_IN, 1))),
    "roc_auc_macro_ratio": (BinaryMetrics(), np.tile([1.0, 0.0], 2 * BURN_IN), np.tile([0.9, 0.1], 2 * BURN_IN)),
}


@pytest.mark.parametrize("name", PERFECT)
def test_a_model_without_a_fault_so_far_is_not_taken_for_perfect(name: str) -> None:
    """After the burn-in the interval still holds a share of one faulty pair in a hundred, which has a chance of 13 % to
    have shown nothing by then.
    """
    model, truths, predictions = PERFECT[name]
    lower, upper = interval(model.estimate(name, model.increments(truths, predictions)))
    assert upper - lower > 0.02
