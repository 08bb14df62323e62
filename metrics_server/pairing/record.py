"""The pairing record: everything that has arrived for one row of one request, as a store keeps it.

A record is filed under the key of a row: the digest of a request id and the number of the row. A request that is known
by several ids has one record all the same: the other keys hold a redirect to it, `alias_keys` names them, and each
prediction, truth and reward says by index under which of these keys it was filed.

Records are encoded by position. Fields may be renamed, and new ones added at the end with a default; none may move.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from metrics_server.metrics.labels import LabelStatus
from metrics_server.metrics.task import RowValue
from metrics_server.series.series import Labels

# Digests of events remembered in a record. Beyond them a redelivery still changes no number: it is equal or older.
MAX_EVENT_DIGESTS = 64
# Truths with different stated scopes or ids that are kept for one row; a real one has one or two.
MAX_TRUTHS = 64
# Models that feedback of one prediction names; one that names more, all together, gives way to any model.
MAX_CANDIDATES = 128
# Nodes that say a reward for one row; a graph has a handful.
MAX_REWARDS = 64
# Keys that one record is filed under. A client that gives every request the same id joins no more of them than this.
MAX_KEYS = 16

Weight: TypeAlias = "int | float"  # 1 nearly always, which takes one byte as an integer

OWN_KEY = b"\0"  # filed under the record's own key alone


class Contribution(msgspec.Struct, array_like=True, gc=False):
    """What a pair has put into the sums of a series: enough to take exactly that out again.

    Attributes:
        series: id of the series.
        series_created_at: when that was made; one that left and came back under the same id holds nothing of this.
        at: prediction time in seconds, which tells the bucket.
        y_true: the truth as the metric model took it.
        y_pred: the prediction as the metric model took it.
        slices: ids of the slices it was put into too, and when each was made.
        weight: of the truth.
        is_too_old: whether it was older than the history when it was counted, so that it is in no window.
    """

    series: int
    series_created_at: float
    at: float
    y_true: RowValue
    y_pred: RowValue
    slices: list[tuple[int, float]] = []
    weight: Weight = 1
    is_too_old: bool = False


class Comparison(msgspec.Struct, array_like=True, gc=False):
    """What a pair beside one of another predictor, of the same row, has put into the sums of its series.

    Attributes:
        series: as of `Contribution`; so are the next two.
        other: id of the series that it is compared with.
        outcome: 1 if it alone was right, -1 if the other alone was, 0 for both or none.
    """

    series: int
    series_created_at: float
    at: float
    other: int
    outcome: int


class RowContribution(msgspec.Struct, array_like=True, gc=False):
    """What a row of the request log has put into the sums of a series; as `Contribution`, by the same positions.

    Attributes:
        label: the class that was predicted; None when it is none.
        number: the number that was predicted; None when it is none.
        is_class_counted: whether it was counted by class.
    """

    series: int
    series_created_at: float
    at: float
    label: str | None
    number: int | float | None
    slices: list[tuple[int, float]] = []
    is_class_counted: bool = False


class RewardContribution(msgspec.Struct, array_like=True, gc=False):
    """What a reward has put into the sums of a series; as `Contribution`, by the same positions."""

    series: int
    series_created_at: float
    at: float
    unused: None
    value: float
    slices: list[tuple[int, float]] = []


class Prediction(msgspec.Struct, array_like=True, gc=False):
    """What a model said about this row.

    A logged prediction is a row of the request log; a carried one came along in the response of a feedback. There is
    one logged prediction for each request id and set of labels, and one carried for each (namespace, deployment,
    model), because feedback is balanced afresh over predictors.

    Attributes:
        at: when it was predicted, in seconds, as far as known.
        time: of the event, in seconds; of two that contradict each other the later stands.
        pair: what it has contributed together with `truth`; None without a scorable truth.
        truth: the raw truth that `pair` was made with.
        has_truth: whether `truth` says anything: a retracted truth is None too.
        row: what a logged row has contributed by itself.
        key_indexes: the keys it is filed under; of a logged one the first is that of its own request id.
        slices: such as "tenant=b 7".
        first_pair_counted: whether a pair of it was counted as its first, or one of a carried prediction that gave way.
        weight: of `truth`.
        candidates: of a carried one, the models whose logged prediction it gives way to: any if none is listed; None
            for its own alone.
        path_size: of a logged one, how many nodes its requestPath names.
        failure: why `truth` makes no pair, as it was counted.
        is_delay_counted: of a logged one, whether the delay of its first label was counted.
        row_count: how many rows its event had; of a logged one the answer of its node.
    """

    labels: Labels
    at: float
    time: float
    logged: bool
    value: RowValue
    pair: Contribution | None = None
    truth: RowValue = None
    has_truth: bool = False
    row: RowContribution | None = None
    key_indexes: bytes = OWN_KEY
    slices: list[str] = []
    first_pair_counted: bool = False
    weight: Weight = 1
    candidates: list[str] | None = None
    path_size: int = 0
    failure: LabelStatus | None = None
    is_delay_counted: bool = False
    row_count: int = 1

    def is_same(self, other: Prediction) -> bool:
        """Tells whether both are one prediction, of which the later stands."""
        if self.logged:
            return other.logged and self.labels == other.labels and self.key_indexes[0] == other.key_indexes[0]
        return not other.logged and self.is_of_same_model(other)

    def is_of_same_model(self, other: Prediction) -> bool:
        """Tells whether both are of one model and one request id, whatever the predictor."""
        return are_same_model(self.labels, other.labels) and share_key(self.key_indexes, other.key_indexes)

    def gives_way_to(self, other: Prediction) -> bool:
        """Tells whether this carried prediction is the other: by a candidate, of the deployment if it names one.

        >>> carried = Prediction(Labels("shop", "wine", "", ""), 0, 0, False, 1, candidates=[])
        >>> carried.gives_way_to(Prediction(Labels("shop", "wine", "main", "classifier"), 0, 0, True, 1))
        True
        """
        (namespace, deployment, _, model), (theirs, its_deployment, _, its_model) = self.labels, other.labels
        if namespace not in ("", theirs) or deployment not in ("", its_deployment):
            return False
        if self.candidates is None:
            is_candidate = model == its_model
        else:
            is_candidate = not self.candidates or its_model in self.candidates
        return is_candidate and share_key(self.key_indexes, other.key_indexes)

    def add_candidates(self, others: list[str] | None) -> None:
        """Adds candidates of a carried prediction that turned out to be this one; too many are any."""
        if self.candidates == others:
            return
        mine, more = ([self.labels.model] if each is None else each for each in (self.candidates, others))
        both = sorted({*mine, *more}) if mine and more else []
        self.candidates = both if len(both) <= MAX_CANDIDATES else []

    @property
    def rank(self) -> tuple[int, float]:
        """What decides which of two responses of one node stands: it logs its own output, then that of its children."""
        return self.path_size, self.time

    @property
    def content(self) -> list[object]:
        """Tells what orders predictions of one time."""
        return [self.labels, self.value, self.slices]


def are_same_model(labels: Labels, other: Labels) -> bool:
    """Tells whether both are of one model of a deployment, whatever the predictor."""
    (a, b, _, c), (x, y, _, z) = labels, other
    return a == x and b == y and c == z


def share_key(keys: bytes, others: bytes) -> bool:
    """Tells whether two sets of key indexes have a key in common."""
    return keys == others or not set(keys).isdisjoint(others)


class Truth(msgspec.Struct, array_like=True, gc=False):
    """What turned out about this row. A value of None retracts.

    Attributes:
        namespace: "" for any; else it is only about predictions of this namespace.
        deployment: "" for any; else only about predictions of this deployment.
        key_indexes_by_preference: the keys to join on, the best first.
        labels: what its event named, while it came without a response.
        flat: a flat list that was sent without types, whose first element is `value`: truths of as many rows, or one
            row of as many columns, whatever the predictions say. Empty for any other truth.
        is_one_row: whether `flat` is one row whatever they say.
    """

    namespace: str
    deployment: str
    time: float
    value: RowValue
    key_indexes_by_preference: bytes = OWN_KEY
    labels: Labels | None = None
    weight: Weight = 1
    flat: list[int | float | bool | str] = []
    is_one_row: bool = False

    def covers(self, labels: Labels) -> bool:
        """Tells whether its scope holds predictions with these labels."""
        return self.namespace in ("", labels[0]) and self.deployment in ("", labels[1])

    @property
    def content(self) -> list[object]:
        """Tells what orders truths of one time."""
        return [self.flat or self.value, self.weight]

    @property
    def row(self) -> RowValue:
        """The flat list as one row; its first element where that is none."""
        if not all(isinstance(value, (int, float)) for value in self.flat):
            return self.value
        return [float(value) for value in self.flat]


class Reward(msgspec.Struct, array_like=True, gc=False):
    """A reward given for the request; of several for one (namespace, deployment, model) the latest stands.

    Attributes:
        labels: of the node that logged the feedback.
        counted_labels: the labels of the prediction that it was counted for.
        applied: what it has contributed.
        key_indexes_by_preference: the keys to join on, the best first.
        other_key_indexes: further keys, of rewards that it replaced.
        counted_slices: the slices of the prediction that it was counted for.
        path: the nodes that the response went through.
        is_fallback_scored: whether it counts while no prediction of the request is logged.
    """

    labels: Labels
    at: float
    time: float
    value: float
    counted_labels: Labels | None = None
    applied: RewardContribution | None = None
    key_indexes_by_preference: bytes = OWN_KEY
    slices: list[str] = []
    other_key_indexes: bytes = b""
    counted_slices: list[str] = []
    path: list[str] = []
    is_fallback_scored: bool = True

    @property
    def fallback(self) -> Labels:
        """The labels that it counts for while no prediction is logged: of the only node that served, or its own."""
        return self.labels._replace(model=self.path[0]) if len(self.path) == 1 else self.labels

    @property
    def content(self) -> list[object]:
        """Tells what orders rewards of one time."""
        return [*self.labels, self.value, self.slices, self.path]


class PairingRecord(msgspec.Struct, array_like=True, gc=False):
    """Everything that has arrived for one row of one request.

    Attributes:
        event_digests: of the events taken, the latest of them.
        received_at: when it was first received, or last renewed, in seconds.
        alias_keys: further keys it is filed under; its own key has index 0, the first of these index 1.
        request_aliases: in the record of the first row: pairs of digests, each of a request id and of another id that
            the client gave to the same request.
        row_count: in the record of the first row: how many rows of this request are known, at least.
        numbered_keys: in the record of the first row: indexes of the keys under which feedback names further rows.
        flat_truths: in the record of the first row: flat lists that are not filed under their other rows, because
            nothing says yet that there are any.
        is_erased: whether the request was erased, so that nothing is taken of it any more. Its other fields are empty,
            but for the keys that lead here.
        comparisons: of its predictions, as they were counted.
        withdrawn: logged predictions that do not stand, because the answer of their node has fewer rows.
    """

    event_digests: list[bytes] = []
    predictions: list[Prediction] = []
    truths: list[Truth] = []
    rewards: list[Reward] = []
    received_at: int = 0
    alias_keys: list[bytes] = []
    request_aliases: list[bytes] = []
    row_count: int = 1
    flat_truths: list[Truth] = []
    numbered_keys: bytes = b""
    is_erased: bool = False
    comparisons: list[Comparison] = []
    withdrawn: list[Prediction] = []


_encode = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(PairingRecord).decode
_decode_key = msgspec.msgpack.Decoder(bytes).decode
_REDIRECT = b"\xc4"  # how msgpack begins a short byte string


def encode_record(record: PairingRecord) -> bytes:
    """Encodes a record as a store keeps it."""
    return _encode(record)


def encode_redirect(key: bytes) -> bytes:
    """Encodes the redirect that stands under a key whose record has become one with that of another key."""
    return _encode(key)


def decode_record(value: bytes) -> PairingRecord | bytes:
    """Decodes what a store has kept: a record, or the key to which a redirect leads."""
    return _decode_key(value) if value[:1] == _REDIRECT else _decode_record(value)


def remember_event(record: PairingRecord, event: bytes) -> None:
    """Notes that this event has been taken, so that a redelivery is known."""
    record.event_digests.append(event)
    del record.event_digests[:-MAX_EVENT_DIGESTS]


def pending_rows(record: PairingRecord) -> tuple[int, int]:
    """Counts the logged predictions without a truth, or whose truth was retracted, and the truths that wait."""
    if len(record.predictions) == 1 and record.predictions[0].truth is not None and len(record.truths) == 1:
        return 0, 0  # what nearly all come to
    waiting = sum(prediction.logged and prediction.truth is None for prediction in record.predictions)
    return waiting, len(unmatched_truths(record))


def unmatched_truths(record: PairingRecord) -> list[Truth]:
    """Lists the truths that are about none of the predictions that are there."""
    return [
        truth
        for truth in record.truths
        if truth.value is not None and not any(truth.covers(prediction.labels) for prediction in record.predictions)
    ]


def absorb_record(record: PairingRecord, own: bytes, key: bytes, other: PairingRecord) -> None:
    """Takes what has arrived in the record of another key into this one. What stands then is for the caller to settle.

    Args:
        record: the one that stays.
        own: its key.
        key: of the other. A key may be in both: one that led to a record which outlived it, and came again.
        other: what was filed under that.
    """
    keys = [own, *record.alias_keys]
    keys += [each for each in (key, *other.alias_keys) if each not in keys]
    remap_key_indexes(other, bytes(keys.index(each) for each in (key, *other.alias_keys)))
    record.alias_keys = keys[1:]
    record.predictions += other.predictions
    record.truths += other.truths
    record.rewards += other.rewards
    record.flat_truths += other.flat_truths
    record.numbered_keys = bytes(dict.fromkeys(record.numbered_keys + other.numbered_keys))
    record.request_aliases += [pair for pair in other.request_aliases if pair not in record.request_aliases]
    record.row_count = max(record.row_count, other.row_count)
    record.comparisons += other.comparisons
    record.withdrawn += other.withdrawn
    for event in other.event_digests:
        if event not in record.event_digests:
            remember_event(record, event)


def remap_key_indexes(record: PairingRecord, new_indexes: bytes) -> None:
    """Renumbers the keys of a record: what was filed under index i is filed under new_indexes[i]."""
    table = new_indexes + bytes(256 - len(new_indexes))
    record.numbered_keys = record.numbered_keys.translate(table)
    for prediction in (*record.predictions, *record.withdrawn):
        prediction.key_indexes = prediction.key_indexes.translate(table)
    for truth in (*record.truths, *record.flat_truths):
        truth.key_indexes_by_preference = truth.key_indexes_by_preference.translate(table)
    for reward in record.rewards:
        reward.key_indexes_by_preference = reward.key_indexes_by_preference.translate(table)
        reward.other_key_indexes = reward.other_key_indexes.translate(table)
