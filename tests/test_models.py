"""Metric models: the laws of sums for all of them, and scikit-learn as the oracle on the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import datasets, metrics
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB

from cm_models.binary_metrics import BinaryMetrics
from cm_models.confusion import wilson
from cm_models.multiclass_numeric import MultiClassNumeric
from cm_models.multiclass_one_hot import MulticlassOneHot
from cm_models.regression import Regression
from metrics_server.model import MetricModel
from metrics_server.sums import add_into, total
from metrics_server.task import array_of, class_of

NAN = np.nan


def _labels(y_true: Any, rows: Any) -> tuple[Any, Any]:
    """What the server hands to a multiclass model: class labels."""
    return array_of([class_of(value) for value in y_true.tolist()]), array_of([class_of(row) for row in rows.tolist()])


def _classified(load: Callable[..., Any], classifier: Any) -> tuple[Any, Any]:
    features, target = load(return_X_y=True)
    half = len(target) // 2
    order = np.random.default_rng(7).permutation(len(target))
    features, target = features[order], target[order]
    return target[half:], classifier.fit(features[:half], target[:half]).predict_proba(features[half:])


GOOD, BAD = GaussianNB(), DummyClassifier(strategy="most_frequent")
CLASSIFIED = {
    f"{load.__name__} {type(classifier).__name__}": (load, classifier)
    for load in (datasets.load_iris, datasets.load_wine, datasets.load_digits, datasets.load_breast_cancer)
    for classifier in (GOOD, BAD)
}


def _diabetes() -> tuple[Any, Any]:
    features, target = datasets.load_diabetes(return_X_y=True)
    return target[200:], LinearRegression().fit(features[:200], target[:200]).predict(features[200:])


def _cases() -> list[Any]:
    cases = []
    for name, (load, classifier) in CLASSIFIED.items():
        y_true, rows = _classified(load, classifier)
        for model in (MulticlassOneHot(), MultiClassNumeric()):
            cases.append(pytest.param(model, *_labels(y_true, rows), id=f"{type(model).__name__} {name}"))
    y_true, rows = _classified(datasets.load_breast_cancer, GOOD)
    cases += [
        pytest.param(BinaryMetrics(threshold), y_true.astype(float), rows[:, 1], id=f"binary {threshold}") for threshold in (0.5, 0.9, 0.0)
    ]
    cases.append(pytest.param(Regression(), *_diabetes(), id="regression diabetes"))
    one = np.array(["a"] * 5, dtype=object)
    wrong = np.array(["b"] * 5, dtype=object)
    many = np.array([str(i % 1000) for i in range(5000)], dtype=object)
    cases += [
        pytest.param(MultiClassNumeric(), one, one, id="one class, perfect"),
        pytest.param(MultiClassNumeric(), one, wrong, id="all wrong"),
        pytest.param(MultiClassNumeric(), many, np.roll(many, 1), id="1000 classes"),
        pytest.param(
            MultiClassNumeric(), np.array(list("aaab"), dtype=object), np.array(list("aaaa"), dtype=object), id="unseen class later"
        ),
    ]
    return cases


def _values(model: MetricModel, sums: Any) -> dict[tuple[str, str], float]:
    return {(sample.name, sample.labels.get("class", "")): sample.value for sample in model.compute(sums)}


def _oracle_classes(y_true: Any, y_pred: Any) -> dict[tuple[str, str], float]:
    """scikit-learn's values, where they are defined."""
    names = sorted(set(y_true) | set(y_pred))
    values: dict[tuple[str, str], float] = {("accuracy_ratio", ""): metrics.accuracy_score(y_true, y_pred)}
    functions = {"precision": metrics.precision_score, "recall": metrics.recall_score, "f1": metrics.f1_score}
    for name, function in functions.items():
        per_class = function(y_true, y_pred, labels=names, average=None, zero_division=NAN)
        values |= {(f"{name}_ratio", label): value for label, value in zip(names, per_class, strict=True)}
        for average in ("macro", "weighted"):
            values[f"{name}_{average}_ratio", ""] = function(y_true, y_pred, labels=names, average=average, zero_division=NAN)
    if not set(y_true) & set(y_pred):  # no class that occurs was predicted: there is no weight, where scikit-learn weighs equally
        del values["precision_weighted_ratio", ""]
    return {key: float(value) for key, value in values.items() if not math.isnan(value)}


def _oracle(model: MetricModel, y_true: Any, y_pred: Any) -> dict[tuple[str, str], float]:
    if isinstance(model, Regression):
        return {
            ("mean_error", ""): float(np.mean(y_pred - y_true)),
            ("mean_absolute_error", ""): metrics.mean_absolute_error(y_true, y_pred),
            ("mean_squared_error", ""): metrics.mean_squared_error(y_true, y_pred),
            ("root_mean_squared_error", ""): metrics.root_mean_squared_error(y_true, y_pred),
        }
    if isinstance(model, BinaryMetrics):
        y_true, y_pred = (np.array([str(int(v)) for v in values]) for values in (y_true, y_pred >= model.threshold))
    return _oracle_classes([str(v) for v in y_true], [str(v) for v in y_pred])


@pytest.mark.parametrize(("model", "y_true", "y_pred"), _cases())
def test_values_equal_scikit_learn_after_every_batch(model: MetricModel, y_true: Any, y_pred: Any) -> None:
    """After every batch each value equals scikit-learn's on the rows so far; what is undefined there is absent here."""
    sums: dict[str, float] = {}
    for start in range(0, len(y_true), max(1, len(y_true) // 5)):
        stop = min(len(y_true), start + max(1, len(y_true) // 5))
        add_into(sums, model.increments(y_true[start:stop], y_pred[start:stop]))
        values = _values(model, sums)
        intervals = [key for key in values if key[0].endswith(("_lower", "_upper"))]
        lower, upper = (values.pop(key) for key in sorted(intervals)) if intervals else (0.0, 1.0)
        values = {key: value for key, value in values.items() if key[1] != "__other__"}
        exported = getattr(model, "max_exported_classes", 100)
        wanted = _oracle(model, y_true[:stop], y_pred[:stop])
        if len({label for _, label in wanted}) > exported:
            wanted = {key: value for key, value in wanted.items() if key in values or not key[1]}
        assert values == pytest.approx(wanted, rel=1e-9)
        assert lower <= values.get(("accuracy_ratio", ""), lower) <= upper


@pytest.mark.parametrize(("model", "y_true", "y_pred"), _cases())
def test_sums_do_not_depend_on_split_or_order_and_can_be_taken_back(model: MetricModel, y_true: Any, y_pred: Any) -> None:
    """Any split and order of the rows gives the same sums; subtracting what was added leaves what was there."""
    whole = model.increments(y_true, y_pred)
    order = np.random.default_rng(3).permutation(len(y_true))
    parts = [model.increments(y_true[rows], y_pred[rows]) for rows in np.array_split(order, 7)]
    assert total(parts) == pytest.approx(total([whole]), rel=1e-9)
    left = dict(whole)
    add_into(left, parts[0])
    add_into(left, parts[0], -1)
    assert left == pytest.approx(dict(whole), rel=1e-9)
    assert not any(model.increments(y_true[:0], y_pred[:0]).values())
    assert list(model.compute(whole)) == list(model.compute(whole))


@pytest.mark.parametrize("model", [BinaryMetrics(), MultiClassNumeric(), MulticlassOneHot(), Regression()])
def test_nothing_is_said_before_the_first_pair(model: MetricModel) -> None:
    """An undefined value is absent, never 0."""
    assert list(model.compute({})) == []


def test_classes_beyond_the_limit_share_a_name_and_are_never_a_hit_by_that() -> None:
    """Two different classes in __other__ do not agree; two equal ones do."""
    model = MultiClassNumeric(classes=("a",))
    y_true, y_pred = (np.array(list(text), dtype=object) for text in ("abcb", "abbc"))
    sums = model.increments(y_true, y_pred)
    values = _values(model, sums)
    assert values["accuracy_ratio", ""] == 0.5
    assert values["recall_macro_ratio", ""] == pytest.approx((1 + 1 / 3) / 2)
    cells = {(s.labels["truth"], s.labels["prediction"]): s.value for s in model.counts(sums)}
    assert cells == {("a", "a"): 1, ("__other__", "__other__"): 3}


def test_confusion_cells_are_exported_for_thirty_classes() -> None:
    """Beyond 30 classes the matrix shows the first 30 and the rest together."""
    names = tuple(str(i) for i in range(40))
    model = MultiClassNumeric(classes=names)
    labels = np.array(names, dtype=object)
    cells = list(model.counts(model.increments(labels, labels)))
    assert len(cells) == 31
    assert sum(sample.value for sample in cells) == 40


@pytest.mark.parametrize(
    ("successes", "trials", "lower", "upper"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)]
)
def test_wilson_interval(successes: int, trials: int, lower: float, upper: float) -> None:
    """The interval is the published one (Newcombe 1998, method 3, for 81 of 263)."""
    assert wilson(successes, trials) == pytest.approx((lower, upper), abs=1e-4)


def test_wilson_interval_covers() -> None:
    """Over many samples the 95 % interval holds the true share in about 95 % of them."""
    random = np.random.default_rng(1)
    for share in (0.3, 0.7, 0.9):
        drawn = random.binomial(200, share, size=4000)
        covered = np.mean([lower <= share <= upper for lower, upper in (wilson(float(k), 200.0) for k in drawn)])
        assert 0.93 <= covered <= 0.97


def test_ancestor_counts_are_the_ancestors() -> None:
    """Every row counts in the ancestor's vocabulary, with its meaning of a class's true negative."""
    model = MulticlassOneHot()
    counted = {
        (sample.name, sample.labels["class"]): sample.value
        for sample in model.ancestor_counts(model.increments(*(np.array(list(t), dtype=object) for t in ("0122", "0121"))))
    }
    assert counted == {
        ("seldon_metric_true_positive", "CLASS_0"): 1,
        ("seldon_metric_true_negative", "CLASS_0"): 1,
        ("seldon_metric_true_positive", "CLASS_1"): 1,
        ("seldon_metric_true_negative", "CLASS_1"): 1,
        ("seldon_metric_true_positive", "CLASS_2"): 1,
        ("seldon_metric_true_negative", "CLASS_2"): 1,
        ("seldon_metric_false_positive", "CLASS_1"): 1,
        ("seldon_metric_false_negative", "CLASS_2"): 1,
    }
