"""The common half of the multiclass models: classes that are given a place as they come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from cm_models import classification, confusion
from cm_models.classification import readings
from cm_models.confusion import (
    COUNTED,
    MAX_EXPORTED_CELLS,
    Matrix,
    cells_of,
    counts_of,
    increments_of,
    occurring,
    outcomes,
)
from metrics_server.metrics import OTHER_CLASSES, Array, Cell, Cut, Families, Rate, Sample, SequentialEstimate, Sums

MAX_RATED_CLASSES = 10  # that groups are compared by


@dataclass(frozen=True)
class Multiclass:
    """Class labels against class labels.

    Args:
        classes: the classes of the series in the order they were first seen; None takes every label as it comes.
        max_exported_classes: per-class values are yielded for the first so many classes.
    """

    classes: tuple[str, ...] | None = None
    max_exported_classes: int = 100

    task = "multiclass"
    families: ClassVar[Families] = {**confusion.FAMILIES, **classification.FAMILIES}
    counted = COUNTED

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        """Both arrays hold class labels (str), shape (n,), n >= 0."""
        return increments_of(y_true.tolist(), y_pred.tolist(), self._known())

    def _known(self) -> frozenset[str] | None:
        return None if self.classes is None else frozenset(self.classes)

    def compute(self, sums: Sums) -> Iterable[Sample]:
        """See `cm_models.classification`. Nothing before the first pair."""
        matrix = Matrix.of(sums)
        yield from readings(matrix, self.exported(matrix.labels))

    def exported(self, occurring: Iterable[str]) -> Sequence[str]:
        """The classes with series of their own."""
        names = self.classes or sorted(occurring)
        return tuple(label for label in names if label != OTHER_CLASSES)[: self.max_exported_classes]

    def estimate(self, name: str, sums: Sums) -> SequentialEstimate | None:
        """The accuracy and the averages over classes; see `cm_models.classification`."""
        return classification.estimate(name, Matrix.of(sums))

    def rates(self, sums: Sums) -> Iterable[Rate]:
        """Accuracy; of the first ten classes selection, true and false positive rate, each against the rest."""
        matrix = Matrix.of(sums)
        return classification.rates(matrix, self.exported(matrix.labels)[:MAX_RATED_CLASSES])

    def cells(self, sums: Sums) -> Iterable[Cell]:
        """The cells of the matrix, without the empty ones."""
        return outcomes(Matrix.of(sums))

    def cuts(self, sums: Sums) -> Iterable[Cut]:
        """Nothing: labels have no scores."""
        return ()

    def counts(self, sums: Sums) -> Iterable[Sample]:
        """Right and wrong pairs, and the cells of the matrix; beyond 30 classes the first 30 and `__other__`."""
        return counts_of(sums, self.exported(occurring(cells_of(sums)))[:MAX_EXPORTED_CELLS])

    def ancestor_counts(self, sums: Sums) -> Iterable[Sample]:
        """The ancestor's counters per class. Its "true negative" of a class equals the true positive: dashboards divide
        by it.
        """
        matrix = Matrix.of(sums)
        for label, hits, support, predicted, _ in matrix.tallies(self.exported(matrix.labels)):
            labels = {"class": f"CLASS_{label}"}
            for name, value in (
                ("true_positive", hits),
                ("true_negative", hits),
                ("false_positive", predicted - hits),
                ("false_negative", support - hits),
            ):
                if value > 0:
                    yield Sample(f"seldon_metric_{name}", labels, value)
