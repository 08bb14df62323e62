"""Statistics of numeric predictions, labelled or not: two pure functions, like those of a metric model.

Sums:
    output / rows: numeric predictions.
    output / sum: their sum.
    output / bin / i: predictions in the logarithmic bin i, and output / zero: those that are 0.

The mean is exact. Minimum, maximum and quantiles come from bins whose edges grow by 5 %, so a value read from them is off by
at most 2.5 % of itself (DDSketch: Masson, Rim, Lee 2019); values nearer to 0 than 1e-12 count as 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from metrics_server.model import Sample
from metrics_server.sums import Sums, component
from metrics_server.task import Value

GROWTH = 1.05
SMALLEST = 1e-12
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

ROWS = component("output", "rows")
SUM = component("output", "sum")
ZERO = component("output", "zero")
_BIN = component("output", "bin", "")
_SCALE = 1 / math.log(GROWTH)


def increments(values: Iterable[Value]) -> Sums:
    """Sums of the predictions among these that are numbers."""
    sums: dict[str, float] = {}
    for value in values:
        if isinstance(value, (int, float)):
            name = ZERO if abs(value) < SMALLEST else f"{_BIN}{'-' if value < 0 else '+'}{math.ceil(math.log(abs(value)) * _SCALE)}"
            sums[name] = sums.get(name, 0.0) + 1.0
            sums[ROWS] = sums.get(ROWS, 0.0) + 1.0
            sums[SUM] = sums.get(SUM, 0.0) + (value if name is not ZERO else 0.0)
    return sums


def _bins(sums: Sums) -> list[tuple[float, float]]:
    """(value, count) of each bin in use, by value."""
    bins = [(0.0, sums.get(ZERO, 0.0))]
    for name, count in sums.items():
        if name.startswith(_BIN):
            sign, index = name[len(_BIN)], int(name[len(_BIN) + 1 :])
            # The point of the bin (g^(i-1), g^i] whose relative distance to both edges is the same.
            middle = 2 * GROWTH**index / (GROWTH + 1)
            bins.append((-middle if sign == "-" else middle, count))
    return sorted(pair for pair in bins if pair[1] > 0)


def compute(sums: Sums) -> Iterable[Sample]:
    """Mean, minimum, maximum and quantiles; nothing before the first numeric prediction."""
    if (rows := sums.get(ROWS, 0.0)) <= 0 or not (bins := _bins(sums)):
        return
    yield Sample("output_mean", {}, sums.get(SUM, 0.0) / rows)
    yield Sample("output_min", {}, bins[0][0])
    yield Sample("output_max", {}, bins[-1][0])
    for quantile in QUANTILES:
        yield Sample("output_quantile", {"q": str(quantile)}, _quantile(bins, quantile * (rows - 1)))


def _quantile(bins: list[tuple[float, float]], rank: float) -> float:
    below = 0.0
    for value, count in bins:
        below += count
        if below > rank:
            return value
    return bins[-1][0]
