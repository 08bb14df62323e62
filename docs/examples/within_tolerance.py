"""A metric model in the form of Seldon's adserver: transform() returning counters for one row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class WithinTolerance:
    """Counts predictions that are within 10 % of the truth, by who sold the house."""

    def transform(self, truth: Any, response: Any, request: Any = None) -> Any:
        """`truth` and `response` are arrays of one row."""
        close = abs(response[0] - truth[0]) <= 0.1 * abs(truth[0])
        key = "seldon_metric_within_tolerance" if close else "seldon_metric_out_of_tolerance"
        return SimpleNamespace(metrics=[{"key": key, "type": "COUNTER", "value": 1, "tags": {"tolerance": "0.1"}}])
