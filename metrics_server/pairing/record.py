"""A case: everything that has arrived for one row of one request, as it is kept.

A case is filed under the key of a row: the digest of a request id and the number of the row. When a half is known by
several ids, the cases of all of them become one; the other keys then only point to it, and `also` names them, so that
each half can say under which of them it was filed.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from metrics_server.metrics.task import RowValue
from metrics_server.series.series import Labels

# Digests of the events remembered in a case. Beyond them, a redelivery still changes no number: it is equal or older.
MAX_EVENT_DIGESTS = 64
# Truths with different stated scopes or ids that are kept for one row; a real one has one or two.
MAX_TRUTHS = 64
# Keys that one case is filed under. A client that gives every request the same id joins no more of them than this.
MAX_KEYS = 16

Weight: TypeAlias = "int | float"  # 1 nearly always, which takes one byte as an integer

OWN_KEY = b"\0"  # filed under the case's own key alone


class Contribution(msgspec.Struct, array_like=True, gc=False):
    """What a pair, a logged row or a reward has put into the sums of a series: enough to take exactly that out
    again.
    """

    series: int
    series_created_at: (
        float  # when that series was made: one that left and came back under the same id has none of this
    )
    at: float  # prediction time: which bucket
    y_true: RowValue
    y_pred: RowValue
    slices: list[tuple[int, float]] = []  # the series of its slices, and when each was made
    weight: Weight = 1


class Prediction(msgspec.Struct, array_like=True, gc=False):
    """A prediction: what a model said about this row.

    `logged` tells a row of the request log from the response that a feedback carried along. Of the former there is one
    for each request id and set of labels, of the latter one for each (namespace, deployment, model): feedback is
    balanced afresh over predictors.
    """

    labels: Labels
    at: float  # seconds: when it was predicted, as far as known
    time: float  # seconds: the event's time, which orders halves
    logged: bool
    value: RowValue
    pair: Contribution | None = None
    truth: RowValue = None  # the raw truth that `pair` was made with
    has_truth: bool = False  # whether `truth` says anything: a retracted truth is None too
    row: Contribution | None = None  # a logged row, as counted in its bucket
    key_indexes: bytes = (
        OWN_KEY  # the keys it is filed under, as indexes; of a logged one the first is that of its own request id
    )
    slices: list[str] = []  # such as "tenant=b 7"
    first_truth_counted: bool = (
        False  # whether it once had a truth, which was counted as its first, and which turned out to be about another
    )
    weight: Weight = 1  # of `truth`

    def is_same(self, other: Prediction) -> bool:
        if self.logged:
            return other.logged and self.labels == other.labels and self.key_indexes[0] == other.key_indexes[0]
        return (
            not other.logged
            and are_same_model(self.labels, other.labels)
            and share_key(self.key_indexes, other.key_indexes)
        )


def are_same_model(labels: Labels, other: Labels) -> bool:
    """Whether both are about one prediction, whatever the predictor: what a feedback says of itself gives way to the
    log.
    """
    (a, b, _, c), (x, y, _, z) = labels, other
    return a == x and b == y and c == z


def share_key(keys: bytes, others: bytes) -> bool:
    """Whether two halves are filed under one key."""
    return keys == others or not set(keys).isdisjoint(others)


class Truth(msgspec.Struct, array_like=True, gc=False):
    """A truth about this row; with a namespace or deployment stated, only about predictions of those. None retracts."""

    namespace: str
    deployment: str
    time: float
    value: RowValue
    key_indexes_by_preference: bytes = OWN_KEY  # the keys to join on, as indexes, the best first
    labels: Labels | None = None  # what its event named, while it came without a response
    weight: Weight = 1

    def covers(self, labels: Labels) -> bool:
        return self.namespace in ("", labels[0]) and self.deployment in ("", labels[1])


class Reward(msgspec.Struct, array_like=True, gc=False):
    """A reward given for the request; of several for one (namespace, deployment, model) the latest stands."""

    labels: Labels
    at: float
    time: float
    value: float
    counted_labels: Labels | None = None  # the labels of the prediction that `applied` was counted for
    applied: Contribution | None = None
    key_indexes_by_preference: bytes = OWN_KEY  # as of a truth
    slices: list[str] = []
    other_key_indexes: bytes = b""  # further keys, of rewards that it replaced
    counted_slices: list[str] = []  # the slices of that prediction


class PairingRecord(msgspec.Struct, array_like=True, gc=False):
    """Everything that has arrived for one row of one request."""

    event_digests: list[bytes] = []
    predictions: list[Prediction] = []
    truths: list[Truth] = []
    rewards: list[Reward] = []
    received_at: int = 0  # seconds: when it was first received, or last renewed
    alias_keys: list[bytes] = []  # further keys it is filed under; its own has index 0
    request_aliases: list[
        bytes
    ] = []  # in the first row: pairs of digests, a request id and an id the client gave the same request
    row_count: int = 1  # in the first row: how many rows of this request are known


_encode = msgspec.msgpack.Encoder().encode
_decode_case = msgspec.msgpack.Decoder(PairingRecord).decode
_decode_key = msgspec.msgpack.Decoder(bytes).decode
_POINTERS = b"\xc4"  # how msgpack begins a short byte string


def encode_record(case: PairingRecord) -> bytes:
    """A case as a store keeps it."""
    return _encode(case)


def encode_redirect(key: bytes) -> bytes:
    """What a store keeps under a key whose case has become one with that of another key."""
    return _encode(key)


def decode_record(value: bytes) -> PairingRecord | bytes:
    """A case that a store has kept, or the key to which its own points."""
    return _decode_key(value) if value[:1] == _POINTERS else _decode_case(value)


def remember_event(case: PairingRecord, event: bytes) -> None:
    """Notes that this event has been taken, so that a redelivery is known."""
    case.event_digests.append(event)
    del case.event_digests[:-MAX_EVENT_DIGESTS]


def pending_rows(case: PairingRecord) -> tuple[int, int]:
    """How many logged predictions of this row wait for a truth, or for another after it was taken back; how many truths
    wait.
    """
    if len(case.predictions) == 1 and case.predictions[0].truth is not None and len(case.truths) == 1:
        return 0, 0  # what nearly all come to
    return sum(prediction.logged and prediction.truth is None for prediction in case.predictions), len(
        unmatched_truths(case)
    )


def unmatched_truths(case: PairingRecord) -> list[Truth]:
    """The truths that are about no prediction of those that are there."""
    return [
        truth
        for truth in case.truths
        if truth.value is not None and not any(truth.covers(prediction.labels) for prediction in case.predictions)
    ]


def absorb_record(case: PairingRecord, own: bytes, key: bytes, other: PairingRecord) -> None:
    """Takes what has arrived in the case of another key into this one; what stands is for the caller to settle.

    Args:
        case: the one that stays.
        own: its key.
        key: that of the other. A key may be in both: one that pointed to a case which outlived it, and came again.
        other: what was there.
    """
    names = [own, *case.alias_keys]
    names += [each for each in (key, *other.alias_keys) if each not in names]
    moved = bytes(names.index(each) for each in (key, *other.alias_keys))
    for prediction in other.predictions:
        prediction.key_indexes = prediction.key_indexes.translate(_shift(moved))
    for truth in other.truths:
        truth.key_indexes_by_preference = truth.key_indexes_by_preference.translate(_shift(moved))
    for reward in other.rewards:
        reward.key_indexes_by_preference = reward.key_indexes_by_preference.translate(_shift(moved))
        reward.other_key_indexes = reward.other_key_indexes.translate(_shift(moved))
    case.alias_keys = names[1:]
    case.predictions += other.predictions
    case.truths += other.truths
    case.rewards += other.rewards
    case.request_aliases += [pair for pair in other.request_aliases if pair not in case.request_aliases]
    case.row_count = max(case.row_count, other.row_count)
    for event in other.event_digests:
        if event not in case.event_digests:
            remember_event(case, event)


def _shift(moved: bytes) -> bytes:
    """A translation table that puts the index i of an absorbed case at moved[i]."""
    return moved + bytes(256 - len(moved))
