"""Regression: numbers against numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from metrics_server.metrics.confidence import effective_weight, of_estimate, of_mean, of_skewed, quotient_variance
from metrics_server.metrics.log_histogram import SMALLEST, Distribution, binned, rows
from metrics_server.metrics.model import Array, Sample
from metrics_server.metrics.sums import ROUNDING, Sums

QUANTILES = (0.9, 0.95, 0.99)
NAME = "error"


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

    MAPE leaves out pairs whose truth is nearer to 0 than 1e-12, where scikit-learn divides by 2.2e-16; WAPE, Σ |e| / Σ
    |y_true|, has
    them. R² is undefined while all truths are equal. Oracle: sklearn.metrics.mean_absolute_error, mean_squared_error,
    root_mean_squared_error, mean_absolute_percentage_error, median_absolute_error, r2_score.

    Args:
        pivot: near the truths; that of a series is its first truth.
    """

    pivot: float = 0.0

    task = "regression"

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        """Both arrays are float, shape (n,), n >= 0, and of magnitude up to 1e12."""
        if not y_true.size:
            return {}
        signed, size, moved = y_pred - y_true, np.abs(y_true), y_true - self.pivot
        error = np.abs(signed)
        squared = np.square(error)
        relative = error[size >= SMALLEST] / size[size >= SMALLEST]
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
        return sums | binned(NAME, signed.tolist())

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
        squares = of_skewed(squared, sums.get("fourth_error", 0.0), sums.get("sixth_error", 0.0), pairs, share)
        bounds = of_skewed(absolute, squared, sums.get("cubed_error", 0.0), pairs, share)
        yield Sample("mean_absolute_error", {}, absolute / pairs, bounds, pairs)
        yield Sample("mean_error", {}, error / pairs, of_mean(error, squared, pairs, share), pairs)
        yield Sample("mean_squared_error", {}, squared / pairs, squares, pairs)
        roots = None if squares is None else (math.sqrt(squares[0]), math.sqrt(squares[1]))
        yield Sample("root_mean_squared_error", {}, math.sqrt(squared / pairs), roots, pairs)
        yield from _relative(sums, pairs, absolute, squared, share)
        if (explained := _r2(sums, pairs, squared)) is not None:
            yield Sample("r2", {}, explained, None, pairs)
        if (distribution := Distribution.of_magnitudes(NAME, sums, ROUNDING * pairs)) is not None:
            yield Sample(
                "median_absolute_error", {}, distribution.quantile(0.5, share), distribution.interval(0.5, share), pairs
            )
            for quantile in QUANTILES:
                bounds = distribution.interval(quantile, share)
                yield Sample(
                    "absolute_error_quantile",
                    {"q": str(quantile)},
                    distribution.quantile(quantile, share),
                    bounds,
                    pairs,
                )

    def tables(self, sums: Sums) -> dict[str, list[dict[str, str | float]]]:
        """Under "errors" how many pairs have an error from `lower` to `upper`, ascending; those nearer to 0 than 1e-12
        are one row.
        """
        found = rows(NAME, sums, ROUNDING * sums.get("pairs", 0.0))
        return (
            {"errors": [{"lower": lower, "upper": upper, "pairs": number} for lower, upper, number in found]}
            if found
            else {}
        )


def _relative(sums: Sums, pairs: float, absolute: float, squared: float, share: float) -> Iterator[Sample]:
    """MAPE, the mean of |e / y_true|, and WAPE, Σ |e| / Σ |y_true|."""
    if (nonzero := sums.get("nonzero", 0.0)) > ROUNDING * pairs:
        relative = max(0.0, sums.get("relative", 0.0))
        bounds = of_mean(relative, sums.get("relative_square", 0.0), nonzero, share, least=0.0)
        yield Sample("mean_absolute_percentage_error_ratio", {}, relative / nonzero, bounds, nonzero)
        size = sums.get("abs_truth", 0.0)
        products = squared, sums.get("abs_truth_error", 0.0), sums.get("abs_truth_square", 0.0)
        variance = quotient_variance(absolute, size, products, share)
        bounds = of_estimate(absolute / size, variance, pairs * share, least=0.0)
        yield Sample("weighted_absolute_percentage_error_ratio", {}, absolute / size, bounds, pairs)


def _r2(sums: Sums, pairs: float, squared: float) -> float | None:
    """1 - Σ e² / Σ (y_true - mean)²; undefined while the truths do not differ."""
    # Where counts tell that all truths are the pivot, a spread is what rounding has left of those that were taken back.
    if sums.get("moved", 0.0) <= ROUNDING * pairs:
        return None
    squares, total = sums.get("squared_truth", 0.0), sums.get("truth", 0.0)
    spread = squares - total * total / pairs
    return 1 - squared / spread if spread > ROUNDING * squares else None
