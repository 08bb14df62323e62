"""Scoring: a metric model at work on pairs. It may be a user's, and whatever it does harms only its own pairs."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable

from metrics_server.metrics.confidence import WEIGHT_EXCESS
from metrics_server.metrics.model import MetricModel
from metrics_server.metrics.sums import Sums, add_into
from metrics_server.metrics.task import RowValue, array_kind, array_of
from metrics_server.series.series import Series

logger = logging.getLogger(__name__)

_FLOATS, _TEXTS = frozenset((float,)), frozenset((str,))

# Of the sums of a call: what any number of pairs of any weight adds up to stays far from infinity, which could not be
# taken back. The squares of the largest numbers that arrive are 1e24.
LARGEST_SUM = 1e200


def increments_of(series: Series, model: MetricModel, pairs: list[tuple[RowValue, RowValue]]) -> tuple[Sums, int]:
    """Computes the model's increments of pairs, in a call for each combination of kinds; counts those it refused."""
    result: dict[str, float] = {}
    refused = 0
    for rows in _by_kind(pairs):
        try:
            sums = _call(model, rows)
            if result:
                add_into(result, sums)
            else:
                result = sums
        except Exception:  # noqa: BLE001 - a user's model may raise anything; its rows are counted, the others must not suffer
            refused += _one_by_one(series, model, rows, result)
    return result, refused


def _by_kind(pairs: list[tuple[RowValue, RowValue]]) -> Collection[list[tuple[RowValue, RowValue]]]:
    """Groups pairs whose values fit one array each; nearly always they are alone, or all alike."""
    if len(pairs) == 1:
        return (pairs,)
    kinds: dict[tuple[int, int], list[tuple[RowValue, RowValue]]] = {}
    for pair in pairs:
        kinds.setdefault((array_kind(pair[0]), array_kind(pair[1])), []).append(pair)
    return kinds.values()


def weighted(sums: Sums, pairs: int, weight: float) -> dict[str, float]:
    """Makes the sums of so many pairs of one weight from those of as many unweighted ones."""
    return {**{name: weight * value for name, value in sums.items()}, WEIGHT_EXCESS: pairs * (weight * weight - weight)}


def _one_by_one(
    series: Series, model: MetricModel, rows: list[tuple[RowValue, RowValue]], result: dict[str, float]
) -> int:
    """Adds what the model can take. It is pure, so a row it refused is refused again when taken back."""
    refused = 0
    for row in rows:
        try:
            add_into(result, _call(model, [row]))
        except Exception as error:  # noqa: BLE001 - the same
            refused += 1
            logger.warning(
                "%s of %s refused a pair: %s", type(model).__name__, "/".join(series.labels), type(error).__name__
            )
    return refused


def _call(model: MetricModel, rows: Iterable[tuple[RowValue, RowValue]]) -> dict[str, float]:
    truths, predictions = zip(*rows, strict=True)
    sums = model.increments(array_of(truths), array_of(predictions))
    checked = dict(sums) if _is_plain(sums) else {str(name): float(value) for name, value in sums.items()}
    if not math.hypot(*checked.values()) <= LARGEST_SUM:  # NaN is not; to look at each takes longer
        raise ValueError("a sum is not finite, or too large")  # it would erase what it is added to
    return checked


def _is_plain(sums: Sums) -> bool:
    """Tells whether a copy is all it takes: a dictionary, not what only resembles one, from strings to floats."""
    return type(sums) is dict and _FLOATS.issuperset(map(type, sums.values())) and _TEXTS.issuperset(map(type, sums))
