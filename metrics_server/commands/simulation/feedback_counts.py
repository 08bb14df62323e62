"""Counts that a model keeps of the feedback it is sent, which it returns as custom metrics with each prediction.

So do the models of Seldon's example of stateful feedback. They count what the feedback itself tells, begin anew with
their process, and never hear of the truths of other replicas.
"""

from __future__ import annotations

from typing import Any

NAMES = ("true_pos", "true_neg", "false_pos", "false_neg")


class FeedbackCounts:
    """Counts of one class against the rest."""

    def __init__(self, positive: int) -> None:
        """`positive` is the index of the class."""
        self._positive = positive
        self.counts = dict.fromkeys(NAMES, 0)

    def take(self, feedback: dict[str, Any]) -> None:
        """Counts the first row of a feedback that repeats its response; one that cannot be read counts nothing."""
        try:
            predicted, true = (
                self._is_positive(feedback[part]["data"]["ndarray"][0]) for part in ("response", "truth")
            )
        except (LookupError, TypeError, ValueError):
            return
        self.counts[f"{'true' if predicted is true else 'false'}_{'pos' if predicted else 'neg'}"] += 1

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the counts in the form of `meta.metrics`."""
        return [{"type": "GAUGE", "key": name, "value": count} for name, count in self.counts.items()]

    def _is_positive(self, row: Any) -> bool:
        index = row.index(max(row)) if isinstance(row, list) else row
        return bool(index == self._positive)
