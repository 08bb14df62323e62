"""A metric model of one's own: what wrong decisions cost, when a miss costs more than a false alarm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from metrics_server.metrics import GaugeSpec, Sample, effective_weight, mean_interval

MISS, FALSE_ALARM = 50.0, 1.0
FAMILIES = {"mean_cost": GaugeSpec("Mean cost of a decision.", has_interval=True, better=-1)}


class MissedCost:
    """Mean cost of a decision, in the currency of MISS and FALSE_ALARM, with its 95 % interval.

    Sums:
        pairs: labelled predictions.
        cost, cost_square: sums of their costs and of the squares of these.

    Args:
        threshold: the lowest score that counts as positive.
    """

    task = "binary"
    families = FAMILIES

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    def increments(self, y_true: Any, y_pred: Any) -> Mapping[str, float]:
        """y_true is 0.0 or 1.0, y_pred a score in [0, 1]; both float, shape (n,)."""
        decided = y_pred >= self.threshold
        costs = MISS * ((y_true == 1) & ~decided) + FALSE_ALARM * ((y_true == 0) & decided)
        return {"pairs": float(y_true.size), "cost": float(costs.sum()), "cost_square": float(costs @ costs)}

    def compute(self, sums: Mapping[str, float]) -> Iterable[Sample]:
        """Nothing before the first pair: an undefined value is no sample, never 0."""
        if pairs := sums.get("pairs"):
            cost = sums.get("cost", 0.0)
            interval = mean_interval(
                cost, sums.get("cost_square", 0.0), pairs, effective_weight(sums, pairs), least=0.0
            )
            yield Sample("mean_cost", {}, cost / pairs, interval, support=pairs)
