"""Means of bounded values, such as the error of one row: what several families share.

Sums, under a name:
    <name>: sum of the values.
    <name> / square: sum of their squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metrics_server.metrics import Sample, Sums, component, effective_weight, ratio_interval


def summed(name: str, values: Sequence[float]) -> dict[str, float]:
    r"""Returns the sums of these values.

    >>> summed("wrong", [0.5, 1.0])
    {'wrong': 1.5, 'wrong\x1fsquare': 1.25}
    """
    return {name: sum(values), component(name, "square"): sum([value * value for value in values])}


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
