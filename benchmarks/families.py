"""The cost of a metric family: to count a pair, and to compute the values of one window."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from cm_models.binary_metrics import BinaryMetrics
from cm_models.human_feedback import HumanFeedback
from cm_models.multiclass_numeric import MultiClassNumeric
from cm_models.multiclass_one_hot import MulticlassOneHot
from cm_models.multilabel import MultiLabel
from cm_models.ranking import Ranking
from cm_models.regression import Regression
from metrics_server.metrics.model import MetricModel

PAIRS = 1000  # of one call: a full bucket of a busy series
REPEATS = 20


@dataclass(frozen=True)
class Cost:
    """The measured times of one family, in microseconds.

    Attributes:
        alone: for a pair that is counted by itself.
        together: for each of a thousand pairs that are counted in one call.
        values: for the values of a window with a thousand pairs.
        components: sums that these pairs have come to.
        samples: values read from them.
    """

    family: str
    alone: float
    together: float
    values: float
    components: int
    samples: int


def costs() -> list[Cost]:
    """Measures all families on generated pairs."""
    return [_cost(family, *workload) for family, workload in _workloads()]


def _workloads() -> Iterator[tuple[str, tuple[MetricModel, Any, Any]]]:
    random = np.random.default_rng(0)

    def labels(columns: Any) -> Any:
        return np.array([str(column) for column in columns], dtype=object)

    for width in (3, 10, 1000):
        rows = random.dirichlet(np.full(width, 0.3), PAIRS)
        truths = labels([random.choice(width, p=row) for row in rows])
        yield f"MulticlassOneHot, {width} columns", (MulticlassOneHot(), truths, rows)
        yield f"MultiClassNumeric, {width} classes", (MultiClassNumeric(), truths, labels(rows.argmax(axis=1)))
    scores = random.beta(0.5, 0.5, PAIRS)
    yield "BinaryMetrics", (BinaryMetrics(), (random.random(PAIRS) < scores).astype(float), scores)
    targets = random.normal(100, 20, PAIRS)
    yield "Regression", (Regression(pivot=100.0), targets, targets + random.normal(0, 5, PAIRS))
    many = random.random((PAIRS, 10))
    yield "MultiLabel, 10 labels", (MultiLabel(), (random.random((PAIRS, 10)) < many).astype(float), many)
    yield (
        "Ranking, 20 candidates",
        (Ranking(), random.integers(0, 3, (PAIRS, 20)).astype(float), random.random((PAIRS, 20))),
    )
    yield "HumanFeedback", (HumanFeedback(), random.integers(1, 6, PAIRS).astype(float), np.zeros(PAIRS))


def _cost(family: str, model: MetricModel, y_true: Any, y_pred: Any) -> Cost:
    sums = model.increments(y_true, y_pred)
    return Cost(
        family,
        _microseconds(lambda: model.increments(y_true[:1], y_pred[:1])),
        _microseconds(lambda: model.increments(y_true, y_pred)) / PAIRS,
        _microseconds(lambda: list(model.compute(sums))),
        len(sums),
        len(list(model.compute(sums))),
    )


def _microseconds(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return median(taken) * 1e6
