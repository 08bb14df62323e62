"""Multiclass labels against labels: numbers, strings, or rows whose largest column is the class."""

from __future__ import annotations

from dataclasses import dataclass

from cm_models.multiclass import Multiclass


@dataclass(frozen=True)
class MultiClassNumeric(Multiclass):
    """Accuracy, precision, recall, F1 and coefficients of class labels; 2, 2.0, [2] and "2" are one class.

    Sums: `cm_models.confusion`. Formulas, intervals and what is undefined: `cm_models.classification`. Oracle:
    sklearn.metrics' functions of the same names.
    """
