"""The matching pass: predictions and truths of one request row, in any order, any number of times.

Which prediction and which truth stand is a function of the set of observations that were filed in a record, never of
their order: of each prediction the latest event wins, of each row the latest truth. A truth that is known by several
ids is about the predictions of the first of them that has any. The functions here are the only ones that change what
stands in a record; they tell an `EffectSink` what brings the sums from what was applied before to what stands now.
Nothing here knows sums, stores, sockets or the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from typing import NamedTuple, Protocol

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
    RewardContribution,
    RowContribution,
    Truth,
    Weight,
    are_same_model,
    share_key,
)
from metrics_server.series.series import Labels


class EffectSink(Protocol):
    """Takes the effects of matching; see `metrics_server.pairing.aggregator`."""

    def resolve(self, prediction: Prediction, truth: RowValue, weight: Weight) -> Contribution | LabelStatus:
        """Makes the pair as the model of the prediction's series takes it, or says why it cannot."""

    def apply_pair(self, pair: Contribution, *, first: bool) -> None:
        """Counts a pair; the first one of a prediction is what the status "matched" tells of."""

    def retract_pair(self, pair: Contribution) -> None:
        """Takes back a pair that was counted."""

    def apply_row(self, prediction: Prediction, *, first: bool) -> RowContribution:
        """Counts a row of the request log."""

    def retract_row(self, row: RowContribution) -> None:
        """Takes back a row of the request log."""

    def apply_reward(self, value: float, about: RewardTarget, *, first: bool) -> RewardContribution:
        """Counts a reward."""

    def retract_reward(self, reward: RewardContribution) -> None:
        """Takes back a reward."""

    def status(self, prediction: Prediction, status: LabelStatus) -> None:
        """Counts what became of a truth."""

    def delay(self, prediction: Prediction, truth: Truth) -> None:
        """Notes how long after the prediction its first truth came."""


class RewardTarget(NamedTuple):
    """What a reward is counted for: a prediction's labels, its time and its slices."""

    labels: Labels
    at: float
    slices: list[str]


_encode = msgspec.msgpack.Encoder().encode


def match_row(record: PairingRecord, row: RowObservation, sink: EffectSink) -> bool:
    """Takes a row into its record and settles what stands now.

    Returns:
        Whether it brings a truth that waits for its prediction.
    """
    if not (record.predictions or record.truths or record.rewards):
        _open(record, row, sink)
        return row.truth is not None and (row.prediction is None or not row.truth.covers(row.prediction.labels))
    changed = None if row.prediction is None else _take_prediction(record, row.prediction, sink)
    if row.truth is not None:
        record.truths = _with_latest(record.truths, copy(row.truth))[-MAX_TRUTHS:]
    is_met = settle(record, sink, changed, row.truth)
    if row.reward is not None:
        _take_reward(record, row.reward, sink)
        _settle_rewards(record, sink)
    return row.truth is not None and not is_met


def match_alias(record: PairingRecord, key_indexes: bytes, sink: EffectSink) -> None:
    """Files the logged predictions of a request under all its keys, its own first, and settles what stands now."""
    for prediction in record.predictions:
        if prediction.logged and prediction.key_indexes[0] == key_indexes[0]:
            _add_keys(prediction, key_indexes)
    settle(record, sink)


def settle(
    record: PairingRecord, sink: EffectSink, changed: Prediction | None = None, arrived: Truth | None = None
) -> bool:
    """Brings every pair and reward to what stands now, and tells what became of the truth that arrived.

    Returns:
        Whether that truth is about any prediction that is there.
    """
    superseded = _retract_superseded(record, sink)
    is_met = False
    for prediction in record.predictions:
        if prediction.logged or not _gives_way(record, prediction):
            is_changed = prediction is changed
            is_met |= _settle_prediction(record, prediction, arrived, superseded, sink, is_changed=is_changed)
    if record.rewards:
        _settle_rewards(record, sink)
    return is_met


def _open(record: PairingRecord, row: RowObservation, sink: EffectSink) -> None:
    """Takes the first row: nothing is there that it could contradict."""
    prediction, truth, reward = row.prediction, row.truth, row.reward
    if prediction is not None:
        prediction = _add_prediction(record, prediction, sink)
    if truth is not None:
        record.truths.append(copy(truth))
        if prediction is not None and truth.value is not None and truth.covers(prediction.labels):
            failed = _replace_pair(prediction, truth.value, truth.weight, sink, first=True)
            if failed is not None:
                sink.status(prediction, failed)
    if reward is not None:
        record.rewards.append(copy(reward))
        _settle_rewards(record, sink)


# Predictions


def _add_prediction(record: PairingRecord, prediction: Prediction, sink: EffectSink) -> Prediction:
    prediction = copy(prediction)  # the row itself stays as it is: it may have to be applied again
    record.predictions.append(prediction)
    if prediction.logged:
        prediction.row = sink.apply_row(prediction, first=True)
    return prediction


def _take_prediction(record: PairingRecord, arrived: Prediction, sink: EffectSink) -> Prediction | None:
    """Adds a prediction, or makes the one that is there as it stands now; returns it unless nothing changed."""
    same = [old for old in record.predictions if old.is_same(arrived)]
    if not same:
        return _add_prediction(record, arrived, sink)
    kept, *others = same
    is_changed = bool(others)
    for other in others:
        _fold_carried(record, kept, other, sink)
    _add_keys(kept, arrived.key_indexes)
    before = [kept.at, *kept.content]
    # When only feedback tells of a prediction, it was made at the latest when the earliest of them was sent.
    at = arrived.at if arrived.logged else min(kept.at, arrived.at)
    if _is_later(arrived.time, arrived.content, kept.time, kept.content):
        _overwrite(kept, arrived, at)
    elif not arrived.logged:
        kept.at = at
    is_changed = is_changed or before != [kept.at, *kept.content]
    if is_changed and kept.row is not None:
        sink.retract_row(kept.row)
        kept.row = sink.apply_row(kept, first=False)
    return kept if is_changed else None


def _fold_carried(record: PairingRecord, kept: Prediction, other: Prediction, sink: EffectSink) -> None:
    """Makes one of two carried predictions that turn out to be one."""
    record.predictions.remove(other)
    if other.pair is not None:
        sink.retract_pair(other.pair)
    at = min(kept.at, other.at)
    _add_keys(kept, other.key_indexes)
    if _is_later(other.time, other.content, kept.time, kept.content):
        _overwrite(kept, other, at)
    kept.at = at


def _overwrite(kept: Prediction, later: Prediction, at: float) -> None:
    kept.labels, kept.at, kept.time, kept.value, kept.slices = later.labels, at, later.time, later.value, later.slices


def _add_keys(prediction: Prediction, key_indexes: bytes) -> None:
    prediction.key_indexes += bytes(key for key in key_indexes if key not in prediction.key_indexes)


def _is_later(time: float, content: object, than_time: float, than_content: object) -> bool:
    """Orders what contradicts each other: by the event's time, then, for the same end in any order, by the content."""
    return time > than_time or (time == than_time and _encode(content) > _encode(than_content))


def _gives_way(record: PairingRecord, prediction: Prediction) -> bool:
    """Tells whether a carried prediction gives way to one that was logged."""
    return any(other.logged and other.is_of_same_model(prediction) for other in record.predictions)


def _retract_superseded(record: PairingRecord, sink: EffectSink) -> list[Prediction]:
    """Takes back the pairs of carried predictions that give way to logged ones, and returns them as they were."""
    superseded = []
    for prediction in record.predictions:
        if not prediction.logged and prediction.pair is not None and _gives_way(record, prediction):
            sink.retract_pair(prediction.pair)
            superseded.append(copy(prediction))
            prediction.pair, prediction.truth, prediction.weight, prediction.has_truth = None, None, 1, False
    return superseded


# Truths


def _with_latest(truths: list[Truth], arrived: Truth) -> list[Truth]:
    """Lists the truths with this one among them: of each scope and ids the latest."""
    key = arrived.namespace, arrived.deployment, arrived.key_indexes_by_preference
    for index, old in enumerate(truths):
        if (old.namespace, old.deployment, old.key_indexes_by_preference) == key:
            if not _is_later(arrived.time, arrived.content, old.time, old.content):
                return truths
            return [*truths[:index], arrived, *truths[index + 1 :]]
    return [*truths, arrived]


def _is_about(record: PairingRecord, truth: Truth, prediction: Prediction) -> bool:
    """Tells whether a truth labels a prediction: by the first of its ids that has a logged one, else by any."""
    if not truth.covers(prediction.labels):
        return False
    if record.alias_keys:
        covered = [other for other in record.predictions if other.logged and truth.covers(other.labels)]
        for key in truth.key_indexes_by_preference:
            if any(key in other.key_indexes for other in covered):
                return key in prediction.key_indexes
    return share_key(truth.key_indexes_by_preference, prediction.key_indexes)


def _standing_truth(record: PairingRecord, prediction: Prediction) -> Truth | None:
    """Finds the truth that stands for a prediction."""
    best: Truth | None = None
    for truth in record.truths:
        if _is_about(record, truth, prediction) and (
            best is None or _is_later(truth.time, truth.content, best.time, best.content)
        ):
            best = truth
    return best


# Pairs


def _settle_prediction(
    record: PairingRecord,
    prediction: Prediction,
    arrived: Truth | None,
    superseded: Sequence[Prediction],
    sink: EffectSink,
    *,
    is_changed: bool,
) -> bool:
    """Makes the pair of a prediction the one with the truth that stands; tells whether the arrived one is about it."""
    truth = _standing_truth(record, prediction)
    if truth is None:
        if prediction.has_truth:  # it turned out to be about another prediction
            _replace_pair(prediction, None, 1, sink, first=False)
            prediction.has_truth, prediction.first_truth_counted = False, True
        return False
    about = arrived if arrived is not None and _is_about(record, arrived, prediction) else None
    is_first = _is_first_truth(prediction, superseded)
    _renew(prediction, truth, about, sink, is_changed=is_changed, is_first=is_first)
    return about is not None


def _is_first_truth(prediction: Prediction, superseded: Iterable[Prediction]) -> bool:
    """Tells whether its truth is the first: not when it took the place of a prediction that had been labelled."""
    if prediction.has_truth or prediction.first_truth_counted:
        return False
    return not any(prediction.is_of_same_model(old) for old in superseded)


def _renew(
    prediction: Prediction, truth: Truth, arrived: Truth | None, sink: EffectSink, *, is_changed: bool, is_first: bool
) -> None:
    """Pairs a prediction with the truth that stands, and tells the status of the truth that arrived."""
    before, failed = prediction.pair, None
    is_same = _stands_already(prediction, truth)
    if not is_same or is_changed:
        failed = _replace_pair(prediction, truth.value, truth.weight, sink, first=is_first)
        is_same = is_same or _are_equal(before, prediction.pair)
    if is_first and truth.value is not None:
        if failed is not None:
            sink.status(prediction, failed)
        elif prediction.logged:
            sink.delay(prediction, truth)
    elif arrived is not None and (before is not None or truth.value is not None):
        sink.status(prediction, failed or _status_of(arrived, truth, is_same=is_same))


def _stands_already(prediction: Prediction, truth: Truth) -> bool:
    """Tells whether a prediction is paired with an equal truth; 1 and True are none."""
    return (
        prediction.has_truth
        and (prediction.truth, prediction.weight) == (truth.value, truth.weight)
        and isinstance(truth.value, type(prediction.truth))
    )


def _are_equal(before: Contribution | None, after: Contribution | None) -> bool:
    """Tells whether two truths of a prediction come to the same for its metric model, such as 2 and "2"."""
    if before is None or after is None:
        return False
    return (before.y_true, before.weight) == (after.y_true, after.weight)


def _status_of(arrived: Truth, standing: Truth, *, is_same: bool) -> LabelStatus:
    if is_same:
        return LabelStatus.DUPLICATE if arrived.content == standing.content else LabelStatus.SUPERSEDED
    return LabelStatus.RETRACTED if standing.value is None else LabelStatus.CORRECTED


def _replace_pair(
    prediction: Prediction, truth: RowValue, weight: Weight, sink: EffectSink, *, first: bool
) -> LabelStatus | None:
    """Takes back the pair that was applied and applies the new one; returns why if there is none."""
    before, prediction.pair, failed = prediction.pair, None, None
    prediction.truth, prediction.weight, prediction.has_truth = truth, weight, prediction.has_truth or truth is not None
    if truth is not None:
        resolved = sink.resolve(prediction, truth, weight)
        if isinstance(resolved, LabelStatus):
            failed = resolved
        else:
            prediction.pair = resolved
    if prediction.pair != before:
        if before is not None:
            sink.retract_pair(before)
        if prediction.pair is not None:
            sink.apply_pair(prediction.pair, first=first)
    _follow_pair(prediction, sink)
    return failed


def _follow_pair(prediction: Prediction, sink: EffectSink) -> None:
    """Counts the logged row in the series of its pair: one that started anew since holds the row there too."""
    if prediction.pair is not None and prediction.row is not None and prediction.row.series != prediction.pair.series:
        sink.retract_row(prediction.row)
        prediction.row = sink.apply_row(prediction, first=False)


# Rewards


def _take_reward(record: PairingRecord, arrived: Reward, sink: EffectSink) -> None:
    """Adds a reward, or makes one of it and those that are of the same model and request."""
    same = [old for old in record.rewards if _is_same_reward(old, arrived)]
    if not same:
        record.rewards.append(copy(arrived))
        return
    kept = same[0]
    for other in [*same[1:], arrived]:
        if other.applied is not None:
            sink.retract_reward(other.applied)
        if other is not arrived:
            record.rewards.remove(other)
        _fold_reward(kept, other)


def _is_same_reward(old: Reward, arrived: Reward) -> bool:
    keys = old.key_indexes_by_preference + old.other_key_indexes
    return are_same_model(old.labels, arrived.labels) and share_key(keys, arrived.key_indexes_by_preference)


def _fold_reward(kept: Reward, other: Reward) -> None:
    kept.at = min(kept.at, other.at)
    keys = kept.key_indexes_by_preference + kept.other_key_indexes
    keys += other.key_indexes_by_preference + other.other_key_indexes
    if _is_later(other.time, other.content, kept.time, kept.content):
        kept.labels, kept.time, kept.value, kept.slices = other.labels, other.time, other.value, other.slices
        kept.key_indexes_by_preference = other.key_indexes_by_preference
    kept.other_key_indexes = bytes(key for key in dict.fromkeys(keys) if key not in kept.key_indexes_by_preference)


def _settle_rewards(record: PairingRecord, sink: EffectSink) -> None:
    """Counts each reward for the prediction it is about, as far as the log tells, else for what the feedback says."""
    for reward in record.rewards:
        target = _reward_target(record, reward)
        before = reward.applied
        if before is not None:
            counted = reward.counted_labels, before.at, reward.counted_slices
            if counted == target and before.value == reward.value:
                continue
            sink.retract_reward(before)
        reward.applied = sink.apply_reward(reward.value, target, first=before is None)
        reward.counted_labels, reward.counted_slices = target.labels, target.slices


def _reward_target(record: PairingRecord, reward: Reward) -> RewardTarget:
    about = _rewarded_predictions(record, reward)
    if not about:
        return RewardTarget(reward.labels, reward.at, reward.slices)
    return min(RewardTarget(prediction.labels, prediction.at, prediction.slices) for prediction in about)


def _rewarded_predictions(record: PairingRecord, reward: Reward) -> list[Prediction]:
    """Lists the logged predictions of its model: by the first of its own keys that has any, else by those it shares."""
    logged = [one for one in record.predictions if one.logged and are_same_model(one.labels, reward.labels)]
    for keys in (*(bytes([key]) for key in reward.key_indexes_by_preference), reward.other_key_indexes):
        if found := [prediction for prediction in logged if share_key(keys, prediction.key_indexes)]:
            return found
    return []
