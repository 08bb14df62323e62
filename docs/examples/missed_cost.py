"""A metric model of one's own: what wrong decisions cost, when a miss costs more than a false alarm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from metrics_server.model import Sample

MISS, FALSE_ALARM = 50.0, 1.0


class MissedCost:
    """Mean cost of a decision, in the currency of MISS and FALSE_ALARM.

    Sums:
        pairs: labelled predictions.
        cost: sum of their costs.
    """

    task = "binary"

    def increments(self, y_true: Any, y_pred: Any) -> Mapping[str, float]:
        """y_true is 0.0 or 1.0, y_pred a score in [0, 1]; both float, shape (n,)."""
        decided = y_pred >= 0.5
        misses = ((y_true == 1) & ~decided).sum()
        alarms = ((y_true == 0) & decided).sum()
        return {"pairs": float(y_true.size), "cost": float(MISS * misses + FALSE_ALARM * alarms)}

    def compute(self, sums: Mapping[str, float]) -> Iterable[Sample]:
        """Nothing before the first pair: an undefined value is no sample, never 0."""
        if pairs := sums.get("pairs"):
            yield Sample("mean_cost", {}, sums.get("cost", 0.0) / pairs)
