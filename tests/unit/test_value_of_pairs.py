"""What pairs were worth: as computed from raw rows, as scikit-learn tunes a threshold, and as nannyml documents."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import TunedThresholdClassifierCV

from cm_models.binary_metrics import BinaryMetrics
from cm_models.multiclass_numeric import MultiClassNumeric
from cm_models.multiclass_one_hot import MulticlassOneHot
from cm_models.score_histogram import EDGES
from metrics_server.metrics import Cell, MetricModel
from metrics_server.metrics.confidence import WEIGHT_EXCESS
from metrics_server.metrics.model import OTHER_CLASSES
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.value import NoValue, Valued, ValueMatrix, readings
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.families import model_at
from metrics_server.series.series import Identity, Labels, Scoring, Series
from metrics_server.settings.value_matrix import ValueMatrixEntry
from tests.support.valued import VALUES, values_of

# Of few mistakes that cost much, of many that cost little, of a positive that never pays, and of one that always does.
MATRICES = [
    VALUES,
    {"true_positive": 100.0, "false_positive": -5.0, "true_negative": 1.0, "false_negative": -120.0},
    {"true_positive": 1.0, "false_positive": -1000.0, "true_negative": 3.0, "false_negative": 2.5},
    {"true_positive": -1.0, "false_positive": -2.0, "true_negative": 0.0, "false_negative": 0.0},
    {"true_positive": 1.0, "false_positive": 1.0, "true_negative": 0.0, "false_negative": 0.0},
]


def matrix_of(values: Mapping[str, float]) -> ValueMatrix:
    return ValueMatrixEntry(**values).matrix


def read(matrix: ValueMatrix, model: MetricModel, sums: Sums) -> dict[str, Any]:
    assert isinstance(model, Valued)
    return {sample.name: sample for sample in readings(matrix, model, sums)}


def tumours() -> tuple[LogisticRegression, np.ndarray, np.ndarray]:
    """A poor classifier of real tumours, and the rows and truths that it has not seen."""
    data = datasets.load_breast_cancer()
    rows, training = data.data[:, [1, 4]], np.arange(len(data.target)) % 2 == 0
    return LogisticRegression().fit(rows[training], data.target[training]), rows[~training], data.target[~training]


@pytest.mark.parametrize("values", MATRICES)
def test_mean_net_and_interval_are_those_of_the_rows(values: dict[str, float]) -> None:
    """Of real patients the mean and the sum of the values of all rows; and Student's interval, with the variance of the
    rows and what one more row of the least and one of the greatest value would add.
    """
    classifier, rows, truths = tumours()
    scores = classifier.predict_proba(rows)[:, 1]
    of_rows = values_of(truths, scores >= 0.5, values)
    found = read(matrix_of(values), BinaryMetrics(), BinaryMetrics().increments(truths.astype(float), scores))
    mean, n = of_rows.mean(), len(of_rows)
    unseen = ((max(values.values()) - mean) ** 2 + (mean - min(values.values())) ** 2) / n**2
    error = np.sqrt(of_rows.var(ddof=1) / n + unseen)
    assert found["value_mean"].value == pytest.approx(mean)
    assert found["value_mean"].interval == pytest.approx(mean + np.array(stats.t.interval(0.95, n - 1)) * error)
    assert found["value_net"].value == pytest.approx(of_rows.sum())
    assert {sample.support for sample in found.values()} == {n}


@pytest.mark.parametrize("values", MATRICES)
def test_the_best_threshold_is_the_one_that_scikit_learn_tunes(values: dict[str, float]) -> None:
    """Among the thresholds that the bins of scores can tell apart none is worth more, and the value there is the same.

    Where several decide alike, any of them is the best.
    """
    classifier, rows, truths = tumours()
    scores = classifier.predict_proba(rows)[:, 1]
    worth = make_scorer(lambda truth, decision: values_of(truth, decision, values).mean())
    edges = np.array([0.0, *EDGES])
    tuned = TunedThresholdClassifierCV(classifier, scoring=worth, thresholds=edges, cv="prefit", refit=False)
    tuned.fit(rows, truths)
    found = read(matrix_of(values), BinaryMetrics(), BinaryMetrics().increments(truths.astype(float), scores))
    threshold, value = (found[name].value for name in ("best_threshold", "best_threshold_value"))
    assert value == pytest.approx(tuned.best_score_)
    assert values_of(truths, scores >= threshold, values).mean() == pytest.approx(value)


def test_of_all_thresholds_the_bins_miss_little() -> None:
    """The best of all possible thresholds of real scores is worth at most 2 % of the range of values more."""
    classifier, rows, truths = tumours()
    scores = classifier.predict_proba(rows)[:, 1]
    sums = BinaryMetrics().increments(truths.astype(float), scores)
    for values in MATRICES:
        best = max(values_of(truths, scores >= at, values).mean() for at in [*scores, np.inf])
        found = read(matrix_of(values), BinaryMetrics(), sums)["best_threshold_value"].value
        assert found <= best + 1e-9
        assert best - found <= 0.02 * (max(values.values()) - min(values.values()))


def test_golden_numbers_of_nannyml() -> None:
    """Its documented formula: the sum over the matrix of realized counts times their value, and that by the number of
    predictions when it is normalized per prediction. Its tutorial has no value for a true negative.
    """
    values = {"true_positive": 0.0, "false_positive": -5.0, "true_negative": 5.0, "false_negative": -100.0}
    counts = {(1.0, 0.9): 231, (0.0, 0.9): 17, (0.0, 0.1): 742, (1.0, 0.1): 10}
    pairs = np.repeat(np.array(list(counts)), list(counts.values()), axis=0)
    found = read(matrix_of(values), BinaryMetrics(), BinaryMetrics().increments(pairs[:, 0], pairs[:, 1]))
    assert found["value_net"].value == 0 * 231 - 5 * 17 + 5 * 742 - 100 * 10 == 2625
    assert found["value_mean"].value == pytest.approx(2.625)


def test_of_several_classes_each_cell_counts_as_declared() -> None:
    """Those that are named by their value, the others as right or wrong ones; indexes are names where classes have
    any.
    """
    matrix = ValueMatrixEntry(right=1.0, wrong=-1.0, cells={"owl": {"cat": -7.0}, 0: {"0": 2.0}}).matrix
    names = ("cat", "dog", "owl")
    sums = MultiClassNumeric().increments(
        *(np.array(text.split(), object) for text in ("cat cat owl owl dog eel", "cat owl cat dog dog eel"))
    )
    found = read(matrix.labelled(names, is_binary=False), MultiClassNumeric(), sums)
    assert found["value_net"].value == pytest.approx(2 - 1 - 7 - 1 + 1 + 1)
    assert found.keys() == {"value_mean", "value_net"}


def test_classes_beyond_the_limit_are_right_or_wrong() -> None:
    """Hits among them are worth what right ones are, and two different ones what wrong ones are."""
    model = MultiClassNumeric(classes=("a",))
    sums = model.increments(*(np.array(list(text), object) for text in ("abcb", "abbc")))
    cells = {(cell.truth, cell.is_right): cell.pairs for cell in model.cells(sums)}
    assert cells == {("a", True): 1, (OTHER_CLASSES, True): 1, (OTHER_CLASSES, False): 2}
    assert read(ValueMatrix({}, 10.0, -1.0), model, sums)["value_net"].value == pytest.approx(18)


@pytest.mark.parametrize("names", [(), ("benign", "malignant")])
def test_two_columns_of_scores_are_two_classes(names: tuple[str, ...]) -> None:
    """Rows of two probabilities have the value and the best threshold of the second one, whatever the classes are
    called.
    """
    classifier, rows, truths = tumours()
    scores = classifier.predict_proba(rows)
    labels = np.array([names[truth] if names else str(truth) for truth in truths], object)
    model, binary = MulticlassOneHot(class_names=names), BinaryMetrics()
    matrix = matrix_of(VALUES).labelled(names, is_binary=False)
    ours = read(matrix, model, model.increments(labels, scores))
    theirs = read(matrix_of(VALUES), binary, binary.increments(truths.astype(float), scores[:, 1]))
    assert ours.keys() == theirs.keys()
    assert {name: ours[name].value for name in ours} == pytest.approx({name: theirs[name].value for name in theirs})


def test_three_columns_have_no_best_threshold() -> None:
    """A class against the rest is none of two."""
    model = MulticlassOneHot()
    sums = model.increments(np.array(["0", "1", "2"], object), np.eye(3))
    assert read(ValueMatrix({}, 1.0, 0.0), model, sums).keys() == {"value_mean", "value_net"}


@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_before_both_classes_have_come_no_threshold_is_best(truth: float) -> None:
    """Pairs of one class say nothing of where to divide it from the other."""
    sums = BinaryMetrics().increments(np.full(9, truth), np.linspace(0, 1, 9))
    assert read(matrix_of(VALUES), BinaryMetrics(), sums).keys() == {"value_mean", "value_net"}


def test_the_cells_may_name_the_classes_of_a_binary_model() -> None:
    """By index or by name, of two names."""
    entry = ValueMatrixEntry(right=0.0, wrong=-1.0, cells={"yes": {"no": -9.0}, 0: {1: -3.0}})
    sums = BinaryMetrics().increments(np.array([1.0, 0.0, 0.0]), np.array([0.1, 0.9, 0.1]))
    matrix = entry.matrix.labelled(("no", "yes"), is_binary=True)
    assert read(matrix, BinaryMetrics(), sums)["value_net"].value == pytest.approx(-12)


def test_weights_count_and_tell_less() -> None:
    """A pair of weight w is worth w times as much; pairs of unequal weight leave the interval wider than as many equal
    ones.
    """
    light = BinaryMetrics().increments(np.array([1.0, 0.0] * 50), np.array([0.9, 0.9] * 50))
    heavy = {name: 3 * count for name, count in light.items()}
    plain, weighted = (
        read(matrix_of(VALUES), BinaryMetrics(), sums) for sums in (heavy, {**heavy, WEIGHT_EXCESS: 600.0})
    )
    assert plain["value_net"].value == weighted["value_net"].value == pytest.approx(150 * 10 - 150 * 45)
    widths = [upper - lower for lower, upper in (each["value_mean"].interval for each in (plain, weighted))]
    assert widths[1] == pytest.approx(widths[0] * np.sqrt(3), rel=0.02)


def test_the_interval_holds_the_mean_also_when_the_dear_pairs_are_rare() -> None:
    """At 200 pairs at least 94 % of samples have it, with a miss of 0.5 % that costs ten times as much as all else;
    Student's interval alone has it in 63 %. With even costs it is 95 %.
    """
    random = np.random.default_rng(1)
    cases = [
        ((0.02, 0.03, 0.945, 0.005), (100.0, -5.0, 0.0, -1000.0), 1.0),
        ((0.3, 0.1, 0.5, 0.1), (1, -1, 0, -5), 0.96),
    ]
    for shares, values, most in cases:
        matrix, truth = matrix_of(dict(zip(VALUES, values, strict=True))), float(np.dot(shares, values))
        held = 0
        for counts in random.multinomial(200, shares, 2000):
            lower, upper = read(matrix, _Counted(), dict(zip(VALUES, map(float, counts), strict=True)))[
                "value_mean"
            ].interval
            held += lower <= truth <= upper
        assert 0.94 <= held / 2000 <= most


class _Counted(BinaryMetrics):
    """Reads its cells from four counts, by the names of the settings."""

    def cells(self, sums: Sums) -> list[Cell]:
        of = {"true_positive": "11", "false_positive": "01", "true_negative": "00", "false_negative": "10"}
        return [Cell(of[name][0], of[name][1], len(set(of[name])) == 1, count) for name, count in sums.items()]


def test_of_few_pairs_the_best_threshold_flatters() -> None:
    """Chosen on 50 pairs of a simulated model its value is on average 2 more than on others, on 5,000 less than 0.2."""
    random = np.random.default_rng(1)

    def drawn(pairs: int) -> tuple[np.ndarray, np.ndarray]:
        truths = random.random(pairs) < 0.5
        return truths.astype(float), 1 / (1 + np.exp(-1.2 * random.normal(1.2 * truths - 0.6, 1.0)))

    def best(pairs: int) -> dict[str, Any]:
        return read(matrix_of(VALUES), BinaryMetrics(), BinaryMetrics().increments(*drawn(pairs)))

    others, scores = drawn(100_000)
    excess = []
    for pairs, times in ((50, 100), (5_000, 20)):
        found = [best(pairs) for _ in range(times)]
        kept = [values_of(others, scores >= one["best_threshold"].value, VALUES).mean() for one in found]
        excess.append(np.mean([one["best_threshold_value"].value for one in found]) - np.mean(kept))
    assert excess[0] > 1.5
    assert abs(excess[1]) < 0.2


def test_a_large_offset_does_not_hide_the_spread() -> None:
    """Values that differ in their tenth digit keep an interval, of a width in its first two digits right."""
    sums = BinaryMetrics().increments(np.array([1.0, 0.0] * 500), np.full(1000, 0.9))
    narrow, shifted = (
        read(matrix_of({name: at + (name == "true_positive") for name in VALUES}), BinaryMetrics(), sums)[
            "value_mean"
        ].interval
        for at in (0.0, 1e9)
    )
    assert shifted[1] - shifted[0] == pytest.approx(narrow[1] - narrow[0], rel=1e-2)


def _series(path: str) -> Series:
    def build(name: str, parameters: Any) -> Any:
        return model_at(name, parameters, max_exported_classes=100, allow_pickle=False)

    labels = Labels("shop", "wine", "main", "classifier")
    return Series(Identity(labels, Scoring(storage_uri=path)), build, 0.0, 0.0, {"model": path})


@pytest.mark.parametrize(
    ("path", "truths", "why"),
    [
        ("cm_models.multiclass_numeric.MultiClassNumeric", ["0", "2"], "it has pairs of other classes than those two"),
        ("cm_models.human_feedback.HumanFeedback", [1.0, -1.0], "its metric model has no classes"),
    ],
)
def test_a_matrix_of_no_use_is_told_once(
    path: str, truths: list[Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Pairs that the matrix has no value for, and models without classes, keep their other values; the log says so."""
    series, evaluator = _series(path), Evaluator(100, 0, value_matrix_of=lambda labels: matrix_of(VALUES))
    assert series.model is not None
    values = np.array(truths, object if isinstance(truths[0], str) else float)
    sums = {**series.model.increments(values, values), "server/pairs": 2.0}
    with caplog.at_level(logging.WARNING):
        names = [{sample.name for sample in evaluator.values(series, sums)} for _ in range(3)][0]
    assert len(names) > 1
    assert not any("value" in name for name in names)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"The value_matrix for shop/wine/main/classifier is of no use: {why}")


def test_a_pair_without_a_value_is_not_taken_for_free() -> None:
    """One of a third class is no pair of value 0."""
    with pytest.raises(NoValue):
        matrix_of(VALUES).value_of(Cell("2", "1", False, 1.0))


def test_few_pairs_are_not_shown() -> None:
    """Below --min_support there is neither a value nor a best threshold."""
    series = _series("cm_models.binary_metrics.BinaryMetrics")
    assert series.model is not None
    sums = {**series.model.increments(np.array([1.0, 0.0]), np.array([0.9, 0.2])), "server/pairs": 2.0}
    shown = [
        {s.name for s in Evaluator(100, least, value_matrix_of=lambda labels: matrix_of(VALUES)).values(series, sums)}
        for least in (2, 3)
    ]
    assert {"value_mean", "value_net", "best_threshold", "best_threshold_value"} <= shown[0]
    assert not any("value" in name or "best" in name for name in shown[1])
