"""One table: every metric on real data sets and on extremes equals scikit-learn's; where that leaves it undefined, it
is absent.

The table (`TABLE`) has a row for each value that a metric model yields: its name, and the value as scikit-learn or
numpy have it, from the plain pairs. It is held against the models after every batch, in any split and order and with
weights; and against the whole way of a pair, from a statement to a window, with corrections, retractions, restarts and
roll-ups.

What is read from binned scores may be off by the bound that the model itself tells, quantiles by 2.5 %; all else is
equal to 1e-9.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import datasets, metrics
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cm_models.binary_metrics import BinaryMetrics
from cm_models.multiclass_numeric import MultiClassNumeric
from cm_models.multiclass_one_hot import MulticlassOneHot
from cm_models.regression import Regression
from cm_models.score_histogram import EDGES
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.feedback import observations_of
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics import prediction_stats, reward_stats
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.log_histogram import LogHistogram, Moments, bin_counts
from metrics_server.metrics.model import MetricModel, Sample, load
from metrics_server.metrics.sums import add_into, total
from metrics_server.metrics.window import DAY, HOUR, MINUTE, QUARTER
from metrics_server.pairing.batch import Batch, Retention
from metrics_server.pairing.maintenance import Maintenance
from metrics_server.pairing.observation import Observation
from metrics_server.pairing.scoring import weighted
from metrics_server.pairing.usage import UsageLimits
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels, Scoring, Series
from metrics_server.series.totals import Totals
from metrics_server.store.sqlite.store import SqliteStore
from metrics_server.telemetry import Telemetry

NAN = math.nan
QUANTILE_ERROR = 0.025  # documented in metrics_server.metrics.log_histogram, and in DESIGN
Key = tuple[str, str]


# The pairs


@dataclass(frozen=True)
class Pairs:
    """Labelled predictions, as a metric model takes them.

    Attributes:
        y_true: class labels, 0 and 1, or numbers.
        y_pred: class labels, rows of probabilities, scores of class 1, or numbers.
        weights: of the truths; none of them is 1 by default.
        exported: the classes with values of their own; None: the first hundred of those that occur.
    """

    model: MetricModel
    y_true: Any
    y_pred: Any
    weights: Any = None
    exported: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.y_true)

    def part(self, rows: Any) -> Pairs:
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, y_true=self.y_true[rows], y_pred=self.y_pred[rows], weights=weights)

    def sums(self) -> dict[str, float]:
        """As the aggregator makes them: one call for each weight."""
        if self.weights is None:
            return dict(self.model.increments(self.y_true, self.y_pred))
        parts = []
        for weight in np.unique(self.weights):
            at = self.weights == weight
            parts.append(
                weighted(self.model.increments(self.y_true[at], self.y_pred[at]), int(at.sum()), float(weight))
            )
        return total(parts)

    @cached_property
    def weight(self) -> Any:
        return np.ones(len(self)) if self.weights is None else self.weights

    @cached_property
    def truth(self) -> Any:
        """The true classes, as texts."""
        return np.array([str(int(v)) if isinstance(v, float) else str(v) for v in self.y_true.tolist()])

    @cached_property
    def decision(self) -> Any:
        """The predicted classes, as texts."""
        if isinstance(self.model, BinaryMetrics):
            return np.where(self.y_pred >= self.model.threshold, "1", "0")
        return (
            np.argmax(self.y_pred, axis=1).astype(str)
            if self.y_pred.ndim == 2
            else np.array(self.y_pred.tolist(), dtype=str)
        )

    @cached_property
    def occurring(self) -> list[str]:
        return sorted({*self.truth.tolist(), *self.decision.tolist()})

    @cached_property
    def own(self) -> list[str]:
        """Classes with values of their own; `others` are those without."""
        shown = sorted(self.occurring)[:100] if self.exported is None else self.exported
        return [name for name in self.occurring if name in shown]

    @cached_property
    def others(self) -> list[str]:
        return [name for name in self.occurring if name not in self.own]

    @cached_property
    def scores(self) -> dict[str, Any]:
        """The probabilities of each class."""
        if isinstance(self.model, BinaryMetrics):
            return {"1": self.y_pred}
        return {str(column): self.y_pred[:, column] for column in range(self.y_pred.shape[1])}

    @cached_property
    def confidence(self) -> tuple[Any, Any]:
        """What calibration is about: a probability, and whether it held."""
        if isinstance(self.model, BinaryMetrics):
            return self.y_pred, self.truth == "1"
        return self.y_pred.max(axis=1), self.decision == self.truth

    @cached_property
    def error(self) -> Any:
        return self.y_pred - self.y_true


# The oracles

Value = float | Mapping[str, float]  # NaN for undefined; a mapping of labels, where a value has one


def _score(function: Callable[..., Any], pairs: Pairs, **how: Any) -> Any:
    return function(pairs.truth, pairs.decision, sample_weight=pairs.weight, zero_division=NAN, **how)


def per_class(function: Callable[..., Any]) -> Callable[[Pairs], Value]:
    """Precision, recall or F1 of each class; of those without values of their own together."""

    def of(pairs: Pairs) -> Value:
        found = (
            dict(zip(pairs.own, _score(function, pairs, labels=pairs.own, average=None), strict=True))
            if pairs.own
            else {}
        )
        if pairs.others:
            found["__other__"] = _score(function, pairs, labels=pairs.others, average="micro")
        return found

    return of


def average(function: Callable[..., Any], how: str) -> Callable[[Pairs], Value]:
    """Over the classes for which it is defined."""

    def of(pairs: Pairs) -> Value:
        if how == "weighted" and function is metrics.precision_score and not {*pairs.truth} & {*pairs.decision}:
            return NAN  # no class that occurs was predicted: there is no weight, where scikit-learn weighs them equally
        return float(_score(function, pairs, labels=pairs.occurring, average=how))

    return of


def specificity(pairs: Pairs) -> Value:
    """Of the pairs that are not of a class, those that were not predicted as it: tn / (tn + fp)."""
    found = {}
    groups = {name: [name] for name in pairs.own} | ({"__other__": pairs.others} if pairs.others else {})
    for name, classes in groups.items():
        truth, decision = np.isin(pairs.truth, classes), np.isin(pairs.decision, classes)
        (tn, fp), _ = metrics.confusion_matrix(truth, decision, labels=[False, True], sample_weight=pairs.weight)
        found[name] = NAN if truth.all() else tn / (tn + fp)
    return found


def matthews(pairs: Pairs) -> Value:
    """Undefined when either side has one class only, where scikit-learn answers 0."""
    if len({*pairs.truth}) < 2 or len({*pairs.decision}) < 2:
        return NAN
    return float(metrics.matthews_corrcoef(pairs.truth, pairs.decision, sample_weight=pairs.weight))


def kappa(pairs: Pairs) -> Value:
    """Undefined when all labels on both sides are one."""
    if len(pairs.occurring) < 2:
        return NAN
    return float(metrics.cohen_kappa_score(pairs.truth, pairs.decision, sample_weight=pairs.weight))


def columns(pairs: Pairs) -> tuple[Any, Any, list[int]]:
    """Truths as numbers of columns, the probabilities of all columns, and the columns."""
    rows = pairs.y_pred
    if rows.ndim < 2:
        rows = np.column_stack([1 - rows, rows])
    return pairs.truth.astype(int), rows, list(range(rows.shape[1]))


def log_loss(pairs: Pairs) -> Value:
    truth, rows, labels = columns(pairs)
    return float(metrics.log_loss(truth, rows, labels=labels, sample_weight=pairs.weight))


def brier(pairs: Pairs) -> Value:
    truth, rows, labels = columns(pairs)
    return float(metrics.brier_score_loss(truth, rows, labels=labels, sample_weight=pairs.weight))


def calibration(pairs: Pairs) -> Value:
    """The expected calibration error over ten bins of equal width; scikit-learn has none."""
    score, held = pairs.confidence
    bins = np.digitize(score, np.arange(1, 10) / 10)
    gaps = [abs((pairs.weight * (score - held))[bins == each].sum()) for each in range(10)]
    return float(sum(gaps) / pairs.weight.sum())


def top_k(pairs: Pairs) -> Value:
    truth, rows, labels = columns(pairs)
    return {
        str(k): float(metrics.top_k_accuracy_score(truth, rows, k=k, labels=labels, sample_weight=pairs.weight))
        for k in (2, 3, 5)
        if k < len(labels)
    }


def area(function: Callable[..., Any], pairs: Pairs) -> dict[str, float]:
    """By class against the rest, as far as there is a rest and the area needs one."""
    found = {}
    for label, scores in pairs.scores.items() if len(pairs.scores) <= 30 else ():
        truth = pairs.truth == label
        if truth.any() and (not truth.all() or function is metrics.average_precision_score):
            found[label] = float(function(truth, scores, sample_weight=pairs.weight))
    return found


def areas(function: Callable[..., Any]) -> Callable[[Pairs], Value]:
    return lambda pairs: {label: value for label, value in area(function, pairs).items() if label in pairs.own}


def macro_area(function: Callable[..., Any]) -> Callable[[Pairs], Value]:
    """The mean over the classes for which it is defined."""
    return lambda pairs: float(np.mean([*found.values()])) if (found := area(function, pairs)) else NAN


def regression(function: Callable[..., Any]) -> Callable[[Pairs], Value]:
    return lambda pairs: float(function(pairs.y_true, pairs.y_pred, sample_weight=pairs.weight))


def mape(pairs: Pairs) -> Value:
    """Without the pairs whose truth is 0."""
    at = pairs.y_true != 0
    if not at.any():
        return NAN
    return float(
        metrics.mean_absolute_percentage_error(pairs.y_true[at], pairs.y_pred[at], sample_weight=pairs.weight[at])
    )


def wape(pairs: Pairs) -> Value:
    size = pairs.weight @ np.abs(pairs.y_true)
    return float(pairs.weight @ np.abs(pairs.error) / size) if size else NAN


def r2(pairs: Pairs) -> Value:
    if len({*pairs.y_true.tolist()}) < 2:
        return NAN
    return float(metrics.r2_score(pairs.y_true, pairs.y_pred, sample_weight=pairs.weight))


def quantiles(values: Any, *shares: float) -> dict[str, float]:
    return {str(share): float(np.quantile(values, share)) for share in shares}


class Row(NamedTuple):
    """A value, and its oracle.

    Attributes:
        near: what it may be off by: the "bound" told by the model, that of "quantile"s, or else a rounding error.
    """

    name: str
    of: Callable[[Pairs], Value]
    near: str = ""


CLASSES = [
    Row(
        "accuracy_ratio",
        lambda pairs: float(metrics.accuracy_score(pairs.truth, pairs.decision, sample_weight=pairs.weight)),
    ),
    Row(
        "balanced_accuracy_ratio",
        lambda pairs: float(metrics.balanced_accuracy_score(pairs.truth, pairs.decision, sample_weight=pairs.weight)),
    ),
    *(
        Row(f"{name}_{how}_ratio", average(function, how))
        for name, function in (
            ("precision", metrics.precision_score),
            ("recall", metrics.recall_score),
            ("f1", metrics.f1_score),
        )
        for how in ("micro", "macro", "weighted")
    ),
    Row("precision_ratio", per_class(metrics.precision_score)),
    Row("recall_ratio", per_class(metrics.recall_score)),
    Row("f1_ratio", per_class(metrics.f1_score)),
    Row("specificity_ratio", specificity),
    Row("matthews_correlation", matthews),
    Row("cohen_kappa", kappa),
]
PROBABILITIES = [
    Row("log_loss", log_loss),
    Row("brier_score", brier),
    Row("calibration_error_ratio", calibration),
    Row("roc_auc_ratio", areas(metrics.roc_auc_score), "bound"),
    Row("roc_auc_macro_ratio", macro_area(metrics.roc_auc_score), "bound"),
    Row("average_precision_ratio", areas(metrics.average_precision_score), "bound"),
    Row("average_precision_macro_ratio", macro_area(metrics.average_precision_score), "bound"),
]
TABLE: dict[type[Any], list[Row]] = {
    MultiClassNumeric: CLASSES,
    BinaryMetrics: [*CLASSES, *PROBABILITIES],
    MulticlassOneHot: [*CLASSES, *PROBABILITIES, Row("top_k_accuracy_ratio", top_k)],
    Regression: [
        Row("mean_absolute_error", regression(metrics.mean_absolute_error)),
        Row("mean_squared_error", regression(metrics.mean_squared_error)),
        Row("root_mean_squared_error", regression(metrics.root_mean_squared_error)),
        Row("mean_error", lambda pairs: float(np.average(pairs.error, weights=pairs.weight))),
        Row("mean_absolute_percentage_error_ratio", mape),
        Row("weighted_absolute_percentage_error_ratio", wape),
        Row("r2", r2),
        Row("median_absolute_error", regression(metrics.median_absolute_error), "quantile"),
        Row("absolute_error_quantile", lambda pairs: quantiles(np.abs(pairs.error), 0.9, 0.95, 0.99), "quantile"),
    ],
}


def expected(pairs: Pairs) -> dict[Key, float]:
    """All values that are defined."""
    found: dict[Key, float] = {}
    for row in TABLE[type(pairs.model)] if len(pairs) else ():
        with warnings.catch_warnings(action="ignore"):  # scikit-learn's, of what is undefined
            value = row.of(pairs)
        found |= (
            {(row.name, label): each for label, each in value.items()}
            if isinstance(value, Mapping)
            else {(row.name, ""): value}
        )
    return {key: float(value) for key, value in found.items() if not math.isnan(value)}


def keyed(samples: Iterable[Sample]) -> dict[Key, float]:
    """Values by name and label. None comes twice, and each lies in its interval."""
    found: dict[Key, float] = {}
    for sample in samples:
        key = sample.name, ",".join(sample.labels.values())
        assert key not in found
        found[key] = sample.value
        lower, upper = sample.interval or (-math.inf, math.inf)
        slack = 1e-9 * max(1.0, abs(sample.value))
        assert lower - slack <= sample.value <= upper + slack or NEAR.get(sample.name) == "quantile", sample
    return found


NEAR = {row.name: row.near for rows in TABLE.values() for row in rows}


def bounds_of(tables: Mapping[str, list[dict[str, Any]]]) -> dict[Key, float]:
    """What the model says that areas may be off by; a mean by the mean of that."""
    found: dict[Key, float] = {}
    for name in ("roc_auc", "average_precision"):
        errors = {
            row["class"]: row[f"{name}_error"] for row in tables.get("discrimination", []) if f"{name}_error" in row
        }
        found |= {(f"{name}_ratio", label): error for label, error in errors.items()}
        found[f"{name}_macro_ratio", ""] = float(np.mean([*errors.values()])) if errors else 0.0
    return found


def faults(
    found: Mapping[Key, float], wanted: Mapping[Key, float], bounds: Mapping[Key, float], pairs: Pairs, scale: float
) -> list[str]:
    """What is missing, what is too much, and what is off. `scale` is the largest error that was ever added."""
    said = [f"{key} is missing: {wanted[key]}" for key in wanted.keys() - found.keys()]
    said += [f"{key} is undefined: {found[key]}" for key in found.keys() - wanted.keys()]
    for key in wanted.keys() & found.keys():
        value, got = wanted[key], found[key]
        off, allowed = abs(got - value), bounds.get(key, 0.0)
        if NEAR.get(key[0]) == "quantile":
            allowed = QUANTILE_ERROR * abs(value)
            if pairs.weights is not None:
                lower, upper = _around(np.abs(pairs.error), pairs.weight, float(key[1] or 0.5))
                off, allowed = max(0.0, lower - got, got - upper), QUANTILE_ERROR * upper
        elif key[0] == "root_mean_squared_error":  # of a sum whose digits were rounded
            off, value = abs(got * got - value * value), value * value
        if not off <= allowed + 1e-9 * abs(value) + _rounding(key[0], pairs, scale):
            said.append(f"{key} is {got}, not {wanted[key]}, off by {off:.3g} and at most {allowed:.3g}")
    return sorted(said)


def _rounding(name: str, pairs: Pairs, scale: float) -> float:
    """What a value may be off by when larger numbers were added and taken back."""
    if name == "r2":
        return 1e-9
    if name in ("mean_squared_error", "root_mean_squared_error"):
        scale *= scale
    elif name == "mean_absolute_percentage_error_ratio":
        scale /= float(np.abs(pairs.y_true[pairs.y_true != 0]).min(initial=1.0))
    return 1e-12 * scale


def _around(values: Any, weight: Any, share: float) -> tuple[float, float]:
    """The order statistics that a weighted quantile lies between: those one pair's weight before and behind the
    place."""
    order = np.argsort(values)
    upto = np.cumsum(weight[order])
    place, most = share * upto[-1], weight.max()
    at = np.searchsorted(upto, [place - most - 1e-9, place + most + 1e-9]).clip(max=len(values) - 1)
    return float(values[order][at[0]]), float(values[order][at[1]])


def agree(pairs: Pairs, sums: Mapping[str, float]) -> None:
    """The values of these sums are those of these pairs, and no others."""
    tables = pairs.model.tables(sums) if isinstance(pairs.model, (BinaryMetrics, MulticlassOneHot)) else {}
    scale = float(np.abs(pairs.error).max()) if isinstance(pairs.model, Regression) else 1.0
    found = faults(keyed(pairs.model.compute(sums)), expected(pairs), bounds_of(tables), pairs, scale)
    assert not found, "\n".join(found)


# The data sets


def _text(values: Iterable[Any]) -> Any:
    return np.array([str(value) for value in values], dtype=object)


def _classified(load_data: Callable[..., Any], classifier: Any, limit: int = 300) -> tuple[Any, Any]:
    features, target = load_data(return_X_y=True)
    half = len(target) // 2
    order = np.random.default_rng(7).permutation(len(target))
    features, target = features[order], target[order]
    return target[half:][:limit], classifier.fit(features[:half], target[:half]).predict_proba(features[half:])[:limit]


BAYES, LOGISTIC = GaussianNB(), make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
MAJORITY = DummyClassifier(strategy="most_frequent")
REAL = {
    f"{load_data.__name__.removeprefix('load_')}, {name}": _classified(load_data, classifier)
    for load_data in (datasets.load_iris, datasets.load_wine, datasets.load_digits, datasets.load_breast_cancer)
    for name, classifier in (("Bayes", BAYES), ("logistic", LOGISTIC), ("majority", MAJORITY))
}


def _rows(truth: Any, rows: Any) -> Pairs:
    return Pairs(MulticlassOneHot(), _text(truth), np.asarray(rows, dtype=float))


def _numbers(truth: Any, prediction: Any) -> Pairs:
    """With the first truth as the pivot, as a series has it."""
    truth, prediction = np.asarray(truth, dtype=float), np.asarray(prediction, dtype=float)
    return Pairs(Regression(pivot=float(truth[0])), truth, prediction)


def _diabetes() -> tuple[Any, Any]:
    features, target = datasets.load_diabetes(return_X_y=True)
    return target[200:], LinearRegression().fit(features[:200], target[:200]).predict(features[200:])


def _many(count: int) -> Any:
    return [f"c{i % 1000:03}" for i in range(count)]


def _data() -> Iterator[tuple[str, Pairs]]:
    random = np.random.default_rng(5)
    for name, (truth, rows) in REAL.items():
        yield f"rows of {name}", _rows(truth, rows)
    for name in ("iris, Bayes", "digits, logistic", "wine, majority"):
        truth, rows = REAL[name]
        yield f"labels of {name}", Pairs(MultiClassNumeric(), _text(truth), _text(rows.argmax(axis=1)))
    for name, threshold in (("Bayes", 0.5), ("Bayes", 0.0), ("logistic", 0.9), ("majority", 0.5)):
        truth, rows = REAL[f"breast_cancer, {name}"]
        yield (
            f"scores of breast_cancer, {name}, {threshold}",
            Pairs(BinaryMetrics(threshold), truth.astype(float), rows[:, 1]),
        )
    # Extremes of classes
    label = MultiClassNumeric()
    yield "one class, perfect", Pairs(label, _text("aaaaa"), _text("aaaaa"))
    yield "one class, all wrong", Pairs(label, _text("aaaaa"), _text("bbbbb"))
    yield "one class, one right", Pairs(label, _text("aaaaa"), _text("bbabb"))
    yield "one class predicted", Pairs(label, _text("abcab"), _text("aaaaa"))
    yield "perfect", Pairs(label, _text("abcabc"), _text("abcabc"))
    yield "all wrong", Pairs(label, _text("abcabc"), _text("bcabca"))
    yield "unseen class later", Pairs(label, _text("aaabaabcab"), _text("aaaaaababc"))
    yield "predicted class that never occurs", Pairs(label, _text("aabbaabb"), _text("aabcacbb"))
    yield (
        "1000 classes",
        Pairs(label, _text(_many(3000)), _text(np.where(random.random(3000) < 0.7, _many(3000), _many(3001)[1:]))),
    )
    # Extremes of rows and scores
    truth = random.integers(0, 6, 90)
    yield "rows that are perfect", _rows(truth, np.eye(6)[truth])
    yield "rows that are all wrong", _rows(truth, np.eye(6)[(truth + 1) % 6])
    yield "rows that are all alike", _rows(truth, np.full((90, 6), 1 / 6))
    yield "rows of twentieths", _rows(truth, random.multinomial(20, np.full(6, 1 / 6), 90) / 20)
    yield "rows of quarters", _rows(truth, random.multinomial(4, np.full(6, 1 / 6), 90) / 4)
    yield "rows of one class", _rows([2] * 20, random.dirichlet(np.ones(4), 20))
    yield "rows with a class that comes later", _rows([0] * 20 + [1, 2] * 15, random.dirichlet(np.ones(3), 50))
    yield "rows of 40 columns", _rows(random.integers(0, 40, 90), random.dirichlet(np.ones(40), 90))
    score = BinaryMetrics()
    flags = random.integers(0, 2, 60).astype(float)
    yield "scores of exactly 0 and 1", Pairs(score, flags, random.integers(0, 2, 60).astype(float))
    yield "scores that are perfect", Pairs(score, flags, flags)
    yield "scores that are all wrong", Pairs(score, flags, 1 - flags)
    yield "scores of one class", Pairs(score, np.zeros(20), random.random(20))
    yield "scores of the other class", Pairs(score, np.ones(20), random.random(20))
    yield "scores at the edges of bins", Pairs(score, flags, random.choice([0.0, *EDGES], 60))
    yield "scores within a bin", Pairs(score, flags, 0.55 + 0.009 * random.random(60))
    yield (
        "scores close to 0 and 1",
        Pairs(score, flags, np.where(random.random(60) < 0.5, *(10.0 ** random.uniform(-20, -3, 60), 1 - 1e-12))),
    )
    # Numbers
    yield "diabetes", _numbers(*_diabetes())
    for name, truth, noise in (
        ("mean 1e8, sd 1", 1e8 + random.normal(0, 1, 200), 0.5),
        ("zeros in the truth", random.integers(0, 3, 60).astype(float), 1.0),
        ("all truths 0", np.zeros(20), 1.0),
        ("all truths equal", np.full(20, 0.1), 1.0),
        ("perfect numbers", random.normal(3, 2, 30), 0.0),
        ("tiny numbers", 1e-9 * random.normal(3, 2, 60), 1e-9),
        ("huge numbers", 1e11 * random.uniform(-4, 4, 60), 1e11),
        ("one pair", np.array([2.5]), 1.0),
    ):
        yield name, _numbers(truth, truth + noise * random.normal(0, 1, len(truth)))
    wide = 10.0 ** random.uniform(-9, 11, 80)
    yield "huge and tiny numbers", _numbers(wide, wide * random.uniform(0, 3, 80))


DATA = dict(_data())
UNLIKE = np.array([0.1, 0.3, 0.7, 1.0, 1.9, 3.0, 40.0])


def _weighted(pairs: Pairs, seed: int = 1, weights: Any = UNLIKE) -> Pairs:
    return replace(pairs, weights=np.random.default_rng(seed).choice(weights, len(pairs)))


# Of whose kind others are there; they are tried in make long.
ALIKE = ("digits", "wine", "breast_cancer", "1000 classes", "40 columns", "huge numbers", "tiny numbers")

each = pytest.mark.parametrize(
    "pairs",
    [
        pytest.param(pairs, id=name, marks=[pytest.mark.long] if any(word in name for word in ALIKE) else [])
        for name, pairs in DATA.items()
    ],
)


# Models


@each
def test_values_equal_scikit_learn_after_every_batch(pairs: Pairs) -> None:
    """After every batch each value is scikit-learn's on the pairs so far, and what is undefined there is absent
    here."""
    sums: dict[str, float] = {}
    for start, stop in _batches(len(pairs), 3):
        add_into(sums, pairs.part(slice(start, stop)).sums())
        agree(pairs.part(slice(0, stop)), sums)


def _are_close(one: Mapping[str, float], other: Mapping[str, float], share: float) -> bool:
    """Whether no component differs by more than this share of the largest. An absent one is 0."""
    most = share * max(map(abs, other.values()))
    return all(abs(one.get(name, 0.0) - other.get(name, 0.0)) <= most for name in {*one, *other})


def _batches(count: int, parts: int) -> list[tuple[int, int]]:
    edges = sorted({0, *(count * part // parts for part in range(1, parts)), min(count, 1), count})
    return list(zip(edges, edges[1:], strict=False))


@each
def test_values_do_not_depend_on_split_or_order(pairs: Pairs) -> None:
    """Whatever the order of the pairs and however they are split, the values are scikit-learn's, and the sums equal."""
    whole = pairs.sums()
    order = np.random.default_rng(3).permutation(len(pairs))
    parts = [pairs.part(rows).sums() for rows in np.array_split(order, 7)]
    agree(pairs, total(parts))
    assert _are_close(total(parts), whole, 1e-12)


@each
def test_weighted_values_equal_scikit_learn(pairs: Pairs) -> None:
    """With a weight for each pair the values are scikit-learn's for these sample weights, also after some were taken
    back."""
    heavy = _weighted(pairs)
    sums: dict[str, float] = {}
    for start, stop in _batches(len(pairs), 2):
        add_into(sums, heavy.part(slice(start, stop)).sums())
        agree(heavy.part(slice(0, stop)), sums)
    gone = np.random.default_rng(2).random(len(pairs)) < 0.4
    gone[0] = False
    for row in np.flatnonzero(gone):
        add_into(sums, heavy.part([row]).sums(), -1)
    agree(heavy.part(~gone), sums)


@each
def test_a_whole_weight_is_as_many_pairs(pairs: Pairs) -> None:
    """A pair of weight 3 has the same values as three equal pairs, quantiles too."""
    heavy = _weighted(pairs, 4, np.array([1.0, 2.0, 3.0]))
    repeated = pairs.part(np.repeat(np.arange(len(pairs)), heavy.weights.astype(int)))
    assert keyed(pairs.model.compute(heavy.sums())) == pytest.approx(
        keyed(pairs.model.compute(repeated.sums())), rel=1e-9, abs=1e-12
    )


@each
@pytest.mark.parametrize("weight", [0.1, 7.0])
def test_one_weight_for_all_changes_no_value(pairs: Pairs, weight: float) -> None:
    """If all pairs have the same weight, the values are those without any; quantiles stay at the same numbers or beside
    them."""
    alike = replace(pairs, weights=np.full(len(pairs), weight))
    agree(alike, alike.sums())
    values, plain = keyed(pairs.model.compute(alike.sums())), keyed(pairs.model.compute(pairs.sums()))
    assert values.keys() == plain.keys()
    exact = {key for key in values if NEAR[key[0]] != "quantile"}
    assert {key: values[key] for key in exact} == pytest.approx({key: plain[key] for key in exact}, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_what_only_other_classes_defined_goes_with_them(seed: int) -> None:
    """When of weighted pairs only those of one class are left, no rounding error is read as a second class."""
    random = np.random.default_rng(seed)
    for model, one, other, row in (
        (MultiClassNumeric(), "a", "b", "a"),
        (BinaryMetrics(), 1.0, 0.0, 0.9),
        (MulticlassOneHot(), "2", "1", [0.1, 0.2, 0.7]),
    ):
        kind = type(one) if isinstance(one, float) else object
        kept = Pairs(
            model, np.array([one] * 9, dtype=kind), np.array([row] * 9, dtype=kind if isinstance(row, str) else float)
        )
        gone = replace(kept, y_true=np.array([other, one] * 4 + [other], dtype=kind))
        kept, gone = (replace(each, weights=random.choice(UNLIKE, 9)) for each in (kept, gone))
        sums: dict[str, float] = {}
        for at in range(9):
            add_into(sums, kept.part([at]).sums())
            add_into(sums, gone.part([at]).sums())
        for at in random.permutation(9):
            add_into(sums, gone.part([at]).sums(), -1)
        agree(kept, sums)


@each
def test_what_was_added_can_be_taken_back(pairs: Pairs) -> None:
    """Subtracting what was added leaves what was there: counts exactly, real sums to rounding."""
    whole, part = pairs.sums(), pairs.part(slice(0, None, 3)).sums()
    left = dict(whole)
    add_into(left, part)
    add_into(left, part, -1)
    assert _are_close(left, whole, 1e-12)
    assert _counts(left) == _counts(whole)


def _counts(sums: Mapping[str, float]) -> dict[str, float]:
    """What is counted in them, and not measured."""
    return {
        name: value for name, value in sums.items() if name.startswith(COUNTS) and "\x1fsum\x1f" not in name and value
    }


COUNTS = (
    "pairs",
    "correct",
    "confusion",
    "score",
    "rank",
    "columns",
    "probabilities",
    "confidence",
    "moved",
    "nonzero",
    "error\x1f",
)


@each
def test_reading_twice_is_equal_and_leaves_the_sums_alone(pairs: Pairs) -> None:
    """Reading yields equal samples each time, and changes neither the sums nor, in making them, the pairs."""
    given_pairs = pairs.y_true.copy(), pairs.y_pred.copy()
    sums = pairs.sums()
    before = dict(sums)
    assert list(pairs.model.compute(sums)) == list(pairs.model.compute(sums))
    assert sums == before
    assert all(np.array_equal(one, other) for one, other in zip(given_pairs, (pairs.y_true, pairs.y_pred), strict=True))


@each
def test_an_empty_batch_adds_nothing(pairs: Pairs) -> None:
    """No pair has no sums."""
    assert not pairs.part(slice(0, 0)).sums()


@pytest.mark.parametrize("model", [model() for model in TABLE])
def test_nothing_is_said_before_the_first_pair(model: MetricModel) -> None:
    """An undefined value is absent, never 0."""
    assert list(model.compute({})) == []


def test_a_true_class_without_a_column() -> None:
    """A truth that no column stands for is as improbable as can be, and is never among the top."""
    rows = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [1.0, 0.0, 0.0]])
    truth = np.array([0, 1, 3])
    values = keyed(MulticlassOneHot().compute(MulticlassOneHot().increments(_text(truth), rows)))
    padded = np.column_stack([rows, np.zeros(3)])
    assert values["log_loss", ""] == pytest.approx(metrics.log_loss(truth, padded, labels=range(4)))
    assert values["brier_score", ""] == pytest.approx(metrics.brier_score_loss(truth, padded, labels=range(4)))
    assert values["top_k_accuracy_ratio", "2"] == pytest.approx(2 / 3)


# What is read from bins

# How far off the areas of a class may at most be told to be, on each real data set: ROC, average precision.
SMALL = {
    "iris, Bayes": (1e-9, 0.0005),
    "iris, logistic": (0.001, 0.005),
    "wine, Bayes": (1e-9, 5e-5),
    "wine, logistic": (0.0005, 0.002),
    "digits, Bayes": (0.03, 0.1),  # half of its largest probabilities are exactly 1
    "digits, logistic": (0.0002, 0.002),
    "breast_cancer, Bayes": (0.01, 0.08),
    "breast_cancer, logistic": (0.001, 0.002),
}


@pytest.mark.parametrize("name", SMALL)
def test_bounds_are_small_on_real_data(name: str) -> None:
    """On real data sets the areas of every class are told to within thousandths, or hundredths where scores are
    crowded."""
    pairs = _rows(*REAL[name])
    bounds = bounds_of(pairs.model.tables(pairs.sums()))  # type: ignore[attr-defined]
    for area_name, most in zip(("roc_auc_ratio", "average_precision_ratio"), SMALL[name], strict=True):
        assert max(value for (whose, _), value in bounds.items() if whose == area_name) <= most


@pytest.mark.parametrize(
    "name", ["rows of twentieths", "rows of quarters", "rows that are all alike", "scores at the edges of bins"]
)
def test_areas_are_exact_for_scores_that_are_edges(name: str) -> None:
    """Where equal bins mean equal scores, areas under the ROC curve are scikit-learn's to rounding, whatever the
    bound."""
    pairs = DATA[name]
    wanted, found = expected(pairs), keyed(pairs.model.compute(pairs.sums()))
    exact = {key: value for key, value in wanted.items() if key[0].startswith("roc_auc")}
    assert len(exact) >= 2
    assert {key: found[key] for key in exact} == pytest.approx(exact, abs=1e-9)


scores = st.one_of(
    st.floats(0, 1),
    st.sampled_from([0.0, 1.0, 0.5, 0.55, 0.551, 0.5511, 5e-324, 1e-12, 1 - 1e-12, math.nextafter(1, 0), *EDGES[::2]]),
    st.integers(0, 1000).map(lambda n: n / 1000),
)
scored = st.lists(st.tuples(scores, st.booleans()), min_size=1, max_size=40)


def _areas_of(found: list[tuple[float, bool]], name: str) -> tuple[float | None, float]:
    """An area of these scores, and what it may be off by."""
    pairs = _binary(found)
    sums = pairs.sums()
    return keyed(pairs.model.compute(sums)).get((f"{name}_ratio", "1")), bounds_of(pairs.model.tables(sums)).get(
        (f"{name}_ratio", "1"), 0.0
    )  # type: ignore[attr-defined]


def _binary(found: list[tuple[float, bool]]) -> Pairs:
    truth, score = (
        np.array(each, dtype=float) for each in ([positive for _, positive in found], [score for score, _ in found])
    )
    return Pairs(BinaryMetrics(), truth, score)


@settings(max_examples=150, deadline=None)
@given(found=scored)
def test_roc_auc_keeps_its_bound(found: list[tuple[float, bool]]) -> None:
    """Whatever the scores, the area under the ROC curve is off by at most what it is told to be."""
    value, bound = _areas_of(found, "roc_auc")
    wanted = area(metrics.roc_auc_score, _binary(found)).get("1")
    assert (value is None) == (wanted is None)
    assert value is None or wanted is None or abs(value - wanted) <= bound + 1e-9


def test_average_precision_of_decisions_is_exact() -> None:
    """Scores that are all 0 or 1 are ties, and count as scikit-learn counts them."""
    for truths in ([0, 1, 0, 1, 1], [1, 0, 0, 0, 1]):
        found = list(zip([0.0, 1.0, 1.0, 0.0, 1.0], map(bool, truths), strict=True))
        value, _ = _areas_of(found, "average_precision")
        assert value == pytest.approx(metrics.average_precision_score(truths, [0.0, 1.0, 1.0, 0.0, 1.0]), abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(found=scored)
@example(found=[(0.9, False), (0.555, True), (0.551, False)])
def test_average_precision_keeps_its_bound(found: list[tuple[float, bool]]) -> None:
    """Whatever the scores, the average precision is off by at most what it is told to be."""
    value, bound = _areas_of(found, "average_precision")
    wanted = area(metrics.average_precision_score, _binary(found)).get("1")
    assert (value is None) == (wanted is None)
    assert value is None or wanted is None or abs(value - wanted) <= bound + 1e-9


@settings(max_examples=60, deadline=None)
@given(found=scored)
def test_decisions_at_every_threshold_are_counted_exactly(found: list[tuple[float, bool]]) -> None:
    """Of each threshold that is told, what deciding from there on would give is what the scores themselves say."""
    pairs = _binary(found)
    rows = pairs.model.tables(pairs.sums())["thresholds"]  # type: ignore[attr-defined]
    assert rows[0]["threshold"] <= min(score for score, _ in found)
    for row in rows:
        (tn, fp), (fn, tp) = metrics.confusion_matrix(
            pairs.truth == "1", pairs.y_pred >= row["threshold"], labels=[False, True]
        )
        assert (row["tn"], row["fp"], row["fn"], row["tp"]) == (tn, fp, fn, tp)


def test_areas_without_positives_or_negatives_warn_of_nothing() -> None:
    """Rows of one class leave the areas of the others undefined, without a warning of numpy in the log."""
    pairs = DATA["rows of one class"]
    with warnings.catch_warnings(action="error"):
        assert list(pairs.model.compute(pairs.sums()))


@settings(max_examples=100, deadline=None)
@given(found=scored, more=scored)
def test_counts_of_scores_can_be_taken_back_exactly(
    found: list[tuple[float, bool]], more: list[tuple[float, bool]]
) -> None:
    """Adding scores and subtracting them leaves the very same counts, and their sums to rounding."""
    before, other = _binary(found).sums(), _binary(more).sums()
    left = dict(before)
    add_into(left, other)
    add_into(left, other, -1)
    assert _counts(left) == _counts(before)
    # To rounding: of what was added on the way, which the cube of a great loss may exceed all that stays by far.
    assert all(
        abs(left.get(name, 0.0) - value) <= 1e-12 * (abs(value) + abs(other.get(name, 0.0)))
        for name, value in before.items()
    )


@settings(max_examples=300, deadline=None)
@given(
    found=st.lists(
        st.one_of(st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) >= 1e-12), st.integers(-5, 5)),
        min_size=1,
        max_size=30,
    ),
    share=st.one_of(st.sampled_from([0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0]), st.floats(0, 1)),
)
def test_quantiles_are_right_to_their_bound(found: list[float], share: float) -> None:
    """A quantile is numpy's, to 2.5 % of the two numbers it lies between."""
    moments = Moments(sum(found), sum(number * number for number in found))
    distribution = LogHistogram.of("x", bin_counts("x", found), moments)
    assert distribution is not None
    rank = share * (len(found) - 1)
    below, above = (abs(sorted(found)[at]) for at in (math.floor(rank), math.ceil(rank)))
    part = rank - math.floor(rank)
    allowed = QUANTILE_ERROR * (below * (1 - part) + above * part) + 1e-9 * max(below, above)
    assert abs(distribution.quantile(share) - np.quantile(found, share)) <= allowed
    assert (distribution.quantile(0), distribution.quantile(1)) == (
        pytest.approx(min(found), rel=QUANTILE_ERROR),
        pytest.approx(max(found), rel=QUANTILE_ERROR),
    )


# Numbers


def test_a_mean_that_dwarfs_the_spread() -> None:
    """Of truths near 1e8 that differ by 1, R² about the first of them is right to 1e-9; about 0 no digit of it would
    be."""
    pairs = DATA["mean 1e8, sd 1"]
    true = metrics.r2_score(pairs.y_true, pairs.y_pred)
    assert keyed(pairs.model.compute(pairs.sums()))["r2", ""] == pytest.approx(true, abs=1e-9)
    about_zero = Regression(pivot=0.0)
    found = keyed(about_zero.compute(about_zero.increments(pairs.y_true, pairs.y_pred)))
    assert abs(found.get(("r2", ""), math.inf) - true) > 1e-3


@settings(max_examples=100, deadline=None)
@given(mean=st.floats(-1e9, 1e9), spread=st.floats(0.5, 1e3), seed=st.integers(0, 9))
def test_r2_is_right_about_any_first_truth(mean: float, spread: float, seed: int) -> None:
    """Wherever the truths lie, R² about the first of them is scikit-learn's to 1e-6."""
    random = np.random.default_rng(seed)
    truth = mean + spread * random.normal(0, 1, 50)
    pairs = _numbers(truth, truth + spread * random.normal(0, 0.5, 50))
    assert keyed(pairs.model.compute(pairs.sums()))["r2", ""] == pytest.approx(
        metrics.r2_score(pairs.y_true, pairs.y_pred), abs=1e-6
    )


@pytest.mark.parametrize(
    ("truth", "pivot", "values"),
    [
        (truth, pivot, values)
        for truth, pivot in ((0.0, 0.0), (1.1, 1.1), (1.1, 5.3), (0.0, 0.7))
        # About another pivot, what a square of 1e12 leaves behind is as large as the squares of the truths.
        for values in (
            [0.1, 0.2, 0.3],
            [12.3, 2.7, 1 / 3],
            *([[123456.789, 98765.4321, 3.3], [1e6 + 0.1, 2.7, 1 / 3]] if truth == pivot else []),
        )
    ],
)
def test_what_corrections_make_undefined_is_absent(truth: float, pivot: float, values: list[float]) -> None:
    """When corrections leave truths that are all equal, or all 0, what is undefined of them is gone."""
    pairs = Pairs(Regression(pivot), np.full(4, truth), np.array([1.0, 2.0, 0.3, truth]))
    sums = pairs.sums()
    for turn in (values, values[::-1]):
        for value in turn:
            add_into(sums, pairs.model.increments(np.array([value]), np.array([2.0])))
    for value in [*values, *values]:
        add_into(sums, pairs.model.increments(np.array([value]), np.array([2.0])), -1)
    names = {"r2", "weighted_absolute_percentage_error_ratio", "mean_absolute_percentage_error_ratio"}
    assert {key[0] for key in keyed(pairs.model.compute(sums))} & names == {key[0] for key in expected(pairs)} & names


# Outputs and rewards

OUTPUTS: dict[str, tuple[list[str], Any]] = {
    "diabetes": ([], _diabetes()[1]),
    "both signs and 0": ([], np.array([-3.0, 0.0, 2.5, -1e-3, 1e6, -1e6, 0.0])),
    "one number": ([], np.array([-7.25])),
    "probabilities": (["1", "0", "1", "1"], np.array([0.9, 0.0, 0.5, 1.0])),
    "classes": (list("abacad"), np.array([])),
    "nothing": ([], np.array([])),
}


def output_values(classes: Sequence[str], numbers: Any) -> dict[Key, float]:
    """What numpy says of predictions."""
    found: dict[Key, float] = {("predicted_class_ratio", name): classes.count(name) / len(classes) for name in classes}
    if len(numbers):
        found |= {
            ("output_mean", ""): float(numbers.mean()),
            ("output_min", ""): numbers.min(),
            ("output_max", ""): numbers.max(),
        }
        found |= {("output_quantile", q): value for q, value in quantiles(numbers, 0.05, 0.25, 0.5, 0.75, 0.95).items()}
    return found


def output_bounds(numbers: Any) -> dict[Key, float]:
    """2.5 % of the numbers that the value lies between."""
    found: dict[Key, float] = {}
    for name, labels in (
        ("output_min", {"": 0.0}),
        ("output_max", {"": 1.0}),
        ("output_quantile", {str(q): q for q in prediction_stats.QUANTILES}),
    ):
        for label, share in labels.items() if len(numbers) else ():
            rank = share * (len(numbers) - 1)
            around = np.abs(np.sort(numbers)[[math.floor(rank), math.ceil(rank)]])
            found[name, label] = QUANTILE_ERROR * float(around @ [1 - rank % 1, rank % 1])
    return found


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_are_numpys(name: str) -> None:
    """Mean and shares of predictions are exact, minimum, maximum and quantiles to 2.5 % of the numbers they lie
    between."""
    classes, numbers = OUTPUTS[name]
    sums: dict[str, float] = {}
    for label in classes:
        add_into(sums, prediction_stats.increments([(label, None)]))
    for part in np.array_split(numbers, 3):
        add_into(sums, prediction_stats.increments([(None, number) for number in part.tolist()]))
    add_into(sums, prediction_stats.increments([("x", 1e5), ("a", -3.5)]))
    add_into(sums, prediction_stats.increments([("x", 1e5), ("a", -3.5)]), -1)
    found, wanted = (
        keyed([*prediction_stats.compute(sums), *prediction_stats.shares(sums, sorted(set(classes)), 100)]),
        output_values(classes, numbers),
    )
    assert found.keys() == wanted.keys()
    bounds = output_bounds(numbers)
    assert not [
        key
        for key, value in wanted.items()
        if abs(found[key] - value) > bounds.get(key, 0.0) + 1e-9 * max(1, abs(value))
    ]


def reward_values(rewards: Sequence[float]) -> dict[Key, float]:
    """What numpy says of rewards."""
    named = [str(int(value)) if value % 1 == 0 and abs(value) <= 10 else "other" for value in rewards]
    found: dict[Key, float] = {("reward_ratio", name): named.count(name) / len(named) for name in named}
    return found | ({("reward_mean", ""): float(np.mean(rewards))} if rewards else {})


@pytest.mark.parametrize("rewards", [[], [0.0], [1.0, -1.0, 1.0], [5.0, 2.5, 11.0, -10.0, 1e9, 0.0, 5.0]])
def test_rewards_are_numpys(rewards: list[float]) -> None:
    """The mean of rewards and the share of each value; nothing of none."""
    sums = total(map(reward_stats.increments, [*rewards, 3.25, 4.0]))
    for value in (3.25, 4.0):
        add_into(sums, reward_stats.increments(value), -1)
    assert keyed(reward_stats.compute(sums)) == pytest.approx(reward_values(rewards))


# The whole way of a pair

NOW = 20_000 * DAY + 12 * HOUR + 30.0
WINDOWS = {"1h": HOUR, "1d": DAY, "30d": 30 * DAY}
AGES = np.array([10 * MINUTE, 20 * HOUR, 20 * DAY], dtype=float)  # each in one window more than the next
KEEPING = Retention(history=400 * DAY, retention=35 * DAY, dedupe=DAY)
LABELS = Labels("shop", "wine", "main", "classifier")
STATED = dict(zip(("namespace", "deployment", "predictor", "model"), LABELS, strict=True))
ATTRIBUTES = dict(zip(("namespace", "inferenceservicename", "endpoint", "modelid"), LABELS, strict=True))


@dataclass
class Life:
    """A server's core over a file, without sockets or threads, and beside it the plain list of what stands.

    Attributes:
        truths: the truth that stands for each prediction, None where none does; not yet sent ones are beyond `sent`.
        logged: which predictions come through the request log, and their truths later; the others come with their
            truth.
    """

    path: Path
    pairs: Pairs
    now: float = NOW
    sent: int = 0
    truths: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        model = self.pairs.model
        self.scoring = Scoring(
            storage_uri=f"{type(model).__module__}.{type(model).__name__}", threshold=getattr(model, "threshold", 0.5)
        )
        self.reader = Evaluator(100, 0)
        random = np.random.default_rng(11)
        self.at = (
            self.now - random.permutation(np.resize(AGES, len(self.pairs))) - random.integers(0, 600, len(self.pairs))
        )
        self.logged = random.random(len(self.pairs)) < 0.7
        self.weights = self.pairs.weight.copy()
        self.labelled = self.now
        self._known: dict[str, tuple[dict[Key, float], dict[Key, float], Pairs]] = {}
        numeric = isinstance(model, Regression)
        self.scale = float(np.abs(self.pairs.error).max() + np.ptp(self.pairs.y_true)) if numeric else 1.0
        self.open()

    def open(self) -> None:
        self.store = SqliteStore(str(self.path))
        self.registry = SeriesRegistry(lambda labels: self.scoring, lambda path, parameters: load(path, parameters), 10)
        self.registry.restore(self.store.series())
        self.totals = Totals(WINDOWS)
        self.totals.rebuild(self.store, self.now)

    def restart(self) -> None:
        self.store.close()
        self.open()

    def take(self, observations: Sequence[Observation]) -> None:
        batch = Batch(self.store, self.registry, KEEPING, self.now)
        assert set(batch.apply(observations)) <= {"accepted", "pending"}
        change = batch.change()
        assert self.store.commit(change)
        self.totals.add(change.sums)

    def _said(self, row: int) -> Any:
        value = self.pairs.y_pred[row]
        return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value

    def _log(self, row: int) -> Observation:
        data = msgspec.json.encode({"data": {"ndarray": [self._said(row)]}})
        attributes = {**ATTRIBUTES, "requestid": f"r{row}"}
        sent_at = float(self.at[row])
        return observation_of(
            Event(
                kind=EventKind.RESPONSE,
                id=f"e{row}",
                source="/test",
                type="t",
                time=sent_at,
                attributes=attributes,
                data=data,
            ),
            LABELS,
            self.now,
        )

    def _tell(self, rows: Iterable[int]) -> list[Observation]:
        """Statements about these rows, as they are to stand now."""
        self.labelled += 1
        statements = [
            {
                "request_id": f"r{row}",
                "truth": self.truths[row],
                "labelled_at": self.labelled,
                "weight": float(self.weights[row]),
                **STATED,
            }
            | ({} if self.logged[row] else {"prediction": self._said(row), "predicted_at": float(self.at[row])})
            for row in rows
        ]
        observations = observations_of(msgspec.json.encode(statements), LABELS, self.now)
        assert all(isinstance(observation, Observation) for observation in observations), observations
        return observations  # type: ignore[return-value]

    def send(self, stop: int) -> None:
        """The predictions up to this one, with their truths, in any order."""
        rows = range(self.sent, stop)
        self.truths += self.pairs.y_true[self.sent : stop].tolist()
        self.sent = stop
        observations = [*(self._log(row) for row in rows if self.logged[row]), *self._tell(rows)]
        self.take([observations[at] for at in np.random.default_rng(stop).permutation(len(observations))])
        self._known = {}

    def correct(self, rows: Iterable[int], truths: Iterable[Any]) -> None:
        """Later truths for some rows; None takes one back."""
        changed = list(rows)
        for row, truth in zip(changed, truths, strict=True):
            self.truths[row] = truth
        self.take(self._tell(changed))
        self._known = {}

    def age(self, seconds: float) -> None:
        """Time passes, and everything that falls due is done."""
        self.now += seconds
        times = {"history": KEEPING.history, "retention": KEEPING.retention, "series_retention": 400 * DAY}
        upkeep = Maintenance(self.store, self.registry, self.totals, Telemetry(), UsageLimits(), **times)
        upkeep.run_due(self.now)
        while upkeep.is_busy:
            upkeep.run_due(self.now)
        self._known = {}

    @property
    def series(self) -> Series:
        found = self.registry.find(LABELS)
        assert found is not None
        return found

    def _inside(self, length: int) -> Any:
        """Which of the predictions sent so far a window holds: down to a whole bucket of its far end."""
        width = MINUTE if length <= 6 * HOUR else QUARTER if length <= 8 * DAY else DAY
        return np.flatnonzero(self.at[: self.sent] >= (self.now - length) // width * width)

    def _expected(self, window: str) -> tuple[dict[Key, float], dict[Key, float], Pairs]:
        """The values of a window, what those of its outputs may be off by, and its pairs."""
        if window not in self._known:
            inside = self._inside(WINDOWS[window])
            standing = [row for row in inside if self.truths[row] is not None]
            logged = self.pairs.part([row for row in inside if self.logged[row]])
            is_sorted = isinstance(self.pairs.model, (MultiClassNumeric, MulticlassOneHot))
            exported = tuple(self.series.classes)[:100] if is_sorted else None
            pairs = replace(
                self.pairs.part(standing),
                y_true=np.array([self.truths[row] for row in standing], dtype=self.pairs.y_true.dtype),
                weights=None if self.pairs.weights is None else self.weights[standing],
                exported=exported,
            )
            found = expected(pairs)
            if standing:
                found["support", ""] = float(len(standing))
            if len(logged) and len(standing) <= len(logged):
                found["label_coverage_ratio", ""] = len(standing) / len(logged)
            numbers = np.array([]) if is_sorted else logged.y_pred
            classes = [] if isinstance(self.pairs.model, Regression) or not len(logged) else logged.decision.tolist()
            if exported is not None:
                classes = [name if name in exported else "__other__" for name in classes]
            self._known[window] = found | output_values(classes, numbers), output_bounds(numbers), pairs
        return self._known[window]

    def check(self) -> None:
        """Every window says what the oracles do."""
        reading = self.totals.series_totals(self.series.id)
        said = []
        for window in WINDOWS:
            sums = reading.windows[window]
            wanted, off, pairs = self._expected(window)
            bounds = off | bounds_of(self.reader.tables(self.series, sums))
            values = keyed(self.reader.values(self.series, sums))
            said += [f"{window}: {fault}" for fault in faults(values, wanted, bounds, pairs, self.scale)]
        assert not said, "\n".join(said)


def _shorter(pairs: Pairs, limit: int) -> Pairs:
    return pairs.part(slice(0, limit))


# Those that differ from others only in what a model makes of them.
SHORT_LIVED = {
    name for name in DATA if "majority" in name or name.endswith(("iris, logistic", "wine, logistic", "0.0", "wrong"))
}
LIVES = {
    name: _shorter(pairs, 1200 if name == "1000 classes" else 90)
    for name, pairs in DATA.items()
    if name not in SHORT_LIVED
}
LIVES |= {
    f"{name}, weighted": _weighted(LIVES[name], 6)
    for name in (
        *(
            "rows of iris, Bayes",
            "labels of iris, Bayes",
            "scores of breast_cancer, Bayes, 0.5",
            "diabetes",
            "mean 1e8, sd 1",
        ),
        *(
            "one class, perfect",
            "one class, one right",
            "one class predicted",
            "all truths equal",
            "zeros in the truth",
            "rows of one class",
        ),
    )
}


# Of each kind of pairs one is always tried; the others are of the same kinds, or take seconds.
QUICK = (
    "rows of quarters",
    "rows of iris, Bayes, weighted",
    "labels of iris, Bayes",
    "scores at the edges of bins",
    "scores of breast_cancer, Bayes, 0.5, weighted",
    "diabetes",
    "zeros in the truth, weighted",
    "one pair",
    "predicted class that never occurs",
)


@pytest.mark.parametrize(
    "pairs",
    [pytest.param(pairs, id=name, marks=[] if name in QUICK else [pytest.mark.long]) for name, pairs in LIVES.items()],
)
def test_windows_equal_scikit_learn_through_batches_corrections_restarts_and_roll_ups(
    pairs: Pairs, tmp_path: Path
) -> None:
    """Every window has scikit-learn's values on the pairs that stand in it, at every step, and says nothing that is
    undefined."""
    life = Life(tmp_path / "state.db", pairs)
    count = len(pairs)
    for stop in sorted({min(count, 1), count // 2, count} - {0}):
        life.send(stop)
        life.check()
    random = np.random.default_rng(12)
    changed = random.permutation(count)[: max(1, count // 3)]
    if pairs.weights is not None:
        life.weights[changed[::2]] = 0.3
    life.correct(changed, [life.truths[row] for row in random.permutation(changed)])
    life.check()
    life.restart()
    life.check()
    life.correct(changed[: len(changed) // 3], [None] * (len(changed) // 3))
    life.age(7 * HOUR)
    life.check()
    life.restart()
    life.check()
    life.correct(changed, pairs.y_true[changed].tolist())
    life.age(9 * DAY)
    life.check()
    life.correct(range(count), [None] * count)
    life.check()
    life.store.close()


def test_a_window_whose_truths_were_all_corrected_to_one_class(tmp_path: Path) -> None:
    """When corrections leave one class, what only several classes define is gone again."""
    pairs = Pairs(MultiClassNumeric(), _text("abcabc"), _text("aaaaaa"))
    life = Life(tmp_path / "state.db", pairs)
    life.send(6)
    life.check()
    life.correct(range(6), ["a"] * 6)
    life.check()
    life.restart()
    life.check()
    life.store.close()


@pytest.mark.parametrize("left", [0.0, 5.5])
def test_a_window_whose_truths_were_all_corrected_to_one_number(left: float, tmp_path: Path) -> None:
    """When corrections leave one number, R² is gone again, and of zeros the relative errors too."""
    truth = 1e5 * np.random.default_rng(1).random(12)
    life = Life(tmp_path / "state.db", _numbers(truth, truth + 1))
    life.send(12)
    life.check()
    life.correct(range(12), [left] * 12)
    life.check()
    life.restart()
    life.check()
    life.store.close()


def test_rewards_of_windows(tmp_path: Path) -> None:
    """Each window has the mean and the shares of the rewards of its predictions, the latest for each, also after a
    restart."""
    life = Life(tmp_path / "state.db", _shorter(DATA["labels of iris, Bayes"], 30))
    life.logged[:] = True
    life.send(30)
    given_rewards: dict[int, float] = {}
    for turn, rewards in enumerate([np.random.default_rng(4).choice([0.0, 1.0, -1.0, 4.5], 30), np.full(7, 5.0)]):
        observations = []
        for row, value in enumerate(rewards.tolist()):
            given_rewards[row] = value
            event = Event(
                kind=EventKind.FEEDBACK,
                id=f"f{turn} {row}",
                source="/test",
                type="t",
                time=life.now + turn,
                attributes={**ATTRIBUTES, "requestid": f"r{row}"},
                data=msgspec.json.encode({"reward": value}),
            )
            observations.append(observation_of(event, LABELS, life.now))
        life.take(observations)
    for _ in range(2):
        reading = life.totals.series_totals(life.series.id)
        for window, length in WINDOWS.items():
            found = keyed(life.reader.values(life.series, reading.windows[window]))
            wanted = reward_values([given_rewards[row] for row in life._inside(length)])
            assert {key: value for key, value in found.items() if key[0].startswith("reward")} == pytest.approx(wanted)
        life.restart()
    life.store.close()
