"""A confusion matrix as sums: how labelled predictions become one, and what can be counted in it.

Sums:
    pairs: labelled predictions, n.
    correct: those whose two labels are equal. A sum of its own: two different classes that both overflowed into
        `__other__` are never a hit.
    confusion / truth / prediction: pairs with this truth and this prediction.

Its readings as ratios are in `cm_models.classification`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from metrics_server.metrics import (
    OTHER_CLASSES,
    ROUNDING,
    SEPARATOR,
    Array,
    Cell,
    CounterSpec,
    Families,
    Sample,
    Sums,
    component,
    effective_weight,
)

MAX_EXPORTED_CELLS = 30  # classes up to which the matrix itself is exported
COUNTED = ("confusion", "correct")  # the components that counters are read from

FAMILIES: Families = {
    "confusion": CounterSpec(
        "Labelled predictions by true and predicted class, each time applied.",
        "Labelled predictions that a correction took back, by true and predicted class.",
        ("truth", "prediction"),
    ),
    "decisions": CounterSpec(
        "Labelled predictions by whether they are right, each time applied; of any number of classes.",
        "Labelled predictions that were taken back, by whether they were right.",
        ("correct",),
    ),
}

_PREFIX = component("confusion", "")


def increments_of(y_true: Iterable[str], y_pred: Iterable[str], known: Collection[str] | None) -> dict[str, float]:
    """Returns the sums of labelled predictions.

    Args:
        y_true: the labels, n of them, n >= 0.
        y_pred: as many.
        known: the classes with cells of their own, every other label goes to `__other__`; None takes all labels.
    """
    cells = Counter(zip(y_true, y_pred, strict=True))
    if not cells:
        return {}
    sums = {"pairs": float(cells.total())}
    if correct := sum(count for (truth, prediction), count in cells.items() if truth == prediction):
        sums["correct"] = float(correct)
    for cell, count in cells.items():
        name = component("confusion", *(label if known is None or label in known else OTHER_CLASSES for label in cell))
        sums[name] = sums.get(name, 0.0) + count
    return sums


def cells_of(sums: Sums) -> dict[tuple[str, str], float]:
    """Returns the cells of the matrix, (truth, prediction) -> pairs, without those that are empty but for rounding."""
    least = sums.get("pairs", 0.0) * ROUNDING
    cells = zip(map(_cell_of, sums), sums.values(), strict=True)
    return {cell: count for cell, count in cells if cell is not None and count > least}


def occurring(cells: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Returns the classes of these cells, in the order in which they come."""
    return tuple(dict.fromkeys(label for cell in cells for label in cell))


@lru_cache(65536)
def _cell_of(name: str) -> tuple[str, str] | None:
    """The cell that a component is; None for any other component."""
    if not name.startswith(_PREFIX):
        return None
    truth, prediction = name[len(_PREFIX) :].split(SEPARATOR)
    return truth, prediction


class Tally(NamedTuple):
    """Pairs of a class, or of several together.

    Attributes:
        hits: those that are right.
        support: those that truly are of it.
        predicted: those predicted as it.
        within: those that are both; of several classes more than the hits.
    """

    label: str
    hits: float
    support: float
    predicted: float
    within: float


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix with its margins. Classes have a place each, in the order of `labels`.

    Attributes:
        labels: the classes that occur.
        pairs: n, and `correct` of them right.
        hits: by class, pairs that are it and were predicted as it; of `__other__` those whose own labels were equal.
        support: by class, pairs that truly are it.
        predicted: by class, pairs predicted as it.
        cells: (truth, prediction, whether that is a hit, pairs), four arrays of equal length.
        effective_weight: see `metrics_server.metrics.confidence`.
    """

    labels: tuple[str, ...]
    pairs: float
    correct: float
    hits: Array
    support: Array
    predicted: Array
    cells: tuple[Array, Array, Array, Array]
    effective_weight: float

    @classmethod
    def of(cls, sums: Sums) -> Matrix:
        """Makes the matrix of all cells in sums, in the order of their classes there."""
        pairs = sums.get("pairs", 0.0)
        # After weighted corrections a rounding error is left.
        correct = min(max(0.0, sums.get("correct", 0.0)), pairs or math.inf)
        found = cells_of(sums)
        labels = occurring(found)
        truth, prediction, hit, count = cells = _cell_arrays(found, labels, correct)
        hits, support, predicted = (
            np.bincount(at, weights=each, minlength=len(labels))
            for at, each in ((truth, hit * count), (truth, count), (prediction, count))
        )
        return cls(labels, pairs, correct, hits, support, predicted, cells, effective_weight(sums, pairs))

    @cached_property
    def has_merged_errors(self) -> bool:
        """Whether different classes were taken for each other within `__other__`: how often by chance is not known."""
        truth, prediction, hit, count = self.cells
        return bool(((truth == prediction) & (hit == 0) & (count > 0)).any())

    def tallies(self, exported: Sequence[str]) -> Iterator[Tally]:
        """Yields the tally of each exported class that occurs, then of all other classes together, as `__other__`."""
        wanted = set(exported)
        others = [row for row, label in enumerate(self.labels) if label not in wanted]
        columns = self.hits.tolist(), self.support.tolist(), self.predicted.tolist()
        for label, hits, support, predicted in zip(self.labels, *columns, strict=True):
            if label in wanted:
                yield Tally(label, hits, support, predicted, hits)
        if others:
            truth, prediction, _, count = self.cells
            among = np.isin(truth, others) & np.isin(prediction, others)
            hits, support, predicted = (float(each[others].sum()) for each in (self.hits, self.support, self.predicted))
            yield Tally(OTHER_CLASSES, hits, support, predicted, float(count @ among))


def outcomes(matrix: Matrix) -> Iterator[Cell]:
    """Yields the cells of a matrix by their labels; that of `__other__` as two, of hits and of others."""
    columns = (column.tolist() for column in matrix.cells)
    for truth, prediction, hit, count in zip(*columns, strict=True):
        yield Cell(matrix.labels[truth], matrix.labels[prediction], hit > 0, count)


def _cell_arrays(
    found: Mapping[tuple[str, str], float], labels: Sequence[str], correct: float
) -> tuple[Array, Array, Array, Array]:
    """Returns the places of truth and prediction of each cell, whether it is a hit, and its pairs.

    Of the pairs within `__other__` only some are hits, those that no other cell has: these are two cells.
    """
    places = {label: place for place, label in enumerate(labels)}
    rows = [
        (places[truth], places[prediction], truth == prediction, count) for (truth, prediction), count in found.items()
    ]
    if (other := found.get((OTHER_CLASSES, OTHER_CLASSES))) is not None:
        place = places[OTHER_CLASSES]
        rows.remove((place, place, True, other))
        hits = correct - sum(row[3] for row in rows if row[2])
        rows += [(place, place, True, hits), (place, place, False, other - hits)]
    truths, predictions, hit, counts = zip(*rows, strict=True) if rows else ((),) * 4
    return np.array(truths, int), np.array(predictions, int), np.array(hit, float), np.array(counts, float)


def counts_of(sums: Sums, exported: Sequence[str]) -> Iterator[Sample]:
    """Yields the right and the wrong pairs, and the cells of the matrix; those of classes that are not exported are
    cells of `__other__`.
    """
    cells = cells_of(sums)
    correct = sums.get("correct", 0.0)
    yield Sample("decisions", {"correct": "true"}, correct)
    yield Sample("decisions", {"correct": "false"}, sum(cells.values()) - correct)
    shown = frozenset(exported)
    merged: dict[tuple[str, str], float] = {}
    for cell, count in cells.items():
        truth, prediction = (label if label in shown else OTHER_CLASSES for label in cell)
        merged[truth, prediction] = merged.get((truth, prediction), 0.0) + count
    for (truth, prediction), count in merged.items():
        yield Sample("confusion", {"truth": truth, "prediction": prediction}, count)
