"""Multiclass rows: probabilities or one-hot rows, against one-hot rows or class indexes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from cm_models import probability
from cm_models.classification import readings
from cm_models.confusion import Matrix, increments_of
from cm_models.multiclass import Multiclass
from metrics_server.metrics import Array, Cut, Families, Sample, SequentialEstimate, Sums


@dataclass(frozen=True)
class MulticlassOneHot(Multiclass):
    """Of the most probable class, the first largest column of each row, what `MultiClassNumeric` reads; and of the
    probabilities log loss, Brier score, calibration, top-k accuracy and areas under curves.

    Sums, formulas, units, sources and what is undefined: `cm_models.confusion`, `cm_models.classification`,
    `cm_models.probability`. Oracle: as `BinaryMetrics`, and sklearn.metrics.top_k_accuracy_score; on the argmax of both
    sides or on the rows.

    >>> import numpy as np
    >>> model = MulticlassOneHot(class_names=("cat", "dog", "owl"))
    >>> rows = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8]])
    >>> sums = model.increments(np.array(["cat", "dog", "owl"]), rows)
    >>> values = {sample.name: round(sample.value, 3) for sample in model.compute(sums)}
    >>> values["accuracy_ratio"], values["log_loss"], values["top_k_accuracy_ratio"]
    (0.667, 0.499, 1.0)

    Args:
        class_names: the classes of the columns; of those beyond them, their index.
    """

    class_names: tuple[str, ...] = ()

    task = "one_hot"
    families: ClassVar[Families] = {**Multiclass.families, **probability.ROW_FAMILIES}

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        """y_true holds class labels (str), shape (n,); y_pred rows of scores, float (n, k), or class labels too; n >=
        0.
        """
        truths = y_true.tolist()
        if y_pred.ndim < 2:
            return increments_of(truths, y_pred.tolist(), self._known())
        rows = y_pred.tolist()
        labels, columns = columns_of(y_pred.shape[1], self.class_names)
        sums = increments_of(truths, [labels[row.index(max(row))] for row in rows], self._known())
        return sums | probability.of_rows([columns.get(label, len(labels)) for label in truths], rows, labels)

    def compute(self, sums: Sums) -> Iterable[Sample]:
        """See the modules named above. Nothing before the first pair."""
        matrix = Matrix.of(sums)
        exported = self.exported(matrix.labels)
        yield from readings(matrix, exported)
        yield from probability.readings(sums, exported)

    def estimate(self, name: str, sums: Sums) -> SequentialEstimate | None:
        """As of `MultiClassNumeric`, and losses and areas of the probabilities; see the modules named above."""
        return probability.estimate(name, sums) if name in probability.FAMILIES else super().estimate(name, sums)

    def cuts(self, sums: Sums) -> Iterable[Cut]:
        """The thresholds of the second class of two."""
        return probability.cuts(sums, *columns_of(2, self.class_names)[0])

    def tables(self, sums: Sums) -> Mapping[str, list[dict[str, str | float]]]:
        """Reliability, discrimination and thresholds."""
        return probability.tables(sums, self.exported(Matrix.of(sums).labels))


@lru_cache(100)
def columns_of(width: int, class_names: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The classes of so many columns, and the column of each."""
    labels = tuple(class_names[column] if column < len(class_names) else str(column) for column in range(width))
    return labels, {label: column for column, label in enumerate(labels)}
