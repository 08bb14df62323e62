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
from functools import cached_property
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec

from metrics_server.metrics.labels import LabelStatus
from metrics_server.metrics.task import RowValue
from metrics_server.pairing.comparing import ComparisonSink, settle_comparisons
from metrics_server.pairing.observation import RowObservation
from metrics_server.pairing.record import (
    MAX_REWARDS,
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


class EffectSink(ComparisonSink, Protocol):
    """Takes the effects of matching; see `metrics_server.pairing.aggregator`."""

    def resolve(
        self, prediction: Prediction, truth: RowValue, weight: Weight, *, is_flat: bool
    ) -> Contribution | LabelStatus:
        """Makes the pair as the model of the prediction's series takes it, or says why it cannot."""

    def apply_pair(self, pair: Contribution, *, first: bool) -> None:
        """Counts a pair; the first one of a prediction is what counters without a twin tell of."""

    def retract_pair(self, pair: Contribution) -> None:
        """Takes back a pair that was counted."""

    def apply_row(self, prediction: Prediction, *, first: bool) -> RowContribution:
        """Counts a row of the request log."""

    def retract_row(self, row: RowContribution) -> None:
        """Takes back a row of the request log."""

    def apply_reward(self, value: float, about: RewardTarget) -> RewardContribution:
        """Counts a reward."""

    def retract_reward(self, reward: RewardContribution) -> None:
        """Takes back a reward."""

    def status(self, prediction: Prediction, status: LabelStatus) -> None:
        """Counts what became of a truth."""

    def retract_status(self, prediction: Prediction, status: LabelStatus) -> None:
        """Takes back why a truth made no pair."""

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
    if not (record.predictions or record.truths or record.rewards or record.withdrawn):
        _open(record, row, sink)
        return row.truth is not None and (row.prediction is None or not row.truth.covers(row.prediction.labels))
    changed = None if row.prediction is None else _take_prediction(record, row.prediction, sink)
    if row.truth is not None:
        record.truths = _with_latest(record.truths, copy(row.truth))[-MAX_TRUTHS:]
    is_met = settle(record, sink, changed, row.truth)
    if row.reward is not None:
        _take_reward(record, row.reward, sink)
        _settle_rewards(record, sink)
        _drop_surplus_rewards(record, sink)
    return row.truth is not None and not is_met


def match_listed(record: PairingRecord, truth: Truth, sink: EffectSink) -> None:
    """Takes the truth of a further row out of a flat list that turned out to be truths of several rows."""
    if not any(_is_equal(old, truth) for old in record.truths):
        record.truths = _with_latest(record.truths, copy(truth))[-MAX_TRUTHS:]
        settle(record, sink, None, truth)


def match_alias(record: PairingRecord, key_indexes: bytes, sink: EffectSink) -> None:
    """Files the logged predictions of a request under all its keys, its own first, and settles what stands now."""
    for prediction in (*record.predictions, *record.withdrawn):
        if prediction.logged and prediction.key_indexes[0] == key_indexes[0]:
            _add_keys(prediction, key_indexes)
    settle(record, sink)


def standing_rows(record: PairingRecord, prediction: Prediction) -> int:
    """Counts the rows of this node's answer, by the record of the first row; 0 if none is logged."""
    return next((one.row_count for one in record.predictions if one.is_same(prediction)), 0)


def withdraw_row(record: PairingRecord, prediction: Prediction, sink: EffectSink) -> None:
    """Takes out a row of a response, or does not take it in: the answer of its node has fewer rows."""
    for withdrawn in record.withdrawn:
        if withdrawn.is_same(prediction):
            _add_keys(withdrawn, prediction.key_indexes)
            return
    kept = next((one for one in record.predictions if one.is_same(prediction)), None)
    if kept is None:
        kept = _add_prediction(record, prediction, sink)  # it was in the log, and counts as such
    _add_keys(kept, prediction.key_indexes)
    _retract(kept, sink)
    if kept.row is not None:
        sink.retract_row(kept.row)
    kept.row, kept.value = None, None
    record.predictions = [one for one in record.predictions if one is not kept]
    record.withdrawn.append(kept)
    settle(record, sink)


def erase(record: PairingRecord, sink: EffectSink) -> None:
    """Takes back everything that a record has contributed."""
    for prediction in record.predictions:
        _retract(prediction, sink)
        if prediction.row is not None:
            sink.retract_row(prediction.row)
    for reward in record.rewards:
        if reward.applied is not None:
            sink.retract_reward(reward.applied)
    for comparison in record.comparisons:
        sink.retract_comparison(comparison)


def settle(
    record: PairingRecord, sink: EffectSink, changed: Prediction | None = None, arrived: Truth | None = None
) -> bool:
    """Brings every pair and reward to what stands now, and tells what became of the truth that arrived.

    Returns:
        Whether that truth is about any prediction that is there.
    """
    given_way = _retract_superseded(record, sink)
    truths = [_MetTruth(record, truth) for truth in record.truths]
    arrival = None if arrived is None else _MetTruth(record, arrived)
    is_met = False
    for prediction in record.predictions:
        if id(prediction) not in given_way:
            is_met |= _settle_prediction(prediction, truths, arrival, sink, is_changed=prediction is changed)
    settle_comparisons(record, sink)
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
            reading = _MetTruth(record, truth).reading if truth.flat else (truth.value, False)
            _replace_pair(prediction, truth, reading, sink)
    if reward is not None:
        record.rewards.append(copy(reward))
        _settle_rewards(record, sink)


# Predictions


def _add_prediction(record: PairingRecord, prediction: Prediction, sink: EffectSink) -> Prediction:
    prediction = copy(prediction)  # the row itself stays as it is: it may have to be applied again
    is_new = not record.withdrawn or not _recall(record, prediction)
    record.predictions.append(prediction)
    if prediction.logged:
        prediction.row = sink.apply_row(prediction, first=is_new)
    return prediction


def _recall(record: PairingRecord, prediction: Prediction) -> bool:
    """Makes a prediction the one that was withdrawn, if the same was; tells whether it was."""
    for withdrawn in record.withdrawn:
        if withdrawn.is_same(prediction):
            record.withdrawn.remove(withdrawn)
            _add_keys(prediction, withdrawn.key_indexes)
            prediction.first_pair_counted = withdrawn.first_pair_counted
            prediction.is_delay_counted = withdrawn.is_delay_counted
            return True
    return False


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
    kept.add_candidates(arrived.candidates)
    kept.row_count = _row_count(kept, arrived)
    before = [kept.at, *kept.content]
    # When only feedback tells of a prediction, it was made at the latest when the earliest of them was sent.
    at = arrived.at if arrived.logged else min(kept.at, arrived.at)
    if _is_later(arrived.rank, arrived.content, kept.rank, kept.content):
        _retract_failure(kept, sink)  # as it was counted: for these slices
        _overwrite(kept, arrived, at)
    elif not arrived.logged:
        kept.at = at
    is_changed = is_changed or before != [kept.at, *kept.content]
    if is_changed and kept.row is not None:
        sink.retract_row(kept.row)
        kept.row = sink.apply_row(kept, first=False)
    return kept if is_changed else None


def _row_count(kept: Prediction, arrived: Prediction) -> int:
    """Counts the rows of the answer: those of the response with the larger path.

    Of equal paths, and of feedback, the most: each may be about some rows alone, as what is looked up in Elasticsearch.
    """
    if kept.logged and kept.path_size != arrived.path_size:
        return max(kept, arrived, key=lambda one: one.path_size).row_count
    return max(kept.row_count, arrived.row_count)


def _fold_carried(record: PairingRecord, kept: Prediction, other: Prediction, sink: EffectSink) -> None:
    """Makes one of two carried predictions that turn out to be one."""
    record.predictions.remove(other)
    _retract(other, sink)
    kept.first_pair_counted |= other.first_pair_counted
    at = min(kept.at, other.at)
    _add_keys(kept, other.key_indexes)
    kept.add_candidates(other.candidates)
    kept.row_count = max(kept.row_count, other.row_count)
    if _is_later(other.rank, other.content, kept.rank, kept.content):
        _retract_failure(kept, sink)
        _overwrite(kept, other, at)
    kept.at = at


def _overwrite(kept: Prediction, later: Prediction, at: float) -> None:
    kept.labels, kept.at, kept.time, kept.value, kept.slices = later.labels, at, later.time, later.value, later.slices
    kept.path_size = later.path_size


def _add_keys(prediction: Prediction, key_indexes: bytes) -> None:
    prediction.key_indexes += bytes(key for key in key_indexes if key not in prediction.key_indexes)


_Rank = TypeVar("_Rank", float, tuple[int, float])


def _is_later(rank: _Rank, content: object, than_rank: _Rank, than_content: object) -> bool:
    """Orders what contradicts each other: by the event's time, then, for the same end in any order, by the content."""
    return rank > than_rank or (rank == than_rank and _encode(content) > _encode(than_content))


class _ByModel:
    """Predictions by their models, so that each carried one looks only at those of its candidates."""

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        self._all = list(predictions)
        self._by_model: dict[str, list[Prediction]] = {}
        for prediction in self._all:
            self._by_model.setdefault(prediction.labels.model, []).append(prediction)

    def standing_for(self, carried: Prediction) -> list[Prediction]:
        """Lists the predictions that a carried one gives way to."""
        models = [carried.labels.model] if carried.candidates is None else carried.candidates
        found = [one for model in models for one in self._by_model.get(model, ())] if models else self._all
        return [one for one in found if carried.gives_way_to(one)]


def _retract_superseded(record: PairingRecord, sink: EffectSink) -> set[int]:
    """Takes back the pairs of carried predictions that give way to others, which have their first truth by it.

    They give way to those logged; and, if they are nobody's, to carried ones too.

    Returns:
        The identities of those that give way.
    """
    carried = [one for one in record.predictions if not one.logged]
    if not carried or len(record.predictions) == 1:  # as of nearly all requests
        return set()
    logged = _ByModel(one for one in record.predictions if one.logged)
    owned = _ByModel(one for one in record.predictions if one.logged or one.labels.model)
    given_way = set()
    for prediction in carried:
        if standing := (logged if prediction.labels.model else owned).standing_for(prediction):
            given_way.add(id(prediction))
            _give_way(prediction, standing, sink)
    return given_way


def _give_way(carried: Prediction, standing: list[Prediction], sink: EffectSink) -> None:
    if carried.has_truth or carried.first_pair_counted:
        for other in standing:
            other.first_pair_counted |= carried.first_pair_counted
        _retract(carried, sink)


def _retract(prediction: Prediction, sink: EffectSink) -> None:
    """Takes back what a prediction has contributed with its truth."""
    _retract_failure(prediction, sink)
    if prediction.pair is not None:
        sink.retract_pair(prediction.pair)
    prediction.pair, prediction.truth, prediction.weight, prediction.has_truth = None, None, 1, False


def _retract_failure(prediction: Prediction, sink: EffectSink) -> None:
    if prediction.failure is not None:
        sink.retract_status(prediction, prediction.failure)
        prediction.failure = None


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


def _is_equal(old: Truth, truth: Truth) -> bool:
    mine = truth.namespace, truth.deployment, truth.key_indexes_by_preference, truth.time, truth.content
    return mine == (old.namespace, old.deployment, old.key_indexes_by_preference, old.time, old.content)


# A truth of the first row; and whether it is one of several, or a list that is to be a row, so that a single prediction
# can be paired with it only as such.
Reading: TypeAlias = "tuple[RowValue, bool]"


class _MetTruth:
    """A truth among the predictions of its record: what is the same for all of them is worked out once."""

    def __init__(self, record: PairingRecord, truth: Truth) -> None:
        self.truth = truth
        self._record = record
        # By the first of its keys that has a logged prediction, else by any.
        self._keys = _joining_key(record, truth) if record.alias_keys else truth.key_indexes_by_preference

    def is_about(self, prediction: Prediction) -> bool:
        """Tells whether it labels a prediction."""
        return self.truth.covers(prediction.labels) and share_key(self._keys, prediction.key_indexes)

    @cached_property
    def reading(self) -> Reading:
        """Reads a flat list: as one row if that is what the predictions are, else as the truths of several rows."""
        truth = self.truth
        if truth.is_one_row:
            return truth.row, True
        about = [one for one in self._record.predictions if self.is_about(one)]
        about = [one for one in about if one.logged] or about
        is_numbered = share_key(truth.key_indexes_by_preference, self._record.numbered_keys)
        if is_numbered or any(one.row_count > 1 for one in about):
            return truth.value, False
        is_wide = any(isinstance(one.value, list) and len(one.value) == len(truth.flat) for one in about)
        return truth.row if is_wide else truth.value, True


def _joining_key(record: PairingRecord, truth: Truth) -> bytes:
    """Finds the first key of a truth under which a prediction that it covers is logged; all of its keys if none is."""
    covered = (one for one in record.predictions if one.logged and truth.covers(one.labels))
    logged = set().union(*(one.key_indexes for one in covered))
    found = next((key for key in truth.key_indexes_by_preference if key in logged), None)
    return truth.key_indexes_by_preference if found is None else bytes([found])


def _standing_truth(truths: Iterable[_MetTruth], prediction: Prediction) -> _MetTruth | None:
    """Finds the truth that stands for a prediction."""
    best: _MetTruth | None = None
    for met in truths:
        if met.is_about(prediction) and (best is None or _is_later_truth(met.truth, best.truth)):
            best = met
    return best


def _is_later_truth(truth: Truth, than: Truth) -> bool:
    return _is_later(truth.time, truth.content, than.time, than.content)


# Pairs


def _settle_prediction(
    prediction: Prediction,
    truths: Sequence[_MetTruth],
    arrival: _MetTruth | None,
    sink: EffectSink,
    *,
    is_changed: bool,
) -> bool:
    """Makes the pair of a prediction the one with the truth that stands; tells whether the arrived one is about it."""
    met = _standing_truth(truths, prediction)
    if met is None:
        if prediction.has_truth:  # it turned out to be about another prediction
            _retract(prediction, sink)
        return False
    truth = met.truth
    about = arrival.truth if arrival is not None and arrival.is_about(prediction) else None
    before, failure = prediction.pair, prediction.failure
    is_same = _stands_already(prediction, truth)
    # A flat list may be read otherwise since; and one that failed may have begun with what is the truth now.
    if not is_same or is_changed or truth.flat or failure is not None:
        _replace_pair(prediction, truth, met.reading if truth.flat else (truth.value, False), sink)
        is_same = is_same or _are_equal(before, prediction.pair)
    if about is not None:
        was_labelled = before is not None or failure is not None
        is_newly_told = (before is None) != (prediction.pair is None) or failure != prediction.failure
        if was_labelled and (truth.value is None or not is_newly_told):
            sink.status(prediction, _status_of(about, truth, is_same=is_same))
    return about is not None


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


def _replace_pair(prediction: Prediction, truth: Truth, reading: Reading, sink: EffectSink) -> None:
    """Takes back the pair that was applied, and applies the one with this truth, or tells why there is none."""
    before, prediction.pair, failure = prediction.pair, None, None
    value, is_flat = reading
    prediction.truth, prediction.weight = value, truth.weight
    prediction.has_truth = prediction.has_truth or value is not None
    if value is not None:
        resolved = sink.resolve(prediction, value, truth.weight, is_flat=is_flat)
        if isinstance(resolved, LabelStatus):
            failure = resolved
        else:
            prediction.pair = resolved
    if prediction.pair != before:
        if before is not None:
            sink.retract_pair(before)
        if prediction.pair is not None:
            _apply_pair(prediction, prediction.pair, truth, sink)
    if failure != prediction.failure:
        _retract_failure(prediction, sink)
        if failure is not None:
            sink.status(prediction, failure)
            prediction.failure = failure
    _follow_pair(prediction, sink)


def _apply_pair(prediction: Prediction, pair: Contribution, truth: Truth, sink: EffectSink) -> None:
    sink.apply_pair(pair, first=not prediction.first_pair_counted)
    prediction.first_pair_counted = True
    if prediction.logged and not prediction.is_delay_counted:  # only now do prediction and truth meet
        sink.delay(prediction, truth)
        prediction.is_delay_counted = True


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
        kept.path, kept.is_fallback_scored = other.path, other.is_fallback_scored
        kept.key_indexes_by_preference = other.key_indexes_by_preference
    kept.other_key_indexes = bytes(key for key in dict.fromkeys(keys) if key not in kept.key_indexes_by_preference)


def _settle_rewards(record: PairingRecord, sink: EffectSink) -> None:
    """Counts of all rewards for one thing the latest: for a prediction, as far as the log tells, else for a node."""
    standing = {id(aim.reward): _target_of(aim) for aim in _standing_aims(record)}
    for reward in record.rewards:
        target, before = standing.get(id(reward)), reward.applied
        if before is not None:
            counted = reward.counted_labels, before.at, reward.counted_slices
            if counted == target and before.value == reward.value:
                continue
            sink.retract_reward(before)
            reward.applied = reward.counted_labels = None
        if target is not None:
            reward.applied = sink.apply_reward(reward.value, target)
            reward.counted_labels, reward.counted_slices = target.labels, target.slices


def _drop_surplus_rewards(record: PairingRecord, sink: EffectSink) -> None:
    """Drops the oldest rewards beyond the limit, those that do not count first: nobody vouches for the nodes named."""
    while len(record.rewards) > MAX_REWARDS:
        dropped = min(record.rewards, key=lambda each: (each.applied is not None, each.time, _encode(each.content)))
        if dropped.applied is not None:
            sink.retract_reward(dropped.applied)
        record.rewards.remove(dropped)


class _Aim(NamedTuple):
    """What a reward is about: a logged prediction, or None while none is logged; and the keys to tell requests by."""

    reward: Reward
    about: Prediction | None
    keys: bytes

    def is_same(self, other: _Aim) -> bool:
        """Tells whether both are counted for one thing."""
        if self.about is not None or other.about is not None:
            return self.about is other.about
        return are_same_model(self.reward.fallback, other.reward.fallback) and share_key(self.keys, other.keys)


def _standing_aims(record: PairingRecord) -> list[_Aim]:
    """Selects the rewards that stand. Without routing every arm logs the same reward, and the latest counts once."""
    standing: list[_Aim] = []
    for reward in sorted(record.rewards, key=lambda each: (each.time, _encode(each.content)), reverse=True):
        keys = reward.key_indexes_by_preference + reward.other_key_indexes
        aim = _Aim(reward, _rewarded_prediction(record, reward), keys)
        counts = aim.about is not None or reward.is_fallback_scored
        if counts and not any(aim.is_same(other) for other in standing):
            standing.append(aim)
    return standing


def _target_of(aim: _Aim) -> RewardTarget:
    if aim.about is None:
        return RewardTarget(aim.reward.fallback, aim.reward.at, aim.reward.slices)
    return RewardTarget(aim.about.labels, aim.about.at, aim.about.slices)


def _rewarded_prediction(record: PairingRecord, reward: Reward) -> Prediction | None:
    """Finds the logged prediction that a reward is about: of the node that says it, else of one that served."""
    logged = [one for one in record.predictions if one.logged and _covers(reward.labels, one.labels)]
    own = [one for one in logged if one.labels.model == reward.labels.model]
    served = [one for one in logged if not reward.path or one.labels.model in reward.path]
    for group in (own, served):
        # By the first of its own keys under which there is any, else by those of rewards that it replaced.
        for keys in (*(bytes([key]) for key in reward.key_indexes_by_preference), reward.other_key_indexes):
            if found := [one for one in group if share_key(keys, one.key_indexes)]:
                return min(found, key=lambda one: (one.labels, one.at, one.slices))
    return None


def _covers(labels: Labels, logged: Labels) -> bool:
    return labels.namespace in ("", logged.namespace) and labels.deployment in ("", logged.deployment)
