"""Binary truth against a score of the positive class, or against a decision already made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cm_models import probability
from cm_models.classification import readings
from cm_models.confusion import COUNTED, Matrix, cell_counts, cells_of, increments_of
from metrics_server.metrics.model import Array, Sample
from metrics_server.metrics.sums import Sums

NEGATIVE, POSITIVE = CLASSES = ("0", "1")


@dataclass(frozen=True)
class BinaryMetrics:
    """Readings of a binary decision, class "1" when the score reaches the threshold; and of the score as a probability.

    Sums, formulas and what is undefined: `cm_models.confusion`, `cm_models.classification`, `cm_models.probability`.
    Oracle: sklearn.metrics' functions of the same names.

    Args:
        threshold: the lowest score in [0, 1] that counts as positive; a boolean or a class 0 or 1 is a score of 0 or 1.
    """

    threshold: float = 0.5

    task = "binary"
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

    def counts(self, sums: Sums) -> Iterable[Sample]:
        """The four cells of the matrix, without the empty ones."""
        return cell_counts(sums, CLASSES)

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
