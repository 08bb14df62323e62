"""A case: everything that has arrived for one row of one request, as it is kept.

A case is filed under the key of a row: the digest of a request id and the number of the row. When a half is known by several ids,
the cases of all of them become one; the other keys then only point to it, and `also` names them, so that each half can say under
which of them it was filed.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from metrics_server.series import Labels
from metrics_server.task import Value

# Digests of the events remembered in a case. Beyond them, a redelivery still changes no number: it is equal or older.
MAX_SEEN = 64
# Truths with different stated scopes or ids that are kept for one row; a real one has one or two.
MAX_SCOPES = 64
# Keys that one case is filed under. A client that gives every request the same id joins no more of them than this.
MAX_KEYS = 16

Weight: TypeAlias = "int | float"  # 1 nearly always, which takes one byte as an integer

OWN = b"\0"  # filed under the case's own key alone


class Applied(msgspec.Struct, array_like=True, gc=False):
    """What a pair, a logged row or a reward has put into the sums of a series: enough to take exactly that out again."""

    series: int
    born: float  # when that series was made: one that left and came back under the same id has none of this
    at: float  # prediction time: which bucket
    y_true: Value
    y_pred: Value
    slices: list[tuple[int, float]] = []  # the series of its slices, and when each was made
    weight: Weight = 1


class Said(msgspec.Struct, array_like=True, gc=False):
    """A prediction: what a model said about this row.

    `logged` tells a row of the request log from the response that a feedback carried along. Of the former there is one for each
    request id and set of labels, of the latter one for each (namespace, deployment, model): feedback is balanced afresh over
    predictors.
    """

    labels: Labels
    at: float  # seconds: when it was predicted, as far as known
    time: float  # seconds: the event's time, which orders halves
    logged: bool
    value: Value
    pair: Applied | None = None
    truth: Value = None  # the raw truth that `pair` was made with
    settled: bool = False  # whether `truth` says anything: a retracted truth is None too
    row: Applied | None = None  # a logged row, as counted in its bucket
    under: bytes = OWN  # the keys it is filed under, as indexes; of a logged one the first is that of its own request id
    slices: list[str] = []  # such as "tenant=b 7"
    was_first: bool = False  # whether it once had a truth, which was counted as its first, and which turned out to be about another
    weight: Weight = 1  # of `truth`

    def is_same(self, other: Said) -> bool:
        if self.logged:
            return other.logged and self.labels == other.labels and self.under[0] == other.under[0]
        return not other.logged and are_alike(self.labels, other.labels) and share(self.under, other.under)


def are_alike(labels: Labels, other: Labels) -> bool:
    """Whether both are about one prediction, whatever the predictor: what a feedback says of itself gives way to the log."""
    (a, b, _, c), (x, y, _, z) = labels, other
    return a == x and b == y and c == z


def share(keys: bytes, others: bytes) -> bool:
    """Whether two halves are filed under one key."""
    return keys == others or not set(keys).isdisjoint(others)


class Known(msgspec.Struct, array_like=True, gc=False):
    """A truth about this row; with a namespace or deployment stated, only about predictions of those. None retracts."""

    namespace: str
    deployment: str
    time: float
    value: Value
    order: bytes = OWN  # the keys to join on, as indexes, the best first
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
    where: Labels | None = None  # the labels of the prediction that `applied` was counted for
    applied: Applied | None = None
    order: bytes = OWN  # as of a truth
    slices: list[str] = []
    others: bytes = b""  # further keys, of rewards that it replaced
    counted: list[str] = []  # the slices of that prediction


class Case(msgspec.Struct, array_like=True, gc=False):
    """Everything that has arrived for one row of one request."""

    seen: list[bytes] = []
    said: list[Said] = []
    known: list[Known] = []
    rewards: list[Reward] = []
    received: int = 0  # seconds: when it was first received, or last renewed
    also: list[bytes] = []  # further keys it is filed under; its own has index 0
    named: list[bytes] = []  # in the first row: pairs of digests, a request id and an id the client gave the same request
    rows: int = 1  # in the first row: how many rows of this request are known


_encode = msgspec.msgpack.Encoder().encode
_decode_case = msgspec.msgpack.Decoder(Case).decode
_decode_key = msgspec.msgpack.Decoder(bytes).decode
_POINTERS = b"\xc4"  # how msgpack begins a short byte string


def encode_case(case: Case) -> bytes:
    """A case as a store keeps it."""
    return _encode(case)


def encode_pointer(key: bytes) -> bytes:
    """What a store keeps under a key whose case has become one with that of another key."""
    return _encode(key)


def decode_record(value: bytes) -> Case | bytes:
    """A case that a store has kept, or the key to which its own points."""
    return _decode_key(value) if value[:1] == _POINTERS else _decode_case(value)


def remember(case: Case, event: bytes) -> None:
    """Notes that this event has been taken, so that a redelivery is known."""
    case.seen.append(event)
    del case.seen[:-MAX_SEEN]


def waiting(case: Case) -> tuple[int, int]:
    """How many logged predictions of this row wait for a truth, or for another after it was taken back; how many truths wait."""
    if len(case.said) == 1 and case.said[0].truth is not None and len(case.known) == 1:
        return 0, 0  # what nearly all come to
    return sum(said.logged and said.truth is None for said in case.said), len(idle(case))


def idle(case: Case) -> list[Known]:
    """The truths that are about no prediction of those that are there."""
    return [known for known in case.known if known.value is not None and not any(known.covers(said.labels) for said in case.said)]


def absorb(case: Case, own: bytes, key: bytes, other: Case) -> None:
    """Takes what has arrived in the case of another key into this one; what stands is for the caller to settle.

    Args:
        case: the one that stays.
        own: its key.
        key: that of the other. A key may be in both: one that pointed to a case which outlived it, and came again.
        other: what was there.
    """
    names = [own, *case.also]
    names += [each for each in (key, *other.also) if each not in names]
    moved = bytes(names.index(each) for each in (key, *other.also))
    for said in other.said:
        said.under = said.under.translate(_shift(moved))
    for known in other.known:
        known.order = known.order.translate(_shift(moved))
    for reward in other.rewards:
        reward.order = reward.order.translate(_shift(moved))
        reward.others = reward.others.translate(_shift(moved))
    case.also = names[1:]
    case.said += other.said
    case.known += other.known
    case.rewards += other.rewards
    case.named += [pair for pair in other.named if pair not in case.named]
    case.rows = max(case.rows, other.rows)
    for event in other.seen:
        if event not in case.seen:
            remember(case, event)


def _shift(moved: bytes) -> bytes:
    """A translation table that puts the index i of an absorbed case at moved[i]."""
    return moved + bytes(256 - len(moved))
