"""Value: what labelled predictions were worth, by what each kind of right and wrong one gains or costs.

Declared is a number for each cell of the confusion matrix (Elkan 2001, "The foundations of cost-sensitive learning").
With n pairs in a cell of value v the mean is Σ n v / Σ n. Its variance is that of the pairs about it over Σ n - 1, and
what one more pair of the least and one of the greatest value would add to it: the pairs that cost the most are the
rarest, and before the first of them has come nothing else tells of them.

The best threshold is that with the greatest mean, by the pairs that it is chosen on. With few of them some threshold
looks good by chance, so what it promises is on average more than it keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from metrics_server.metrics.confidence import Interval, effective_weight, estimate_interval
from metrics_server.metrics.model import GaugeSpec, Sample
from metrics_server.metrics.sequential.estimate import unseen_variance
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.task import label_of

# `_sum` and `_total` are suffixes that other types of metrics have (OpenMetrics 1.0, "Suffixes").
GAUGES: Mapping[str, GaugeSpec] = {
    "value_mean": GaugeSpec("Mean value of a labelled prediction, by the value_matrix.", has_interval=True, better=1),
    "value_net": GaugeSpec("Gains of all labelled predictions less their costs, by the value_matrix."),
    "best_threshold": GaugeSpec(
        "Threshold with the greatest mean value, of two classes with scores; of few pairs it is chosen by chance."
    ),
    "best_threshold_value": GaugeSpec(
        "Mean value at model_best_threshold, by the pairs that it was chosen on: of few pairs it flatters."
    ),
}


class Cell(NamedTuple):
    """Pairs of one truth and one prediction.

    Attributes:
        is_right: whether they are hits; in the cell of all classes beyond the limit some are, and some are not.
        pairs: how many, or the sum of their weights.
    """

    truth: str
    prediction: str
    is_right: bool
    pairs: float


class Cut(NamedTuple):
    """A threshold of scores, and the cells that deciding by it would give."""

    threshold: float
    cells: Sequence[Cell]


@runtime_checkable
class Valued(Protocol):
    """A metric model whose pairs can be given a value."""

    def cells(self, sums: Sums) -> Iterable[Cell]:
        """The cells of the confusion matrix of these pairs."""

    def cuts(self, sums: Sums) -> Iterable[Cut]:
        """The thresholds, ascending, that could decide between two classes; nothing without scores of both."""


class NoValue(Exception):
    """A pair is of a cell that no value was declared for."""


@dataclass(frozen=True)
class ValueMatrix:
    """What a pair is worth, in any unit: gains are positive, costs negative.

    >>> matrix = ValueMatrix({("ill", "well"): -500.0}, right=0.0, wrong=-20.0)
    >>> matrix.value_of(Cell("ill", "well", False, 1.0)), matrix.value_of(Cell("well", "ill", False, 1.0))
    (-500.0, -20.0)

    Attributes:
        values: by truth and prediction.
        right: of other pairs, those that are right; None if they have no value.
        wrong: of other pairs, those that are wrong.
    """

    values: Mapping[tuple[str, str], float]
    right: float | None = None
    wrong: float | None = None

    def labelled(self, class_names: Sequence[str], *, is_binary: bool) -> ValueMatrix:
        """The same by the labels that a series has: names in place of indexes, or of a binary one 0 and 1."""

        def label(key: str) -> str:
            found = label_of(key, class_names) or key
            return str(class_names.index(found)) if is_binary and found in class_names else found

        values = {(label(truth), label(prediction)): value for (truth, prediction), value in self.values.items()}
        return ValueMatrix(values, self.right, self.wrong)

    def value_of(self, cell: Cell) -> float:
        """The value of each pair of a cell; raises NoValue where none is declared."""
        value = self.values.get((cell.truth, cell.prediction), self.right if cell.is_right else self.wrong)
        if value is None:
            raise NoValue
        return value

    @property
    def classes(self) -> dict[str, None]:
        """The classes that it names, in their order."""
        return dict.fromkeys(label for cell in self.values for label in cell)

    @property
    def bounds(self) -> Interval:
        """The least value of a pair, and the greatest."""
        values = [*self.values.values(), *(each for each in (self.right, self.wrong) if each is not None)]
        return min(values), max(values)


def readings(matrix: ValueMatrix, model: Valued, sums: Sums) -> Iterator[Sample]:
    """Yields mean and net value of the pairs, and the best threshold with the mean there; nothing before the first
    pair.

    Raises:
        NoValue: there are pairs of a class that the matrix does not have.
    """
    cells = [cell for cell in model.cells(sums) if cell.pairs > 0]
    if not cells:
        return
    pairs = sum(cell.pairs for cell in cells)
    mean = _mean(matrix, cells)
    yield Sample("value_mean", {}, mean, _interval(matrix, cells, mean, effective_weight(sums, pairs)), pairs)
    yield Sample("value_net", {}, mean * pairs, None, pairs)
    if cuts := list(model.cuts(sums)):
        value, cut = max(((_mean(matrix, cut.cells), cut) for cut in cuts), key=lambda found: found[0])
        scored = sum(cell.pairs for cell in cut.cells)
        yield Sample("best_threshold", {}, cut.threshold, None, scored)
        yield Sample("best_threshold_value", {}, value, None, scored)


def _mean(matrix: ValueMatrix, cells: Iterable[Cell]) -> float:
    pairs = total = 0.0
    for cell in cells:
        pairs += cell.pairs
        total += cell.pairs * matrix.value_of(cell)
    return total / pairs


def _interval(matrix: ValueMatrix, cells: Sequence[Cell], mean: float, share: float) -> Interval | None:
    """Student's interval of the mean; None for fewer than four pairs."""
    pairs = sum(cell.pairs for cell in cells)
    spread = sum(cell.pairs * (matrix.value_of(cell) - mean) ** 2 for cell in cells) / pairs
    trials = pairs * share
    variance = spread / max(1.0, trials - 1) + unseen_variance(mean, trials, matrix.bounds)
    return estimate_interval(mean, variance, trials)
