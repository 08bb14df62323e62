"""What meets what: predictions and truths of one request row, in any order, any number of times.

A `Case` holds what has arrived for one row of one request id. Which prediction and which truth stand is a function of the set
of halves that arrived, never of their order: for each prediction key the latest event wins, for each row the latest truth.
`arrive` is the only thing that changes a case; it returns the moves that bring the sums from what was applied before to
what stands now. Nothing here knows sums, stores, sockets or the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from metrics_server.series import Labels
from metrics_server.task import Resolved, Value

MATCHED, DUPLICATE, CORRECTED, RETRACTED, SUPERSEDED = "matched", "duplicate", "corrected", "retracted", "superseded"

# Digests of the events remembered in a case. Beyond them, a redelivery still changes no number: it is equal or older.
MAX_SEEN = 64
# Truths with different stated scopes that are kept for one row; a real one has one or two.
MAX_SCOPES = 64


class Applied(msgspec.Struct, array_like=True, gc=False):
    """What a pair, a logged row or a reward has put into the sums of a series: enough to take exactly that out again."""

    series: int
    born: float  # when that series was made: one that left and came back under the same id has none of this
    at: float  # prediction time: which bucket
    y_true: Value
    y_pred: Value


class Said(msgspec.Struct, array_like=True, gc=False):
    """A prediction: what a model said about this row.

    `logged` tells a row of the request log from the response that a feedback carried along. Of the former there is one for each
    set of labels, of the latter one for each (namespace, deployment, model): feedback is balanced afresh over predictors.
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

    def is_same(self, other: Said) -> bool:
        return self.logged == other.logged and (self.labels == other.labels if self.logged else _alike(self.labels, other.labels))


def _alike(labels: Labels, other: Labels) -> bool:
    """Whether both are about one prediction, whatever the predictor: what a feedback says of itself gives way to the log."""
    (a, b, _, c), (x, y, _, z) = labels, other
    return a == x and b == y and c == z


class Known(msgspec.Struct, array_like=True, gc=False):
    """A truth about this row; with a namespace or deployment stated, only about predictions of those. None retracts."""

    namespace: str
    deployment: str
    time: float
    value: Value

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


class Case(msgspec.Struct, array_like=True, gc=False):
    """Everything that has arrived for one row of one request id."""

    seen: list[bytes]
    said: list[Said]
    known: list[Known]
    rewards: list[Reward]


class Arrival(msgspec.Struct, gc=False):
    """The halves that one event brings for one row: either, both, or a reward besides."""

    said: Said | None = None
    known: Known | None = None
    reward: Reward | None = None


class Book(Protocol):
    """Where the effects of pairing are written down; see `metrics_server.ledger`."""

    def resolve(self, labels: Labels, truth: Value, prediction: Value) -> tuple[int, float, Resolved]:
        """The series of a prediction, when it was made, and the pair as its model takes it or the status that says why not."""

    def apply_pair(self, applied: Applied, *, first: bool) -> None: ...
    def take_pair(self, applied: Applied) -> None: ...
    def apply_row(self, said: Said, *, first: bool) -> Applied: ...
    def take_row(self, applied: Applied) -> None: ...
    def apply_reward(self, reward: Reward, labels: Labels, at: float, *, first: bool) -> Applied: ...
    def take_reward(self, applied: Applied) -> None: ...
    def status(self, labels: Labels, status: str, at: float) -> None: ...


_encode = msgspec.msgpack.Encoder().encode
_decode_case = msgspec.msgpack.Decoder(Case).decode


def empty_case() -> Case:
    """A case in which nothing has arrived yet."""
    return Case([], [], [], [])


def encode_case(case: Case) -> bytes:
    """A case as a store keeps it."""
    return _encode(case)


def decode_case(value: bytes) -> Case:
    """A case that a store has kept."""
    return _decode_case(value)


def remember(case: Case, event: bytes) -> None:
    """Notes that this event has been taken, so that a redelivery is known."""
    case.seen.append(event)
    del case.seen[:-MAX_SEEN]


def is_waiting(case: Case) -> bool:
    """Whether a truth is there, and no prediction."""
    return bool(case.known) and not case.said


def arrive(case: Case, arrival: Arrival, book: Book) -> None:
    """Takes the halves into the case and writes into the book what that changes."""
    changed = None if arrival.said is None else _take_said(case, arrival.said, book)
    if arrival.known is not None:
        case.known = _latest(case.known, arrival.known)[-MAX_SCOPES:]
    _settle(case, changed, arrival.known, book)
    if arrival.reward is not None:
        _take_reward(case, arrival.reward)
    for reward in case.rewards:
        _settle_reward(case, reward, book)


def _is_later(time: float, value: object, than_time: float, than_value: object) -> bool:
    """The order of halves of one key: the event's time, then, so that any order of arrival ends the same, the content."""
    return time > than_time or (time == than_time and _encode(value) > _encode(than_value))


def _take_said(case: Case, said: Said, book: Book) -> Said | None:
    """The prediction that is new or was replaced; None when a later one stands already."""
    for old in case.said:
        if old.is_same(said):
            break
    else:
        said = msgspec.structs.replace(said)  # the arrival itself stays as it is: it may have to be taken again
        case.said.append(said)
        if said.logged:
            said.row = book.apply_row(said, first=True)
        return said
    # When only feedback tells of a prediction, it was made at the latest when the earliest of them was sent.
    at = said.at if said.logged else min(old.at, said.at)
    if not _is_later(said.time, [said.labels, said.value], old.time, [old.labels, old.value]):
        changed = not said.logged and at != old.at
        old.at = at if not said.logged else old.at
        return old if changed else None
    changed = (old.value, old.at, old.labels) != (said.value, at, said.labels)
    old.labels, old.at, old.time, old.value = said.labels, at, said.time, said.value
    if changed and old.row is not None:
        book.take_row(old.row)
        old.row = book.apply_row(old, first=False)
    return old if changed else None


def _latest(known: list[Known], arrived: Known) -> list[Known]:
    """The truths with this one among them: of each scope the latest."""
    for index, old in enumerate(known):
        if (old.namespace, old.deployment) == (arrived.namespace, arrived.deployment):
            if not _is_later(arrived.time, arrived.value, old.time, old.value):
                return known
            return [*known[:index], arrived, *known[index + 1 :]]
    return [*known, arrived]


def _standing(known: Iterable[Known], labels: Labels) -> Known | None:
    """The truth that stands for a prediction with these labels."""
    best: Known | None = None
    for truth in known:
        if truth.covers(labels) and (best is None or _is_later(truth.time, truth.value, best.time, best.value)):
            best = truth
    return best


def _settle(case: Case, changed: Said | None, arrived: Known | None, book: Book) -> None:
    """Brings every prediction's pair to what stands now, and tells what became of the truth that arrived."""
    logged = [said.labels for said in case.said if said.logged]
    moved: list[Labels] = []
    for said in case.said:
        if not said.logged and _is_logged(said.labels, logged) and said.pair is not None:
            book.take_pair(said.pair)
            moved.append(said.labels)
            said.pair, said.truth, said.settled = None, None, False
    for said in case.said:
        if said.logged or not _is_logged(said.labels, logged):
            truth = _standing(case.known, said.labels)
            if truth is not None:
                about = arrived if arrived is not None and arrived.covers(said.labels) else None
                first = not said.settled and not _is_logged(said.labels, moved)
                _renew(said, truth, about, book, changed=said is changed, first=first)


def _is_logged(labels: Labels, logged: Sequence[Labels]) -> bool:
    return bool(logged) and any(_alike(labels, other) for other in logged)


def _renew(said: Said, truth: Known, arrived: Known | None, book: Book, *, changed: bool, first: bool) -> None:
    """Makes the pair of a prediction the one with the truth that stands; tells the status of the truth that arrived."""
    same = said.settled and said.truth == truth.value and isinstance(truth.value, type(said.truth))
    before, failed = said.pair, ""
    if not same or changed:
        failed = _replace_pair(said, truth.value, book, first=first)
        same = same or (before is not None and said.pair is not None and before.y_true == said.pair.y_true)
    if first and truth.value is not None:
        book.status(said.labels, failed or MATCHED, said.at)
    elif arrived is not None and (before is not None or truth.value is not None):
        book.status(said.labels, failed or _status(truth, arrived, same=same), said.at)


def _status(truth: Known, arrived: Known, *, same: bool) -> str:
    if same:
        return DUPLICATE if arrived.value == truth.value else SUPERSEDED
    return RETRACTED if truth.value is None else CORRECTED


def _replace_pair(said: Said, truth: Value, book: Book, *, first: bool) -> str:
    """Takes back the pair that was applied and applies the new one; says why if there is none."""
    before, said.pair, failed = said.pair, None, ""
    said.truth, said.settled = truth, said.settled or truth is not None
    if truth is not None:
        series, born, resolved = book.resolve(said.labels, truth, said.value)
        if isinstance(resolved, str):
            failed = resolved
        else:
            said.pair = Applied(series, born, said.at, *resolved)
    if said.pair != before:
        if before is not None:
            book.take_pair(before)
        if said.pair is not None:
            book.apply_pair(said.pair, first=first)
    return failed


def _take_reward(case: Case, reward: Reward) -> None:
    for old in case.rewards:
        if _alike(old.labels, reward.labels):
            old.at = min(old.at, reward.at)
            if _is_later(reward.time, [*reward.labels, reward.value], old.time, [*old.labels, old.value]):
                old.labels, old.time, old.value = reward.labels, reward.time, reward.value
            return
    case.rewards.append(msgspec.structs.replace(reward))


def _settle_reward(case: Case, reward: Reward, book: Book) -> None:
    """Counts the reward for the prediction it is about, as far as the log tells, and else for what the feedback says."""
    logged = [(said.labels, said.at) for said in case.said if said.logged and _alike(said.labels, reward.labels)]
    where, at = min(logged, default=(reward.labels, reward.at))
    before = reward.applied
    if before is not None and (reward.where, before.at, before.y_pred) == (where, at, reward.value):
        return
    if before is not None:
        book.take_reward(before)
    reward.where, reward.applied = where, book.apply_reward(reward, where, at, first=before is None)
