"""Multiclass labels against labels: numbers, strings, or rows whose largest column is the class."""

from __future__ import annotations

from dataclasses import dataclass

from cm_models.multiclass import Multiclass


@dataclass(frozen=True)
class MultiClassNumeric(Multiclass):
    """Accuracy, precision, recall, F1 and coefficients of class labels; 2, 2.0, [2] and "2" are one class.

    Values are shares from 0 to 1, and coefficients from -1 to 1. Sums: `cm_models.confusion`. Formulas, sources,
    intervals and what is undefined: `cm_models.classification`. Oracle: sklearn.metrics' accuracy_score,
    balanced_accuracy_score, precision_recall_fscore_support, matthews_corrcoef, cohen_kappa_score.

    >>> import numpy as np
    >>> model = MultiClassNumeric(classes=("cat", "dog"))
    >>> sums = model.increments(np.array(["cat", "dog", "dog", "cat"]), np.array(["cat", "dog", "cat", "cat"]))
    >>> values = {sample.name: round(sample.value, 3) for sample in model.compute(sums)}
    >>> values["accuracy_ratio"], values["f1_macro_ratio"], values["cohen_kappa"]
    (0.75, 0.733, 0.5)
    """
