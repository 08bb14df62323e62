"""Multiclass labels against labels: numbers, strings, or rows whose largest column is the class."""

from __future__ import annotations

from dataclasses import dataclass

from cm_models.confusion import Multiclass


@dataclass(frozen=True)
class MultiClassNumeric(Multiclass):
    """Accuracy, precision, recall and F1 of class labels; 2, 2.0, [2] and "2" are one class.

    Sums, formulas and what is undefined: `cm_models.confusion`. Oracle: sklearn.metrics.precision_recall_fscore_support.
    """
