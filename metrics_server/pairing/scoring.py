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
    is_plain = _FLOATS.issuperset(map(type, sums.values())) and _TEXTS.issuperset(map(type, sums))
    checked = dict(sums) if is_plain else {str(name): float(value) for name, value in sums.items()}
    if not math.isfinite(sum(checked.values())):  # which no finite ones come to: numbers beyond 1e12 do not arrive
        raise ValueError("a sum is not finite")  # it would erase what it is added to
    return checked
