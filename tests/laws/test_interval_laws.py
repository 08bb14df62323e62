"""Laws of values, of every family: each lies within its interval, and what is ordered is shown in its order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cm_models.binary_metrics import BinaryMetrics
from cm_models.human_feedback import HumanFeedback
from cm_models.multiclass_numeric import MultiClassNumeric
from cm_models.multiclass_one_hot import MulticlassOneHot
from cm_models.multilabel import MultiLabel
from cm_models.ranking import Ranking
from cm_models.regression import Regression
from metrics_server.metrics import Sample, prediction_stats, reward_stats
from metrics_server.metrics.log_histogram import GROWTH
from metrics_server.metrics.sums import Sums, add_into
from metrics_server.pairing.scoring import weighted

numbers = st.one_of(
    st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) >= 1e-12),
    st.floats(99, 101),
    st.integers(-5, 5).map(float),
    st.builds(lambda sign, power: sign * GROWTH**power, st.sampled_from([-1, 1]), st.integers(-300, 300)),
)
shares = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
classes = st.sampled_from(["a", "b", "c"])
holds = st.sampled_from([0.0, 1.0])


def _row(values: Sequence[float]) -> list[float]:
    total = sum(values)
    return [value / total for value in values] if total > 0 else [1.0, 0.0, 0.0]


def _triple(each: st.SearchStrategy[float]) -> st.SearchStrategy[list[float]]:
    return st.lists(each, min_size=3, max_size=3)


# By family a way to the sums of one pair, what pairs are made of, and how values are read.
FAMILIES: dict[str, tuple[Any, st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "binary": (BinaryMetrics(), holds, shares),
    "multiclass": (MultiClassNumeric(classes=("a", "b")), classes, classes),
    "one hot": (MulticlassOneHot(class_names=("a", "b", "c")), classes, _triple(shares).map(_row)),
    "regression": (Regression(), numbers, numbers),
    "multilabel": (MultiLabel(), _triple(holds), _triple(shares)),
    "ranking": (Ranking(), _triple(st.sampled_from([0.0, 1.0, 2.0])), _triple(shares)),
    "feedback": (HumanFeedback(), st.one_of(numbers, st.sampled_from([-1.0, 1.0])), st.just(0.0)),
}
WEIGHTS = st.one_of(st.just(1.0), st.sampled_from([0.1, 3.0, 1 / 3]), st.floats(0.001, 1000))


def _array(values: Sequence[Any]) -> Any:
    return np.array(values, dtype=object if isinstance(values[0], str) else float)


def _added(model: Any, pairs: Iterable[tuple[Any, Any, float]], sums: dict[str, float], sign: int = 1) -> None:
    for truth, prediction, weight in pairs:
        made = model.increments(_array([truth]), _array([prediction]))
        add_into(sums, made if weight == 1 else weighted(made, 1, weight), sign)


def outside(samples: Iterable[Sample]) -> list[Sample]:
    """The samples whose value is not within their interval."""
    return [each for each in samples if each.interval and not each.interval[0] <= each.value <= each.interval[1]]


def disordered(samples: Iterable[Sample], name: str) -> bool:
    """Whether a higher quantile of this name is smaller."""
    values = [sample.value for sample in samples if sample.name == name]
    return values != sorted(values)


@pytest.mark.parametrize("examples", [20, pytest.param(120, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_value_lies_within_its_interval(name: str, examples: int) -> None:
    """Of every family, with weights and without, and when other pairs were added and taken back."""

    @settings(max_examples=examples, deadline=None)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        _assert_within(name, data)

    holds()


def _assert_within(name: str, data: st.DataObject) -> None:
    model, truths, predictions = FAMILIES[name]
    weights = data.draw(st.sampled_from([st.just(1.0), WEIGHTS]))
    pairs = st.tuples(truths, predictions, weights)
    found, gone = data.draw(st.lists(pairs, min_size=1, max_size=40)), data.draw(st.lists(pairs, max_size=8))
    found = found * data.draw(st.sampled_from([1, 1, 30]))
    sums: dict[str, float] = {}
    _added(model, [*found, *gone], sums)
    _added(model, gone, sums, -1)
    samples = list(model.compute(sums))
    assert outside(samples) == []
    assert not disordered([s for s in samples if s.name != "median_absolute_error"], "absolute_error_quantile")


@pytest.mark.parametrize(
    ("found", "gone"),
    [
        (
            [("a", "a", 1.0), ("a", "a", 495.7127511263048)],
            [("a", "a", 0.1), ("a", "a", 247.7127511263048), ("a", "b", 1 / 3)],
        ),
        ([("a", "c", 1.0)] * 30, [("a", "c", 725.0), ("a", "a", 0.1), ("a", "a", 1 / 3)]),
    ],
)
def test_an_accuracy_at_its_end_lies_within_its_interval(
    found: list[tuple[str, str, float]], gone: list[tuple[str, str, float]]
) -> None:
    """Weights that were taken back leave rounding errors, which put no value beside its interval."""
    sums: dict[str, float] = {}
    _added(MultiClassNumeric(), [*found, *gone], sums)
    _added(MultiClassNumeric(), gone, sums, -1)
    assert outside(MultiClassNumeric().compute(sums)) == []


def test_a_large_truth_that_was_taken_back_costs_no_other_value() -> None:
    """A sum of truths that rounding has left at 0 leaves the relative error undefined, and the quantiles readable."""
    sums: dict[str, float] = {}
    _added(Regression(), [(1.2e-7, 0.0, 1.0), (2.0**31, 0.0, 1.0)], sums)
    _added(Regression(), [(2.0**31, 0.0, 1.0)], sums, -1)
    names = {sample.name for sample in Regression().compute(sums)}
    assert "median_absolute_error" in names
    assert "weighted_absolute_percentage_error_ratio" not in names


def predicted(found: Iterable[float], gone: Iterable[float] = ()) -> dict[str, float]:
    """The sums of these predictions when others were taken back."""
    sums: dict[str, float] = dict(prediction_stats.increments([(None, number) for number in [*found, *gone]]))
    add_into(sums, prediction_stats.increments([(None, number) for number in gone]), -1)
    return sums


def _values(sums: Sums) -> dict[str, float]:
    return {"".join((s.name, *s.labels.values())): s.value for s in prediction_stats.compute(sums)}


def check_order(samples: Sequence[Sample]) -> None:
    """Minimum, quantiles and maximum ascend, and the mean is between the first and the last."""
    quantiles = [sample.value for sample in samples if sample.name == "output_quantile"]
    of = {sample.name: sample.value for sample in samples if not sample.labels}
    ascending = [of["output_min"], *quantiles, of["output_max"]]
    assert ascending == sorted(ascending)
    assert of["output_min"] <= of["output_mean"] <= of["output_max"]
    assert outside(samples) == []


@settings(max_examples=400, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=60), st.lists(numbers, max_size=8))
@example([100.0, 100.0, 100.6], [])
@example([1e-6] * 5, [1e12, -1e12])
@example([100.0, 101.0], [1e12])
def test_statistics_of_predictions_are_in_order(found: list[float], gone: list[float]) -> None:
    """Minimum ≤ quantiles ≤ maximum, minimum ≤ mean ≤ maximum, whatever was taken back; each within 5 % of the
    truth.
    """
    samples = list(prediction_stats.compute(predicted(found, gone)))
    check_order(samples)
    of = {sample.name: sample.value for sample in samples if not sample.labels}
    assert of["output_min"] == pytest.approx(min(found), rel=0.0501)
    assert of["output_max"] == pytest.approx(max(found), rel=0.0501)


@settings(max_examples=200, deadline=None)
@given(numbers, st.integers(1, 500))
@example(100.0, 20)
@example(1.0, 7)
@example(-GROWTH, 7)
def test_predictions_all_alike_are_told_exactly(number: float, count: int) -> None:
    """Minimum, mean, maximum and all quantiles are the one number, to rounding."""
    found = _values(predicted([number] * count))
    assert len(found) == 8
    assert found == pytest.approx(dict.fromkeys(found, number), rel=1e-9)


@settings(max_examples=200, deadline=None)
@given(numbers.filter(lambda error: error != 0), st.integers(1, 500), WEIGHTS)
@example(100.0, 400, 1.0)
def test_errors_all_alike_are_told_exactly(error: float, count: int, weight: float) -> None:
    """Median and quantiles of the magnitude are the one magnitude, with both ends of their intervals, to rounding."""
    sums = Regression().increments(np.zeros(count), np.full(count, error))
    samples = Regression().compute(weighted(sums, count, weight) if weight != 1 else sums)
    told = {(s.name, *s.labels.values()): (s.value, *(s.interval or ())) for s in samples if "quantile" in s.name}
    assert len(told) == 3
    for values in told.values():
        assert values == pytest.approx([abs(error)] * len(values), rel=1e-9)


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-3, 1e6), st.lists(st.floats(-1, 1), min_size=2, max_size=100))
def test_predictions_much_alike_are_told_to_their_deviation(centre: float, steps: list[float]) -> None:
    """Where predictions differ by far less than 5 %, the median is within a standard deviation of their mean."""
    found = [centre * (1 + 1e-4 * step) for step in steps]
    values = _values(predicted(found))
    allowed = float(np.std(found)) * (1 + 1e-6) + 2e-6 * centre
    assert abs(values["output_quantile0.5"] - float(np.mean(found))) <= allowed
    assert values["output_min"] >= centre * (1 - 1e-4 * (2 + len(found)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(numbers, st.integers(-10, 10).map(float)), min_size=1, max_size=50), st.lists(numbers))
def test_rewards_lie_within_their_intervals(found: list[float], gone: list[float]) -> None:
    """The mean of rewards and the share of each value, also when others were taken back."""
    sums: dict[str, float] = {}
    for value in [*found, *gone]:
        add_into(sums, reward_stats.increments(value))
    for value in gone:
        add_into(sums, reward_stats.increments(value), -1)
    assert outside(reward_stats.compute(sums)) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("abcdefg"), min_size=1), st.integers(1, 8))
def test_shares_of_classes_lie_within_their_intervals(labels: list[str], most: int) -> None:
    """The share of each predicted class, and they add up to 1."""
    sums = prediction_stats.increments([(label, None) for label in labels])
    samples = list(prediction_stats.shares(sums, ("a", "b"), most))
    assert outside(samples) == []
    assert sum(sample.value for sample in samples) == pytest.approx(1)


def test_the_figures_of_one_house_price() -> None:
    """Of a hundred predictions of 100 the page showed a minimum of 100.5, and of errors a quantile below its
    interval.
    """
    found = _values(predicted([100.0] * 100))
    assert (found["output_min"], found["output_mean"], found["output_max"]) == (100.0, 100.0, 100.0)
    errors = [100.0] * 95 + [106.0] * 10
    samples = Regression().compute(Regression().increments(np.zeros(105), np.array(errors)))
    of: Mapping[Any, Sample] = {s.labels.get("q"): s for s in samples if s.name == "absolute_error_quantile"}
    lower, upper = of["0.9"].interval or (0.0, 0.0)
    assert lower <= of["0.9"].value <= upper
