"""Means of bounded values, such as the error of one row: what several families share.

Sums, under a name:
    <name>: sum of the values.
    <name> / square: sum of their squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metrics_server.metrics import (
    SEPARATOR,
    Sample,
    SequentialEstimate,
    Sums,
    component,
    effective_weight,
    mean_estimate,
    ratio_interval,
)


def summed(name: str, values: Sequence[float]) -> dict[str, float]:
    r"""Returns the sums of these values.

    >>> summed("wrong", [0.5, 1.0])
    {'wrong': 1.5, 'wrong\x1fsquare': 1.25}
    """
    return {name: sum(values), f"{name}{SEPARATOR}square": sum([value * value for value in values])}


def mean_of(
    name: str, labels: Mapping[str, str], kept: str, sums: Sums, count: float, *, greatest: float = 1.0
) -> Sample:
    """Returns the mean of values from 0 to `greatest`, in their unit.

    Its interval is the score interval of a proportion with this variance: Student's would be a point while all values
    are equal, and holds a rare error in far fewer than 95 % of small samples.

    Args:
        name: of the sample.
        labels: of the sample.
        kept: under which name the sums are.
        sums: of the pairs.
        count: of how many pairs there is a value, or the sum of their weights; above 0.
        greatest: what no value is above.
    """
    trials = count * effective_weight(sums, sums.get("pairs", count))
    mean = min(1.0, max(0.0, sums.get(kept, 0.0) / count / greatest))
    squares = sums.get(component(kept, "square"), 0.0) / count / greatest / greatest
    variance = max(0.0, squares - mean * mean) / max(1.0, trials - 1)
    lower, upper = ratio_interval(mean, variance, trials)
    return Sample(name, labels, mean * greatest, (lower * greatest, upper * greatest), count)


def estimate_of(kept: str, sums: Sums, count: float, *, greatest: float = 1.0) -> SequentialEstimate | None:
    """Returns the same mean as one may look at it again and again; None of fewer than two values. Arguments as there,
    but for a count that may be 0.
    """
    total, squares = sums.get(kept, 0.0), sums.get(component(kept, "square"), 0.0)
    share = effective_weight(sums, sums.get("pairs", count))
    return mean_estimate(min(count * greatest, max(0.0, total)), squares, count, share, (0.0, greatest))
