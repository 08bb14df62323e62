"""What meets what: predictions and truths of one request row, in any order, any number of times.

Which prediction and which truth stand is a function of the set of halves that arrived in a case, never of their order:
for each prediction key the latest event wins, for each row the latest truth. A truth that is known by several ids is
about the predictions of the first of them that has any. `arrive` is the only thing that changes a case; it writes into
a book the moves that bring the sums from what was applied before to what stands now. Nothing here knows sums, stores,
sockets or the clock.
"""

from __future__ import annotations

from copy import copy
from typing import Protocol

import msgspec

from metrics_server.metrics.labels import LabelStatus
from metrics_server.metrics.task import RowValue
from metrics_server.pairing.observation import RowObservation
from metrics_server.pairing.record import (
    MAX_TRUTHS,
    Contribution,
    PairingRecord,
    Prediction,
    Reward,
    Truth,
    Weight,
    are_same_model,
    share_key,
)
from metrics_server.series.series import Labels


class EffectSink(Protocol):
    """Where the effects of pairing are written down; see `metrics_server.pairing.aggregator`."""

    def resolve(self, prediction: Prediction, truth: RowValue, weight: Weight) -> Contribution | str:
        """The pair as the model of the prediction's series takes it, or the status that says why not."""

    def apply_pair(self, applied: Contribution, *, first: bool) -> None:
        """Counts a pair; the first of a prediction is what "matched" tells of."""

    def retract_pair(self, applied: Contribution) -> None: ...
    def apply_row(self, prediction: Prediction, *, first: bool) -> Contribution: ...
    def retract_row(self, applied: Contribution) -> None: ...
    def apply_reward(
        self, value: float, labels: Labels, at: float, slices: list[str], *, first: bool
    ) -> Contribution: ...
    def retract_reward(self, applied: Contribution) -> None: ...
    def status(self, prediction: Prediction, status: str) -> None: ...
    def delay(self, prediction: Prediction, truth: Truth) -> None: ...


_encode = msgspec.msgpack.Encoder().encode


def apply_row(case: PairingRecord, row: RowObservation, book: EffectSink) -> bool:
    """Takes the halves into the case and writes into the book what that changes; says whether a truth of them waits
    now.
    """
    if not (case.predictions or case.truths or case.rewards):
        _open(case, row, book)
        return row.truth is not None and (row.prediction is None or not row.truth.covers(row.prediction.labels))
    changed = None if row.prediction is None else _take_said(case, row.prediction, book)
    if row.truth is not None:
        case.truths = _latest(case.truths, copy(row.truth))[-MAX_TRUTHS:]
    waits = not settle(case, book, changed, row.truth)
    if row.reward is not None:
        _take_reward(case, row.reward, book)
        _settle_rewards(case, book)
    return waits and row.truth is not None


def settle(
    case: PairingRecord, book: EffectSink, changed: Prediction | None = None, arrived: Truth | None = None
) -> bool:
    """Brings every pair and reward to what stands now, and tells what became of the truth that arrived.

    Says whether that is about any prediction that is there.
    """
    met = False
    moved: list[Prediction] = []
    for prediction in case.predictions:
        if not prediction.logged and prediction.pair is not None and _gives_way(case, prediction):
            book.retract_pair(prediction.pair)
            moved.append(copy(prediction))
            prediction.pair, prediction.truth, prediction.weight, prediction.has_truth = None, None, 1, False
    for prediction in case.predictions:
        if prediction.logged or not _gives_way(case, prediction):
            truth = _standing(case, prediction)
            if truth is not None:
                about = arrived if arrived is not None and _is_about(case, arrived, prediction) else None
                met = met or about is not None
                first = (
                    not prediction.has_truth
                    and not prediction.first_truth_counted
                    and not any(
                        are_same_model(prediction.labels, old.labels)
                        and share_key(prediction.key_indexes, old.key_indexes)
                        for old in moved
                    )
                )
                _renew(prediction, truth, about, book, changed=prediction is changed, first=first)
            elif prediction.has_truth:  # the truth turned out to be about another prediction
                _replace_pair(prediction, None, 1, book, first=False)
                prediction.has_truth, prediction.first_truth_counted = False, True
    if case.rewards:
        _settle_rewards(case, book)
    return met


def _open(case: PairingRecord, row: RowObservation, book: EffectSink) -> None:
    """The first arrival: nothing is there that it could contradict."""
    prediction, truth, reward = row.prediction, row.truth, row.reward
    if prediction is not None:
        prediction = copy(prediction)  # the arrival itself stays as it is: it may have to be taken again
        case.predictions.append(prediction)
        if prediction.logged:
            prediction.row = book.apply_row(prediction, first=True)
    if truth is not None:
        case.truths.append(copy(truth))
        if prediction is not None and truth.value is not None and truth.covers(prediction.labels):
            failed = _replace_pair(prediction, truth.value, truth.weight, book, first=True)
            if failed:
                book.status(prediction, failed)
    if reward is not None:
        case.rewards.append(copy(reward))
        _settle_rewards(case, book)


def _is_later(time: float, value: object, than_time: float, than_value: object) -> bool:
    """The order of halves of one key: the event's time, then, so that any order of arrival ends the same, the
    content.
    """
    return time > than_time or (time == than_time and _encode(value) > _encode(than_value))


def _take_said(case: PairingRecord, prediction: Prediction, book: EffectSink) -> Prediction | None:
    """The prediction that is new or was replaced; None when a later one stands already."""
    same = [old for old in case.predictions if old.is_same(prediction)]
    if not same:
        prediction = copy(prediction)
        case.predictions.append(prediction)
        if prediction.logged:
            prediction.row = book.apply_row(prediction, first=True)
        return prediction
    changed = _fold(case, same, book)
    old = same[0]
    old.key_indexes += bytes(key for key in prediction.key_indexes if key not in old.key_indexes)
    # When only feedback tells of a prediction, it was made at the latest when the earliest of them was sent.
    at = prediction.at if prediction.logged else min(old.at, prediction.at)
    if not _is_later(
        prediction.time,
        [prediction.labels, prediction.value, prediction.slices],
        old.time,
        [old.labels, old.value, old.slices],
    ):
        changed = changed or (not prediction.logged and at != old.at)
        old.at = at if not prediction.logged else old.at
        return old if changed else None
    changed = changed or (old.value, old.at, old.labels, old.slices) != (
        prediction.value,
        at,
        prediction.labels,
        prediction.slices,
    )
    old.labels, old.at, old.time, old.value, old.slices = (
        prediction.labels,
        at,
        prediction.time,
        prediction.value,
        prediction.slices,
    )
    if changed and old.row is not None:
        book.retract_row(old.row)
        old.row = book.apply_row(old, first=False)
    return old if changed else None


def _fold(case: PairingRecord, same: list[Prediction], book: EffectSink) -> bool:
    """Makes one of several carried predictions that turn out to be one; says whether that changed the first of them."""
    first, changed = same[0], False
    for other in same[1:]:
        case.predictions.remove(other)
        if other.pair is not None:
            book.retract_pair(other.pair)
        at = min(first.at, other.at)
        first.key_indexes += bytes(key for key in other.key_indexes if key not in first.key_indexes)
        if _is_later(
            other.time, [other.labels, other.value, other.slices], first.time, [first.labels, first.value, first.slices]
        ):
            first.labels, first.time, first.value, first.slices = other.labels, other.time, other.value, other.slices
        first.at, changed = at, True
    return changed


def _latest(truth: list[Truth], arrived: Truth) -> list[Truth]:
    """The truths with this one among them: of each scope and ids the latest."""
    for index, old in enumerate(truth):
        if (old.namespace, old.deployment, old.key_indexes_by_preference) == (
            arrived.namespace,
            arrived.deployment,
            arrived.key_indexes_by_preference,
        ):
            if not _is_later(arrived.time, [arrived.value, arrived.weight], old.time, [old.value, old.weight]):
                return truth
            return [*truth[:index], arrived, *truth[index + 1 :]]
    return [*truth, arrived]


def _is_about(case: PairingRecord, truth: Truth, prediction: Prediction) -> bool:
    """Whether a truth labels a prediction: by the first of its ids that has a logged one, else by any."""
    if not truth.covers(prediction.labels):
        return False
    if case.alias_keys:
        for key in truth.key_indexes_by_preference:
            if any(
                other.logged and key in other.key_indexes and truth.covers(other.labels) for other in case.predictions
            ):
                return key in prediction.key_indexes
    return share_key(truth.key_indexes_by_preference, prediction.key_indexes)


def _standing(case: PairingRecord, prediction: Prediction) -> Truth | None:
    """The truth that stands for a prediction."""
    best: Truth | None = None
    for truth in case.truths:
        if _is_about(case, truth, prediction) and (
            best is None or _is_later(truth.time, [truth.value, truth.weight], best.time, [best.value, best.weight])
        ):
            best = truth
    return best


def _gives_way(case: PairingRecord, prediction: Prediction) -> bool:
    """Whether this is what a feedback carried along, and the log tells of the same prediction."""
    return any(
        other.logged
        and are_same_model(prediction.labels, other.labels)
        and share_key(prediction.key_indexes, other.key_indexes)
        for other in case.predictions
    )


def _renew(
    prediction: Prediction, truth: Truth, arrived: Truth | None, book: EffectSink, *, changed: bool, first: bool
) -> None:
    """Makes the pair of a prediction the one with the truth that stands; tells the status of the truth that arrived."""
    same = (
        prediction.has_truth
        and (prediction.truth, prediction.weight) == (truth.value, truth.weight)
        and isinstance(truth.value, type(prediction.truth))
    )
    before, failed = prediction.pair, ""
    if not same or changed:
        failed = _replace_pair(prediction, truth.value, truth.weight, book, first=first)
        same = same or (
            before is not None
            and prediction.pair is not None
            and (before.y_true, before.weight) == (prediction.pair.y_true, prediction.pair.weight)
        )
    if first and truth.value is not None:
        if failed:
            book.status(prediction, failed)
        elif prediction.logged:
            book.delay(prediction, truth)
    elif arrived is not None and (before is not None or truth.value is not None):
        book.status(prediction, failed or _status(truth, arrived, same=same))


def _status(truth: Truth, arrived: Truth, *, same: bool) -> str:
    if same:
        return (
            LabelStatus.DUPLICATE
            if (arrived.value, arrived.weight) == (truth.value, truth.weight)
            else LabelStatus.SUPERSEDED
        )
    return LabelStatus.RETRACTED if truth.value is None else LabelStatus.CORRECTED


def _replace_pair(prediction: Prediction, truth: RowValue, weight: Weight, book: EffectSink, *, first: bool) -> str:
    """Takes back the pair that was applied and applies the new one; says why if there is none."""
    before, prediction.pair, failed = prediction.pair, None, ""
    prediction.truth, prediction.weight, prediction.has_truth = truth, weight, prediction.has_truth or truth is not None
    if truth is not None:
        resolved = book.resolve(prediction, truth, weight)
        if isinstance(resolved, str):
            failed = resolved
        else:
            prediction.pair = resolved
    if prediction.pair != before:
        if before is not None:
            book.retract_pair(before)
        if prediction.pair is not None:
            book.apply_pair(prediction.pair, first=first)
    if prediction.pair is not None and prediction.row is not None and prediction.row.series != prediction.pair.series:
        # Its series started anew since it was logged; of what is labelled there, it was predicted there.
        book.retract_row(prediction.row)
        prediction.row = book.apply_row(prediction, first=False)
    return failed


def _take_reward(case: PairingRecord, reward: Reward, book: EffectSink) -> None:
    same = [
        old
        for old in case.rewards
        if are_same_model(old.labels, reward.labels)
        and share_key(old.key_indexes_by_preference + old.other_key_indexes, reward.key_indexes_by_preference)
    ]
    if not same:
        case.rewards.append(copy(reward))
        return
    first = same[0]
    for other in [*same[1:], reward]:
        if other.applied is not None:
            book.retract_reward(other.applied)
        if other is not reward:
            case.rewards.remove(other)
        first.at = min(first.at, other.at)
        keys = (
            first.key_indexes_by_preference
            + first.other_key_indexes
            + other.key_indexes_by_preference
            + other.other_key_indexes
        )
        if _is_later(
            other.time,
            [*other.labels, other.value, other.slices],
            first.time,
            [*first.labels, first.value, first.slices],
        ):
            first.labels, first.time, first.value, first.slices = other.labels, other.time, other.value, other.slices
            first.key_indexes_by_preference = other.key_indexes_by_preference
        first.other_key_indexes = bytes(
            key for key in dict.fromkeys(keys) if key not in first.key_indexes_by_preference
        )


def _settle_rewards(case: PairingRecord, book: EffectSink) -> None:
    """Counts each reward for the prediction it is about, as far as the log tells, and else for what the feedback
    says.
    """
    for reward in case.rewards:
        about = [
            prediction
            for prediction in case.predictions
            if prediction.logged and are_same_model(prediction.labels, reward.labels)
        ]
        for keys in (*(bytes([key]) for key in reward.key_indexes_by_preference), reward.other_key_indexes):
            if found := [prediction for prediction in about if share_key(keys, prediction.key_indexes)]:
                about = found
                break
        else:
            about = []
        where = min(
            ((prediction.labels, prediction.at, prediction.slices) for prediction in about),
            default=(reward.labels, reward.at, reward.slices),
        )
        before = reward.applied
        if (
            before is not None
            and (reward.counted_labels, before.at, reward.counted_slices) == where
            and before.y_pred == reward.value
        ):
            continue
        if before is not None:
            book.retract_reward(before)
        reward.applied = book.apply_reward(reward.value, *where, first=before is None)
        reward.counted_labels, _, reward.counted_slices = where
