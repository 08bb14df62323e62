"""Binary truth against a score of the positive class, or against a decision already made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cm_models.confusion import Matrix, averages, cells_of, headline, increments_of, per_class
from metrics_server.model import Array, Sample
from metrics_server.sums import Sums

NEGATIVE, POSITIVE = "0", "1"


@dataclass(frozen=True)
class BinaryMetrics:
    """Accuracy, precision, recall and F1 of a binary decision: class "1" when the score reaches the threshold.

    Sums, formulas and what is undefined: `cm_models.confusion`. Oracle: sklearn.metrics.precision_recall_fscore_support.

    Args:
        threshold: the lowest score in [0, 1] that counts as positive; a boolean or a class 0 or 1 is a score of 0 or 1.
    """

    threshold: float = 0.5

    task = "binary"

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        """y_true is 0.0 or 1.0, y_pred a score in [0, 1]; both float, shape (n,), n >= 0."""
        truths = [POSITIVE if truth else NEGATIVE for truth in y_true.tolist()]
        predictions = [POSITIVE if score >= self.threshold else NEGATIVE for score in y_pred.tolist()]
        return increments_of(truths, predictions, None)

    def compute(self, sums: Sums) -> Iterable[Sample]:
        """Accuracy with interval; precision, recall and F1 per class, macro and weighted. Nothing before the first pair."""
        matrix = Matrix.of(sums)
        yield from headline(matrix)
        yield from per_class(matrix, (NEGATIVE, POSITIVE))
        yield from averages(matrix)

    def counts(self, sums: Sums) -> Iterable[Sample]:
        """The four cells of the matrix, without the empty ones."""
        for (truth, prediction), count in cells_of(sums).items():
            yield Sample("confusion", {"truth": truth, "prediction": prediction}, count)

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
