"""Distributions of numbers as sums: how many fell into each bin of a logarithmic scale.

Sums:
    <name> / bin / i: numbers x with g^(i-1) < |x| <= g^i, for g = 1.05; i is written with the sign of x before it.
    <name> / zero: those nearer to 0 than 1e-12.

A number read from its bin is off by at most 2.5 % of itself (DDSketch: Masson, Rim, Lee 2019), and so is any quantile.

The mean and the deviation of all numbers, which other sums tell exactly, say more: of n numbers the k-th smallest is at
least `mean - deviation √((n - k) / k)` and at most `mean + deviation √((k - 1) / (n - k + 1))` (Cantelli 1929;
Wolkowicz and Styan 1979). Of numbers all alike, to a millionth, every quantile is therefore their mean. The largest and
the smallest are never on the wrong side of the mean. Where far larger numbers were taken back, sums of squares are
uncertain; numbers stay in their bins, and are off by at most 5 %.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate, count
from typing import NamedTuple

from metrics_server.metrics.confidence import Z95, Interval, holding
from metrics_server.metrics.sums import ROUNDING, Sums, component

GROWTH = 1.05
NEARLY_ZERO = 1e-12
MOST_ROWS = 200  # of a table

_SCALE = 1 / math.log(GROWTH)
# The ends of a bin by its middle, as much further apart as rounding may put a number that stands on one.
_INNER, _OUTER = (GROWTH + 1) / (2 * GROWTH) * (1 - ROUNDING), (GROWTH + 1) / 2 * (1 + ROUNDING)


def zero_of(name: str) -> str:
    """The component that counts zeros."""
    return component(name, "zero")


def prefix_of(name: str) -> str:
    """Tells how the names of the bins begin."""
    return component(name, "bin", "")


def bin_counts(name: str, values: Iterable[float]) -> dict[str, float]:
    r"""The sums of these numbers.

    >>> {name.replace("\x1f", " / "): count for name, count in bin_counts("error", [0.0, -1.5, 20.0, 20.1]).items()}
    {'error / zero': 1.0, 'error / bin / -9': 1.0, 'error / bin / +62': 2.0}
    """
    sums: dict[str, float] = {}
    zero, prefix = zero_of(name), prefix_of(name)
    for value in values:
        size = abs(value)
        bin_of = (
            zero if size < NEARLY_ZERO else f"{prefix}{'-' if value < 0 else '+'}{math.ceil(math.log(size) * _SCALE)}"
        )
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


def bin_rows(name: str, sums: Sums, least: float) -> list[tuple[float, float, float]]:
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
    inner, outer = max(NEARLY_ZERO, GROWTH ** (width * (index - 1))), GROWTH ** (width * index)
    return {-1: (-outer, -inner), 0: (-NEARLY_ZERO, NEARLY_ZERO), 1: (inner, outer)}[sign]


def _middle(index: int) -> float:
    """The point of a bin whose relative distance to both edges is the same."""
    return 2 * GROWTH**index / (GROWTH + 1)


class Moments(NamedTuple):
    """What other sums tell of the numbers of a histogram.

    Attributes:
        total: their sum.
        squares: the sum of their squares.
        lightest: what none of them weighs less than; 0 if that is not known.
    """

    total: float
    squares: float
    lightest: float = 1.0


class LogHistogram:
    """Numbers read from their bins and moments. There is at least one.

    >>> sums, values = bin_counts("x", [3.0, 4.0, 5.0]), Moments(total=12.0, squares=50.0)
    >>> histogram = LogHistogram.of("x", sums, values)
    >>> [round(histogram.quantile(share), 2) for share in (0.0, 0.5, 1.0)], histogram.mean
    ([3.0, 4.02, 4.88], 4.0)

    Attributes:
        mean: of the numbers, within their bins whatever rounding did to the sum.
    """

    def __init__(self, bins: list[tuple[float, float]], moments: Moments) -> None:
        """From (middle, how many numbers) of each bin."""
        bins.sort()
        self._middles = [middle for middle, _ in bins]
        self._counts = [count for _, count in bins]
        self._upto = list(accumulate(self._counts))
        self._lightest = moments.lightest
        self.mean = min(max(moments.total / self._upto[-1], self._edges(0)[0]), self._edges(-1)[1])
        self._deviation = self._deviation_of(moments)

    @classmethod
    def of(cls, name: str, sums: Sums, moments: Moments) -> LogHistogram | None:
        """The histogram of this name; None when it is empty."""
        bins = [(sign * _middle(index), number) for sign, index, number in _bins(name, sums) if number > 0]
        return cls(bins, moments) if bins else None

    @classmethod
    def of_magnitudes(cls, name: str, sums: Sums, least: float, moments: Moments) -> LogHistogram | None:
        """The same of the numbers without their signs. Bins of not more than `least` are the rounding of weights."""
        merged: dict[float, float] = {}
        for sign, index, number in _bins(name, sums):
            middle = abs(sign) * _middle(index)
            merged[middle] = merged.get(middle, 0.0) + number
        bins = [(middle, number) for middle, number in merged.items() if number > least]
        return cls(bins, moments) if bins else None

    def _edges(self, at: int) -> Interval:
        middle = self._middles[at]
        return (middle * _INNER, middle * _OUTER) if middle >= 0 else (middle * _OUTER, middle * _INNER)

    def _deviation_of(self, moments: Moments) -> float:
        """The standard deviation; infinite where the moments are not those of numbers in these bins."""
        sums = [count * middle for middle, count in zip(self._middles, self._counts, strict=True)]
        above = sum(each for each in sums if each > 0)
        below = sum(sums) - above
        squares = sum(each * middle for middle, each in zip(self._middles, sums, strict=True))
        slack = 1e-9 * (above - below)
        is_total = above * _INNER + below * _OUTER - slack <= moments.total <= above * _OUTER + below * _INNER + slack
        if not is_total or not squares * _INNER**2 * (1 - 1e-9) <= moments.squares <= squares * _OUTER**2 * (1 + 1e-9):
            return math.inf
        square = moments.squares / self._upto[-1]
        spread = square - self.mean * self.mean
        return math.sqrt(spread) if spread > ROUNDING * square else 0.0

    def quantile(self, share: float, effective_weight: float = 1.0) -> float:
        """The number below which this share of all lies, to 2.5 %; between two numbers as numpy.quantile has it.

        Weighted numbers are those of pairs of equal weight, which for weights below 1 is less than 1: see
        `metrics_server.metrics.confidence`.
        """
        unit = min(1.0, 1 / effective_weight)
        rank = max(0.0, share * (self._upto[-1] / unit - 1))
        whole = math.floor(rank)
        lower, upper = (self._number(unit * (whole + step)) for step in (1, 2))
        return min(upper, lower + (upper - lower) * (rank - whole))

    def _number(self, position: float) -> float:
        """The number at this position, counted from 1."""
        at = self._bin_at(position * (1 - ROUNDING))
        return self._narrowed(self._middles[at], at, position, self._upto[-1] - position + self._lightest)

    def _bin_at(self, position: float) -> int:
        return min(bisect_left(self._upto, position), len(self._upto) - 1)

    def _narrowed(self, number: float, at: int, upto: float, above: float) -> float:
        """The number of a bin that is nearest to this one, if so many are not larger than it and so many not
        smaller.
        """
        near = min(max(number, self.mean - self._reach(upto)), self.mean + self._reach(above))
        lower, upper = self._edges(at)
        return min(max(near, lower), upper)

    def _reach(self, beyond: float) -> float:
        """Tells how far from the mean a number is at most, if so many are as far from it on its side."""
        rest = self._upto[-1] - beyond
        if rest <= 0 or self._deviation == 0:
            return 0.0
        return self._deviation * math.sqrt(rest / beyond) if beyond > 0 else math.inf

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
        lower, upper = (self._point((share + side * spread) * count) for side in (-1, 1))
        return holding(self.quantile(share, effective_weight), (lower, upper))

    def _point(self, position: float) -> float:
        """The number at a position in the cumulated counts; within a bin in proportion."""
        at = self._bin_at(position)
        part = 1 - (self._upto[at] - position) / self._counts[at]
        lower, upper = self._edges(at)
        number = lower + (upper - lower) * min(1.0, max(0.0, part))
        return self._narrowed(number, at, position, self._upto[-1] - position)
