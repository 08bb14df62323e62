"""Multiclass rows: probabilities or one-hot rows, against one-hot rows or class indexes."""

from __future__ import annotations

from dataclasses import dataclass

from cm_models.confusion import Multiclass


@dataclass(frozen=True)
class MulticlassOneHot(Multiclass):
    """Accuracy, precision, recall and F1 of the most probable class: the first largest column of each row.

    Sums, formulas and what is undefined: `cm_models.confusion`. Oracle: sklearn.metrics.precision_recall_fscore_support
    on the argmax of both sides.
    """
