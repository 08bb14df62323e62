# ruff: noqa: INP001 - Seldon's wrapper looks for a class of the module's name
"""A model as Seldon's Python wrapper serves it, with metrics of its own and feedback: the species of an iris flower."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from seldon_core.flask_utils import SeldonMicroserviceException
from seldon_core.user_model import SeldonComponent, SeldonResponse

SPECIES = ("setosa", "versicolor", "virginica")
# Means and deviations of the species in the Iris data set: length and width of sepals and petals in centimetres.
MEANS = np.array([[5.01, 3.43, 1.46, 0.25], [5.94, 2.77, 4.26, 1.33], [6.59, 2.97, 5.55, 2.03]])
DEVIATIONS = np.array([[0.35, 0.38, 0.17, 0.11], [0.52, 0.31, 0.47, 0.20], [0.64, 0.32, 0.55, 0.27]])


def table(features: Any) -> np.ndarray:
    """Returns rows of four measures.

    Raises:
        SeldonMicroserviceException: they are none; the wrapper answers with its status and its words.
    """
    rows = np.asarray(features, dtype=float)
    if rows.ndim != 2 or rows.shape[1] != MEANS.shape[1] or not np.isfinite(rows).all():
        raise SeldonMicroserviceException(f"want rows of {MEANS.shape[1]} numbers, got the shape {list(rows.shape)}")
    return rows


def probabilities(rows: np.ndarray) -> np.ndarray:
    """Naive Bayes: returns a column for each species."""
    distances = (rows[:, None, :] - MEANS) / DEVIATIONS
    logs = -(distances**2).sum(axis=2) / 2 - np.log(DEVIATIONS).sum(axis=1)
    scores = np.exp(logs - logs.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def true_columns(truth: np.ndarray) -> np.ndarray:
    """Returns the columns of the true species, of truths that are indexes or one-hot rows."""
    return truth.argmax(axis=1) if truth.ndim == 2 and truth.shape[1] == len(SPECIES) else truth.ravel().astype(int)


def counter(key: str, value: int, **tags: str) -> dict[str, Any]:
    """Returns a counter for the wrapper; `value` must be Python's own int, for it is sent as JSON."""
    return {"type": "COUNTER", "key": key, "value": int(value), "tags": tags}


class IrisClassifier(SeldonComponent):
    """Metrics go with the answer that they are about, so that calls at the same time do not mix them up."""

    def predict(self, features: Any, names: Sequence[str], meta: Any = None) -> SeldonResponse:
        """Probabilities of the species, a row for each row of four measures."""
        began = time.perf_counter()
        scores = probabilities(table(features))
        counts = np.bincount(scores.argmax(axis=1), minlength=len(SPECIES))
        metrics = [counter("iris_predictions", n, species=SPECIES[column]) for column, n in enumerate(counts) if n]
        metrics += [
            {"type": "GAUGE", "key": "iris_last_confidence", "value": float(scores.max(axis=1).mean())},
            {"type": "TIMER", "key": "iris_predict_seconds", "value": 1000 * (time.perf_counter() - began)},
        ]
        return SeldonResponse(scores, metrics=metrics)

    def send_feedback(
        self, features: Any, names: Sequence[str], reward: float, truth: Any, routing: int | None = None
    ) -> SeldonResponse:
        """Counts what turned out right and wrong, where feedback brings both the request and the truth."""
        if not np.size(truth) or not np.size(features):
            return SeldonResponse(None)
        predicted = probabilities(table(features)).argmax(axis=1)
        right = predicted == true_columns(np.asarray(truth, dtype=float))
        counts = (("right", right.sum()), ("wrong", (~right).sum()))
        return SeldonResponse(None, metrics=[counter("iris_feedback", n, outcome=name) for name, n in counts if n])

    def class_names(self) -> Sequence[str]:
        """Names of the columns, which stand in `data.names` of the answer."""
        return SPECIES
