"""Metric models: classes beyond a limit, counters, and intervals. Their values and laws are in test_oracles.py."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import cm_models
import metrics_server.metrics
from cm_models.multiclass_numeric import MultiClassNumeric
from cm_models.multiclass_one_hot import MulticlassOneHot
from metrics_server.metrics import sequential
from metrics_server.metrics.confidence import wilson_interval

MODULES = [
    *(module.name for module in pkgutil.iter_modules(cm_models.__path__, "cm_models.")),
    *(module.name for module in pkgutil.iter_modules(metrics_server.metrics.__path__, "metrics_server.metrics.")),
    *(module.name for module in pkgutil.iter_modules(sequential.__path__, f"{sequential.__name__}.")),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_right(name: str) -> None:
    """What a docstring shows is what comes out; every metric model shows how it is made, fed and read."""
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0
    for found in vars(module).values():
        if isinstance(found, type) and hasattr(found, "families") and not found.__subclasses__():
            assert ">>> " in (found.__doc__ or ""), found


def test_classes_beyond_the_limit_share_a_name_and_are_never_a_hit_by_that() -> None:
    """Two different classes in __other__ do not agree; two equal ones do."""
    model = MultiClassNumeric(classes=("a",))
    y_true, y_pred = (np.array(list(text), dtype=object) for text in ("abcb", "abbc"))
    sums = model.increments(y_true, y_pred)
    values = {(sample.name, sample.labels.get("class", "")): sample.value for sample in model.compute(sums)}
    assert values["accuracy_ratio", ""] == 0.5
    assert values["recall_macro_ratio", ""] == pytest.approx((1 + 1 / 3) / 2)
    cells = {(s.labels["truth"], s.labels["prediction"]): s.value for s in model.counts(sums) if s.name == "confusion"}
    assert cells == {("a", "a"): 1, ("__other__", "__other__"): 3}


def test_confusion_cells_are_exported_for_thirty_classes() -> None:
    """Beyond 30 classes the matrix shows the first 30 and the rest together."""
    names = tuple(str(i) for i in range(40))
    model = MultiClassNumeric(classes=names)
    labels = np.array(names, dtype=object)
    counted = list(model.counts(model.increments(labels, labels)))
    assert [(s.labels["correct"], s.value) for s in counted if s.name == "decisions"] == [("true", 40), ("false", 0)]
    cells = [sample for sample in counted if sample.name == "confusion"]
    assert len(cells) == 31
    assert sum(sample.value for sample in cells) == 40


@pytest.mark.parametrize(
    ("successes", "trials", "lower", "upper"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)]
)
def test_wilson_interval(successes: int, trials: int, lower: float, upper: float) -> None:
    """The interval is the published one (Newcombe 1998, method 3, for 81 of 263)."""
    assert wilson_interval(successes, trials) == pytest.approx((lower, upper), abs=1e-4)


def test_wilson_interval_covers() -> None:
    """Over many samples the 95 % interval holds the true share in about 95 % of them."""
    random = np.random.default_rng(1)
    for share in (0.3, 0.7, 0.9):
        drawn = random.binomial(200, share, size=4000)
        covered = np.mean(
            [lower <= share <= upper for lower, upper in (wilson_interval(float(k), 200.0) for k in drawn)]
        )
        assert 0.93 <= covered <= 0.97


def test_ancestor_counts_are_the_ancestors() -> None:
    """Every row counts in the ancestor's vocabulary, with its meaning of a class's true negative."""
    model = MulticlassOneHot()
    counted = {
        (sample.name, sample.labels["class"]): sample.value
        for sample in model.ancestor_counts(
            model.increments(*(np.array(list(t), dtype=object) for t in ("0122", "0121")))
        )
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
