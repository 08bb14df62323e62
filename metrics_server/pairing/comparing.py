"""The comparing pass: predictors that answered the same row, as a shadow does, and which of them was right.

What stands is a function of the pairs that stand, and the record holds what of it is in the sums: so a late, corrected
or retracted truth changes exactly that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Protocol

from metrics_server.pairing.record import Comparison, Contribution, PairingRecord, Prediction, share_key

MOST_COMPARED = 16  # predictions of a row by one model of a deployment: each is compared with each


class ComparisonSink(Protocol):
    """Takes the effects of comparing; see `metrics_server.pairing.aggregator`."""

    def is_right(self, pair: Contribution) -> bool | None:
        """Tells whether a prediction was right; None where its metric model does not say so."""

    def apply_comparison(self, comparison: Comparison) -> None:
        """Counts a comparison."""

    def retract_comparison(self, comparison: Comparison) -> None:
        """Takes back a comparison that was counted."""


def settle_comparisons(record: PairingRecord, sink: ComparisonSink) -> None:
    """Brings the comparisons of a record to what its pairs say now."""
    if len(record.predictions) < 2 and not record.comparisons:
        return
    standing = list(_standing(record, sink))
    counted = record.comparisons.copy()
    for comparison in standing:
        if comparison in counted:  # of equal ones each stands for one
            counted.remove(comparison)
        else:
            sink.apply_comparison(comparison)
    for comparison in counted:
        sink.retract_comparison(comparison)
    record.comparisons = standing


def _standing(record: PairingRecord, sink: ComparisonSink) -> Iterator[Comparison]:
    """Yields the comparison of each labelled prediction with each other of its deployment and model, both ways."""
    groups: dict[tuple[str, str, str], list[Prediction]] = {}
    for prediction in record.predictions:
        if _is_comparable(prediction):
            groups.setdefault(prediction.labels.group, []).append(prediction)
    for labelled in groups.values():
        if len({prediction.labels.predictor for prediction in labelled}) > 1:
            labelled.sort(key=lambda one: (one.labels, one.key_indexes))
            yield from _comparisons(labelled[:MOST_COMPARED], sink)


def _comparisons(labelled: Sequence[Prediction], sink: ComparisonSink) -> Iterator[Comparison]:
    judged = [
        (one, one.pair, is_right)
        for one in labelled
        if one.pair is not None and (is_right := sink.is_right(one.pair)) is not None
    ]
    for (one, pair, is_right), (other, its_pair, is_other_right) in permutations(judged, 2):
        if one.labels.predictor != other.labels.predictor and share_key(one.key_indexes, other.key_indexes):
            outcome = int(is_right) - int(is_other_right)
            yield Comparison(pair.series, pair.series_created_at, pair.at, its_pair.series, outcome)


def _is_comparable(prediction: Prediction) -> bool:
    """Tells whether a prediction has a pair that counts as one."""
    pair = prediction.pair
    return pair is not None and pair.weight == 1 and not pair.is_too_old
