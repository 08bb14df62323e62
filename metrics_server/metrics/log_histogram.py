"""Distributions of numbers as sums: how many fell into each bin of a logarithmic scale.

Sums:
    <name> / bin / i: numbers x with g^(i-1) < |x| <= g^i, for g = 1.05; i is written with the sign of x before it.
    <name> / zero: those nearer to 0 than 1e-12.

A number read from its bin is off by at most 2.5 % of itself (DDSketch: Masson, Rim, Lee 2019), and so is any quantile.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate, count

from metrics_server.metrics.confidence import Z95, Interval
from metrics_server.metrics.sums import ROUNDING, Sums, component

GROWTH = 1.05
SMALLEST = 1e-12
MOST_ROWS = 200  # of a table

_SCALE = 1 / math.log(GROWTH)


def zero_of(name: str) -> str:
    """The component that counts zeros."""
    return component(name, "zero")


def prefix_of(name: str) -> str:
    """How the names of the bins begin."""
    return component(name, "bin", "")


def binned(name: str, values: Iterable[float]) -> dict[str, float]:
    """The sums of these numbers."""
    sums: dict[str, float] = {}
    zero, prefix = zero_of(name), prefix_of(name)
    for value in values:
        size = abs(value)
        bin_of = zero if size < SMALLEST else f"{prefix}{'-' if value < 0 else '+'}{math.ceil(math.log(size) * _SCALE)}"
        sums[bin_of] = sums.get(bin_of, 0.0) + 1.0
    return sums


def _bins(name: str, sums: Sums) -> Iterator[tuple[int, int, float]]:
    """(sign, index, how many numbers) of each bin; of zero the sign and the index are 0."""
    zero, prefix = zero_of(name), prefix_of(name)
    if zero in sums:
        yield 0, 0, sums[zero]
    for part, number in sums.items():
        if part.startswith(prefix):
            yield -1 if part[len(prefix)] == "-" else 1, int(part[len(prefix) + 1 :]), number


def rows(name: str, sums: Sums, least: float) -> list[tuple[float, float, float]]:
    """(lower, upper, how many numbers) of all bins that hold more than `least`, ascending.

    Neighbours of one sign are put together, as many everywhere on the scale, until there are at most 200.
    """
    bins = [found for found in _bins(name, sums) if found[2] > least]
    for width in count(1):
        merged: dict[tuple[int, int], float] = {}
        for sign, index, number in bins:
            place = sign, sign * -(-index // width)
            merged[place] = merged.get(place, 0.0) + number
        if len(merged) <= MOST_ROWS:
            break
    return [(*_edges(sign, sign * place, width), number) for (sign, place), number in sorted(merged.items())]


def _edges(sign: int, index: int, width: int) -> Interval:
    """The ends of the index-th of the bins that are so many fine ones wide."""
    inner, outer = max(SMALLEST, GROWTH ** (width * (index - 1))), GROWTH ** (width * index)
    return {-1: (-outer, -inner), 0: (-SMALLEST, SMALLEST), 1: (inner, outer)}[sign]


def _middle(index: int) -> float:
    """The point of a bin whose relative distance to both edges is the same."""
    return 2 * GROWTH**index / (GROWTH + 1)


class Distribution:
    """A distribution read from its bins. It has at least one number."""

    def __init__(self, bins: list[tuple[float, float]]) -> None:
        bins.sort()
        self._values = [value for value, _ in bins]
        self._counts = [count for _, count in bins]
        self._upto = list(accumulate(self._counts))

    @classmethod
    def of(cls, name: str, sums: Sums) -> Distribution | None:
        """The distribution of this name; None when it is empty."""
        bins = [(sign * _middle(index), number) for sign, index, number in _bins(name, sums) if number > 0]
        return cls(bins) if bins else None

    @classmethod
    def of_magnitudes(cls, name: str, sums: Sums, least: float) -> Distribution | None:
        """The same of the numbers without their signs. Bins of not more than `least` are the rounding of weights."""
        merged: dict[float, float] = {}
        for sign, index, number in _bins(name, sums):
            middle = abs(sign) * _middle(index)
            merged[middle] = merged.get(middle, 0.0) + number
        bins = [(middle, number) for middle, number in merged.items() if number > least]
        return cls(bins) if bins else None

    @property
    def least(self) -> float:
        """The smallest number, to 2.5 %."""
        return self._values[0]

    @property
    def greatest(self) -> float:
        """The largest number, to 2.5 %."""
        return self._values[-1]

    def quantile(self, share: float, effective_weight: float = 1.0) -> float:
        """The number below which this share of all lies, to 2.5 %; between two numbers as numpy.quantile has it.

        Weighted numbers are those of pairs of equal weight, which for weights below 1 is less than 1: see
        `metrics_server.metrics.confidence`.
        """
        unit = min(1.0, 1 / effective_weight)
        rank = max(0.0, share * (self._upto[-1] / unit - 1))
        whole = math.floor(rank)
        below, above = (self._at(unit * (whole + step) * (1 - ROUNDING)) for step in (1, 2))
        return below + (above - below) * (rank - whole)

    def _at(self, position: float) -> float:
        """The number at this position, counted from 1."""
        return self._values[min(bisect_left(self._upto, position), len(self._values) - 1)]

    def interval(self, share: float, effective_weight: float) -> Interval | None:
        """The 95 % interval of a quantile, by the order statistics within which a binomial count stays; exact to the
        bins.

        None while the quantile may well lie beyond all the numbers: below 35 of them for the 0.9 quantile, 73 for 0.95,
        381 for 0.99.

        Args:
            share: which quantile.
            effective_weight: see `metrics_server.metrics.confidence`.
        """
        count = self._upto[-1]
        spread = Z95 * math.sqrt(share * (1 - share) / (count * effective_weight))
        if spread >= min(share, 1 - share):
            return None
        return self._point((share - spread) * count), self._point((share + spread) * count)

    def _point(self, position: float) -> float:
        """The number at a position in the cumulated counts; within a bin in proportion."""
        index = min(bisect_left(self._upto, position), len(self._upto) - 1)
        middle, count = self._values[index], self._counts[index]
        part = 1 - (self._upto[index] - position) / count
        edges = middle * (GROWTH + 1) / (2 * GROWTH), middle * (GROWTH + 1) / 2
        lower, upper = min(edges), max(edges)
        return lower + (upper - lower) * min(1.0, max(0.0, part))
