"""Regression: numbers against numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from metrics_server.model import Array, Sample
from metrics_server.sums import Sums


@dataclass(frozen=True)
class Regression:
    """Errors of a numeric prediction, in the unit of the target (its square for the mean squared error).

    Sums:
        pairs: labelled predictions, n.
        error: sum of y_pred - y_true.
        abs_error: sum of |y_pred - y_true|.
        squared_error: sum of (y_pred - y_true)².

    Undefined, hence no sample, until the first pair. Oracle: sklearn.metrics.mean_absolute_error, mean_squared_error,
    root_mean_squared_error.
    """

    task = "regression"

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        """Both arrays are float, shape (n,), n >= 0, and of magnitude up to 1e12."""
        error = y_pred - y_true
        return {
            "pairs": float(error.size),
            "error": float(error.sum()),
            "abs_error": float(np.abs(error).sum()),
            "squared_error": float(np.square(error).sum()),
        }

    def compute(self, sums: Sums) -> Iterable[Sample]:
        """Mean error (prediction - truth), mean absolute, mean squared and root mean squared error."""
        if (pairs := sums.get("pairs", 0.0)) > 0:
            # After corrections a real sum may be off by a rounding error, which must not become a negative error.
            squared = max(0.0, sums.get("squared_error", 0.0)) / pairs
            yield Sample("mean_error", {}, sums.get("error", 0.0) / pairs)
            yield Sample("mean_absolute_error", {}, max(0.0, sums.get("abs_error", 0.0)) / pairs)
            yield Sample("mean_squared_error", {}, squared)
            yield Sample("root_mean_squared_error", {}, math.sqrt(squared))
