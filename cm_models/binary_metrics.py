"""Binary truth against a score of the positive class, or against a decision already made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from cm_models import classification, confusion, probability
from cm_models.classification import readings
from cm_models.confusion import COUNTED, Matrix, cells_of, counts_of, increments_of
from metrics_server.metrics import Array, Cell, Cut, Families, Rate, Sample, SequentialEstimate, Sums

NEGATIVE, POSITIVE = CLASSES = ("0", "1")


@dataclass(frozen=True)
class BinaryMetrics:
    """Readings of a binary decision, class "1" when the score reaches the threshold; and of the score as a probability.

    Values are shares from 0 to 1, correlations from -1 to 1 and, of the score, losses. Sums, formulas, sources and what
    is undefined: `cm_models.confusion`, `cm_models.classification`, `cm_models.probability`. Oracle: sklearn.metrics'
    accuracy_score, balanced_accuracy_score, precision_recall_fscore_support, matthews_corrcoef, cohen_kappa_score,
    log_loss, brier_score_loss, roc_auc_score, average_precision_score.

    >>> import numpy as np
    >>> model = BinaryMetrics(threshold=0.5)
    >>> sums = model.increments(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.2, 0.4, 0.1]))
    >>> values = {sample.name: round(sample.value, 3) for sample in model.compute(sums)}
    >>> values["accuracy_ratio"], values["log_loss"], values["brier_score"], values["roc_auc_macro_ratio"]
    (0.75, 0.338, 0.105, 1.0)

    Args:
        threshold: the lowest score in [0, 1] that counts as positive; a boolean or a class 0 or 1 is a score of 0 or 1.
    """

    threshold: float = 0.5

    task = "binary"
    families: ClassVar[Families] = {**confusion.FAMILIES, **classification.FAMILIES, **probability.FAMILIES}
    counted = COUNTED

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        """y_true is 0.0 or 1.0, y_pred a score in [0, 1]; both float, shape (n,), n >= 0."""
        truths, scores = y_true.tolist(), y_pred.tolist()
        decided = [POSITIVE if score >= self.threshold else NEGATIVE for score in scores]
        sums = increments_of([POSITIVE if truth else NEGATIVE for truth in truths], decided, None)
        return sums | probability.of_scores(truths, scores, POSITIVE)

    def compute(self, sums: Sums) -> Iterable[Sample]:
        """See the modules named above. Nothing before the first pair."""
        yield from readings(Matrix.of(sums), CLASSES)
        yield from probability.readings(sums, CLASSES)

    def tables(self, sums: Sums) -> Mapping[str, list[dict[str, str | float]]]:
        """Reliability, discrimination and thresholds."""
        return probability.tables(sums, CLASSES)

    def estimate(self, name: str, sums: Sums) -> SequentialEstimate | None:
        """The accuracy and the averages over classes, losses and area of the score; see the modules named above."""
        if name in classification.FAMILIES:
            return classification.estimate(name, Matrix.of(sums))
        return probability.estimate(name, sums)

    def rates(self, sums: Sums) -> Iterable[Rate]:
        """Accuracy; selection, true and false positive rate of class "1"."""
        return classification.rates(Matrix.of(sums), (POSITIVE,))

    def cells(self, sums: Sums) -> Iterable[Cell]:
        """The four cells of the matrix, without the empty ones."""
        return confusion.outcomes(Matrix.of(sums))

    def cuts(self, sums: Sums) -> Iterable[Cut]:
        """The thresholds of class "1"."""
        return probability.cuts(sums, *CLASSES)

    def counts(self, sums: Sums) -> Iterable[Sample]:
        """Right and wrong pairs, and the four cells of the matrix without the empty ones."""
        return counts_of(sums, CLASSES)

    def ancestor_counts(self, sums: Sums) -> Iterable[Sample]:
        """The ancestor's four counters, without a class label."""
        cells = cells_of(sums)
        for name, cell in (
            ("true_positive", (POSITIVE, POSITIVE)),
            ("true_negative", (NEGATIVE, NEGATIVE)),
            ("false_positive", (NEGATIVE, POSITIVE)),
            ("false_negative", (POSITIVE, NEGATIVE)),
        ):
            if count := cells.get(cell):
                yield Sample(f"seldon_metric_{name}", {}, count)
