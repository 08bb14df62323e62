"""The results of a replay: plain dicts, named as in the JSON API, ready for a notebook; without undefined values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import msgspec

from metrics_server.api.responses import values_of
from metrics_server.metrics.components import PAIRS
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import Bucket
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.series import Series

Point = TypedDict("Point", {"from": int, "to": int, "support": float, "values": list[dict[str, Any]]})
"""The values of one step: of the predictions made from `from` until before `to`, in UTC seconds."""


class ReplayResult(TypedDict):
    """The values of a series, or of a slice of one, over all its predictions.

    With a step it has `points` too: the values over the predictions of each step.
    """

    namespace: str
    deployment: str
    predictor: str
    model: str
    slice: NotRequired[str]
    task: str | None
    metric_model: str | None
    support: float
    values: list[dict[str, Any]]
    points: NotRequired[list[Point]]


def result_of(evaluator: Evaluator, series: Series, sums: Sums, steps: Mapping[Bucket, Sums] | None) -> ReplayResult:
    """Computes the values of the sums of a series, and of each step if there are any."""
    namespace, deployment, predictor, model = series.labels
    result: ReplayResult = {
        "namespace": namespace,
        "deployment": deployment,
        "predictor": predictor,
        "model": model,
        "task": series.task or None,
        "metric_model": series.parameters.get("model"),
        "support": sums.get(PAIRS, 0.0),
        "values": _values(evaluator, series, sums),
    }
    if series.identity.slice:
        result["slice"] = series.identity.slice
    if steps is not None:
        result["points"] = [
            _point(evaluator, series, bucket, of_step) for bucket, of_step in sorted(steps.items()) if of_step
        ]
    return result


def _point(evaluator: Evaluator, series: Series, bucket: Bucket, sums: Sums) -> Point:
    values = _values(evaluator, series, sums)
    return {"from": bucket.start, "to": bucket.start + bucket.width, "support": sums.get(PAIRS, 0.0), "values": values}


def _values(evaluator: Evaluator, series: Series, sums: Sums) -> list[dict[str, Any]]:
    """Returns values with name, labels, value and support; those with an interval also with lower and upper."""
    return msgspec.to_builtins(values_of(evaluator, series, sums))  # type: ignore[no-any-return]
