"""Regression: numbers against numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from metrics_server.metrics import (
    NEARLY_ZERO,
    ROUNDING,
    Array,
    Families,
    GaugeSpec,
    LogHistogram,
    Moments,
    Sample,
    SequentialEstimate,
    Sums,
    bin_counts,
    bin_rows,
    effective_weight,
    estimate_interval,
    mean_estimate,
    mean_interval,
    quotient_variance,
    skewed_mean_interval,
)

QUANTILES = (0.9, 0.95, 0.99)
NAME = "error"
FAMILIES: Families = {
    "mean_error": GaugeSpec("Mean of prediction - truth, in the unit of the target.", has_interval=True),
    "mean_absolute_error": GaugeSpec(
        "Mean of |prediction - truth|, in the unit of the target.", has_interval=True, better=-1
    ),
    "mean_squared_error": GaugeSpec(
        "Mean of (prediction - truth)², in the unit of the target squared.", has_interval=True, better=-1
    ),
    "root_mean_squared_error": GaugeSpec(
        "Root of the mean squared error, in the unit of the target.", has_interval=True, better=-1
    ),
    "mean_absolute_percentage_error_ratio": GaugeSpec(
        "Mean of |prediction - truth| / |truth|, of pairs whose truth is not 0.", has_interval=True, better=-1
    ),
    "weighted_absolute_percentage_error_ratio": GaugeSpec(
        "Sum of |prediction - truth| by the sum of |truth|.", has_interval=True, better=-1
    ),
    "r2": GaugeSpec("1 - mean squared error / variance of the truths.", better=1),
    "median_absolute_error": GaugeSpec(
        "Median of |prediction - truth|, in the unit of the target, to 2.5 %.", has_interval=True, better=-1
    ),
    "absolute_error_quantile": GaugeSpec(
        "Quantile of |prediction - truth|, in the unit of the target, to 2.5 %.", ("q",), has_interval=True, better=-1
    ),
}

# The sums that are Σx and Σx² of a mean.
_MEANS = {
    "mean_absolute_error": ("abs_error", "squared_error"),
    "mean_error": ("error", "squared_error"),
    "mean_squared_error": ("squared_error", "fourth_error"),
}


@dataclass(frozen=True)
class Regression:
    """Errors of a numeric prediction, in the unit of the target (its square for the mean squared error).

    Sums, with e = y_pred - y_true:
        pairs: labelled predictions, n.
        error, abs_error, squared_error, cubed_error, fourth_error, sixth_error: sums of e, |e|, e², |e|³, e⁴ and e⁶.
        truth, squared_truth: sums of y_true - c and its square about the pivot c; moved: pairs whose truth is not c.
        abs_truth: sum of |y_true|; abs_truth_square, abs_truth_error: of its square, and of |y_true| |e|.
        nonzero: pairs whose truth is not 0; relative, relative_square: their sums of |e / y_true| and of its square.
        error / bin / i, error / zero: e on a logarithmic scale, see `metrics_server.metrics.log_histogram`.

    Of truths near 1e8 that differ by 1, Σ y² - (Σ y)² / n loses every digit; about a pivot near them none is lost.

    Mean error Σ e / n, mean absolute error Σ |e| / n, mean squared error Σ e² / n and its root; R² is 1 - Σ e² / Σ
    (y_true - mean)². Nothing is defined before the first pair.

    MAPE, the mean of |e / y_true|, leaves out pairs whose truth is nearer to 0 than 1e-12, where scikit-learn divides
    by 2.2e-16; WAPE, Σ |e| / Σ |y_true|, has
    them. R² is undefined while all truths are equal. Oracle: sklearn.metrics.mean_absolute_error, mean_squared_error,
    root_mean_squared_error, mean_absolute_percentage_error, median_absolute_error, r2_score.

    >>> model = Regression(pivot=10.0)
    >>> sums = model.increments(np.array([10.0, 20.0, 40.0]), np.array([11.0, 18.0, 44.0]))
    >>> values = {sample.name: round(sample.value, 3) for sample in model.compute(sums)}
    >>> values["mean_absolute_error"], values["mean_error"], values["root_mean_squared_error"], values["r2"]
    (2.333, 1.0, 2.646, 0.955)

    Args:
        pivot: near the truths; that of a series is its first truth.
    """

    pivot: float = 0.0

    task = "regression"
    families = FAMILIES

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        """Both arrays are float, shape (n,), n >= 0, and of magnitude up to 1e12."""
        if not y_true.size:
            return {}
        signed, size, moved = y_pred - y_true, np.abs(y_true), y_true - self.pivot
        error = np.abs(signed)
        squared = np.square(error)
        relative = error[size >= NEARLY_ZERO] / size[size >= NEARLY_ZERO]
        sums = {
            "pairs": float(error.size),
            "error": float(signed.sum()),
            "abs_error": float(error.sum()),
            "squared_error": float(squared.sum()),
            "cubed_error": float(squared @ error),
            "fourth_error": float(squared @ squared),
            "sixth_error": float((squared * squared) @ squared),
            "moved": float(np.count_nonzero(moved)),
            "truth": float(moved.sum()),
            "squared_truth": float(moved @ moved),
            "abs_truth": float(size.sum()),
            "abs_truth_square": float(size @ size),
            "abs_truth_error": float(size @ error),
            "nonzero": float(relative.size),
            "relative": float(relative.sum()),
            "relative_square": float(relative @ relative),
        }
        return sums | bin_counts(NAME, signed.tolist())

    def compute(self, sums: Sums) -> Iterable[Sample]:
        """Mean absolute error first, then the others. Nothing before the first pair."""
        pairs = sums.get("pairs", 0.0)
        if pairs <= 0:
            return
        share = effective_weight(sums, pairs)
        # After corrections a real sum may be off by a rounding error, which must not become a negative error.
        squared = max(0.0, sums.get("squared_error", 0.0))
        absolute = max(0.0, sums.get("abs_error", 0.0))
        error = sums.get("error", 0.0)
        squares = skewed_mean_interval(
            squared, sums.get("fourth_error", 0.0), sums.get("sixth_error", 0.0), pairs, share
        )
        bounds = skewed_mean_interval(absolute, squared, sums.get("cubed_error", 0.0), pairs, share)
        yield Sample("mean_absolute_error", {}, absolute / pairs, bounds, pairs)
        yield Sample("mean_error", {}, error / pairs, mean_interval(error, squared, pairs, share), pairs)
        yield Sample("mean_squared_error", {}, squared / pairs, squares, pairs)
        roots = None if squares is None else (math.sqrt(squares[0]), math.sqrt(squares[1]))
        yield Sample("root_mean_squared_error", {}, math.sqrt(squared / pairs), roots, pairs)
        yield from _relative(sums, pairs, absolute, squared, share)
        if (explained := _r2(sums, pairs, squared)) is not None:
            yield Sample("r2", {}, explained, None, pairs)
        moments = Moments(absolute, squared, lightest=1.0 if share == 1 else 0.0)
        if (histogram := LogHistogram.of_magnitudes(NAME, sums, ROUNDING * pairs, moments)) is not None:
            yield from _quantiles(histogram, pairs, share)

    def estimate(self, name: str, sums: Sums) -> SequentialEstimate | None:
        """The mean absolute, squared and signed error, as means; the other values are not sequential."""
        pairs = sums.get("pairs", 0.0)
        if name not in _MEANS or pairs <= 0:
            return None
        total, squares = (sums.get(part, 0.0) for part in _MEANS[name])
        return mean_estimate(total, squares, pairs, effective_weight(sums, pairs))

    def tables(self, sums: Sums) -> dict[str, list[dict[str, str | float]]]:
        """Under "errors" how many pairs have an error from `lower` to `upper`, ascending; those nearer to 0 than 1e-12
        are one row.
        """
        found = bin_rows(NAME, sums, ROUNDING * sums.get("pairs", 0.0))
        return (
            {"errors": [{"lower": lower, "upper": upper, "pairs": number} for lower, upper, number in found]}
            if found
            else {}
        )


def _quantiles(errors: LogHistogram, pairs: float, share: float) -> Iterator[Sample]:
    """The median of |e|, and the quantiles above it."""
    named = ("median_absolute_error", {}, 0.5), *(("absolute_error_quantile", {"q": str(q)}, q) for q in QUANTILES)
    for name, labels, q in named:
        yield Sample(name, labels, errors.quantile(q, share), errors.interval(q, share), pairs)


def _relative(sums: Sums, pairs: float, absolute: float, squared: float, share: float) -> Iterator[Sample]:
    """MAPE, the mean of |e / y_true|, and WAPE, Σ |e| / Σ |y_true|."""
    if (nonzero := sums.get("nonzero", 0.0)) > ROUNDING * pairs:
        relative = max(0.0, sums.get("relative", 0.0))
        bounds = mean_interval(relative, sums.get("relative_square", 0.0), nonzero, share, least=0.0)
        yield Sample("mean_absolute_percentage_error_ratio", {}, relative / nonzero, bounds, nonzero)
    # Of small truths nothing is left in the sum once far larger ones were taken back.
    if nonzero > ROUNDING * pairs and (size := sums.get("abs_truth", 0.0)) > 0:
        products = squared, sums.get("abs_truth_error", 0.0), sums.get("abs_truth_square", 0.0)
        variance = quotient_variance(absolute, size, products, share)
        bounds = estimate_interval(absolute / size, variance, pairs * share, least=0.0)
        yield Sample("weighted_absolute_percentage_error_ratio", {}, absolute / size, bounds, pairs)


def _r2(sums: Sums, pairs: float, squared: float) -> float | None:
    """1 - Σ e² / Σ (y_true - mean)²; undefined while the truths do not differ."""
    # Where counts tell that all truths are the pivot, a spread is what rounding has left of those that were taken back.
    if sums.get("moved", 0.0) <= ROUNDING * pairs:
        return None
    squares, total = sums.get("squared_truth", 0.0), sums.get("truth", 0.0)
    spread = squares - total * total / pairs
    return 1 - squared / spread if spread > ROUNDING * squares else None
