"""What meets what: predictions and truths of one request row, in any order, any number of times.

Which prediction and which truth stand is a function of the set of halves that arrived in a case, never of their order: for each
prediction key the latest event wins, for each row the latest truth. A truth that is known by several ids is about the predictions
of the first of them that has any. `arrive` is the only thing that changes a case; it writes into a book the moves that bring the
sums from what was applied before to what stands now. Nothing here knows sums, stores, sockets or the clock.
"""

from __future__ import annotations

from copy import copy
from typing import Protocol

import msgspec

from metrics_server.case import MAX_SCOPES, Applied, Case, Known, Reward, Said, Weight, are_alike, share
from metrics_server.series import Labels
from metrics_server.task import Value

MATCHED, DUPLICATE, CORRECTED, RETRACTED, SUPERSEDED = "matched", "duplicate", "corrected", "retracted", "superseded"


class Arrival(msgspec.Struct, gc=False):
    """The halves that one event brings for one row: either, both, or a reward besides."""

    said: Said | None = None
    known: Known | None = None
    reward: Reward | None = None


class Book(Protocol):
    """Where the effects of pairing are written down; see `metrics_server.ledger`."""

    def resolve(self, said: Said, truth: Value, weight: Weight) -> Applied | str:
        """The pair as the model of the prediction's series takes it, or the status that says why not."""

    def apply_pair(self, applied: Applied, *, first: bool) -> None:
        """Counts a pair; the first of a prediction is what "matched" tells of."""

    def take_pair(self, applied: Applied) -> None: ...
    def apply_row(self, said: Said, *, first: bool) -> Applied: ...
    def take_row(self, applied: Applied) -> None: ...
    def apply_reward(self, value: float, labels: Labels, at: float, slices: list[str], *, first: bool) -> Applied: ...
    def take_reward(self, applied: Applied) -> None: ...
    def status(self, said: Said, status: str) -> None: ...
    def delay(self, said: Said, truth: Known) -> None: ...


_encode = msgspec.msgpack.Encoder().encode


def arrive(case: Case, arrival: Arrival, book: Book) -> bool:
    """Takes the halves into the case and writes into the book what that changes; says whether a truth of them waits now."""
    if not (case.said or case.known or case.rewards):
        _open(case, arrival, book)
        return arrival.known is not None and (arrival.said is None or not arrival.known.covers(arrival.said.labels))
    changed = None if arrival.said is None else _take_said(case, arrival.said, book)
    if arrival.known is not None:
        case.known = _latest(case.known, copy(arrival.known))[-MAX_SCOPES:]
    waits = not settle(case, book, changed, arrival.known)
    if arrival.reward is not None:
        _take_reward(case, arrival.reward, book)
        _settle_rewards(case, book)
    return waits and arrival.known is not None


def settle(case: Case, book: Book, changed: Said | None = None, arrived: Known | None = None) -> bool:
    """Brings every pair and reward to what stands now, and tells what became of the truth that arrived.

    Says whether that is about any prediction that is there.
    """
    met = False
    moved: list[Said] = []
    for said in case.said:
        if not said.logged and said.pair is not None and _gives_way(case, said):
            book.take_pair(said.pair)
            moved.append(copy(said))
            said.pair, said.truth, said.weight, said.settled = None, None, 1, False
    for said in case.said:
        if said.logged or not _gives_way(case, said):
            truth = _standing(case, said)
            if truth is not None:
                about = arrived if arrived is not None and _is_about(case, arrived, said) else None
                met = met or about is not None
                first = (
                    not said.settled
                    and not said.was_first
                    and not any(are_alike(said.labels, old.labels) and share(said.under, old.under) for old in moved)
                )
                _renew(said, truth, about, book, changed=said is changed, first=first)
            elif said.settled:  # the truth turned out to be about another prediction
                _replace_pair(said, None, 1, book, first=False)
                said.settled, said.was_first = False, True
    if case.rewards:
        _settle_rewards(case, book)
    return met


def _open(case: Case, arrival: Arrival, book: Book) -> None:
    """The first arrival: nothing is there that it could contradict."""
    said, known, reward = arrival.said, arrival.known, arrival.reward
    if said is not None:
        said = copy(said)  # the arrival itself stays as it is: it may have to be taken again
        case.said.append(said)
        if said.logged:
            said.row = book.apply_row(said, first=True)
    if known is not None:
        case.known.append(copy(known))
        if said is not None and known.value is not None and known.covers(said.labels):
            failed = _replace_pair(said, known.value, known.weight, book, first=True)
            if failed:
                book.status(said, failed)
    if reward is not None:
        case.rewards.append(copy(reward))
        _settle_rewards(case, book)


def _is_later(time: float, value: object, than_time: float, than_value: object) -> bool:
    """The order of halves of one key: the event's time, then, so that any order of arrival ends the same, the content."""
    return time > than_time or (time == than_time and _encode(value) > _encode(than_value))


def _take_said(case: Case, said: Said, book: Book) -> Said | None:
    """The prediction that is new or was replaced; None when a later one stands already."""
    same = [old for old in case.said if old.is_same(said)]
    if not same:
        said = copy(said)
        case.said.append(said)
        if said.logged:
            said.row = book.apply_row(said, first=True)
        return said
    changed = _fold(case, same, book)
    old = same[0]
    old.under += bytes(key for key in said.under if key not in old.under)
    # When only feedback tells of a prediction, it was made at the latest when the earliest of them was sent.
    at = said.at if said.logged else min(old.at, said.at)
    if not _is_later(said.time, [said.labels, said.value, said.slices], old.time, [old.labels, old.value, old.slices]):
        changed = changed or (not said.logged and at != old.at)
        old.at = at if not said.logged else old.at
        return old if changed else None
    changed = changed or (old.value, old.at, old.labels, old.slices) != (said.value, at, said.labels, said.slices)
    old.labels, old.at, old.time, old.value, old.slices = said.labels, at, said.time, said.value, said.slices
    if changed and old.row is not None:
        book.take_row(old.row)
        old.row = book.apply_row(old, first=False)
    return old if changed else None


def _fold(case: Case, same: list[Said], book: Book) -> bool:
    """Makes one of several carried predictions that turn out to be one; says whether that changed the first of them."""
    first, changed = same[0], False
    for other in same[1:]:
        case.said.remove(other)
        if other.pair is not None:
            book.take_pair(other.pair)
        at = min(first.at, other.at)
        first.under += bytes(key for key in other.under if key not in first.under)
        if _is_later(other.time, [other.labels, other.value, other.slices], first.time, [first.labels, first.value, first.slices]):
            first.labels, first.time, first.value, first.slices = other.labels, other.time, other.value, other.slices
        first.at, changed = at, True
    return changed


def _latest(known: list[Known], arrived: Known) -> list[Known]:
    """The truths with this one among them: of each scope and ids the latest."""
    for index, old in enumerate(known):
        if (old.namespace, old.deployment, old.order) == (arrived.namespace, arrived.deployment, arrived.order):
            if not _is_later(arrived.time, [arrived.value, arrived.weight], old.time, [old.value, old.weight]):
                return known
            return [*known[:index], arrived, *known[index + 1 :]]
    return [*known, arrived]


def _is_about(case: Case, truth: Known, said: Said) -> bool:
    """Whether a truth labels a prediction: by the first of its ids that has a logged one, else by any."""
    if not truth.covers(said.labels):
        return False
    if case.also:
        for key in truth.order:
            if any(other.logged and key in other.under and truth.covers(other.labels) for other in case.said):
                return key in said.under
    return share(truth.order, said.under)


def _standing(case: Case, said: Said) -> Known | None:
    """The truth that stands for a prediction."""
    best: Known | None = None
    for truth in case.known:
        if _is_about(case, truth, said) and (
            best is None or _is_later(truth.time, [truth.value, truth.weight], best.time, [best.value, best.weight])
        ):
            best = truth
    return best


def _gives_way(case: Case, said: Said) -> bool:
    """Whether this is what a feedback carried along, and the log tells of the same prediction."""
    return any(other.logged and are_alike(said.labels, other.labels) and share(said.under, other.under) for other in case.said)


def _renew(said: Said, truth: Known, arrived: Known | None, book: Book, *, changed: bool, first: bool) -> None:
    """Makes the pair of a prediction the one with the truth that stands; tells the status of the truth that arrived."""
    same = said.settled and (said.truth, said.weight) == (truth.value, truth.weight) and isinstance(truth.value, type(said.truth))
    before, failed = said.pair, ""
    if not same or changed:
        failed = _replace_pair(said, truth.value, truth.weight, book, first=first)
        same = same or (
            before is not None and said.pair is not None and (before.y_true, before.weight) == (said.pair.y_true, said.pair.weight)
        )
    if first and truth.value is not None:
        if failed:
            book.status(said, failed)
        elif said.logged:
            book.delay(said, truth)
    elif arrived is not None and (before is not None or truth.value is not None):
        book.status(said, failed or _status(truth, arrived, same=same))


def _status(truth: Known, arrived: Known, *, same: bool) -> str:
    if same:
        return DUPLICATE if (arrived.value, arrived.weight) == (truth.value, truth.weight) else SUPERSEDED
    return RETRACTED if truth.value is None else CORRECTED


def _replace_pair(said: Said, truth: Value, weight: Weight, book: Book, *, first: bool) -> str:
    """Takes back the pair that was applied and applies the new one; says why if there is none."""
    before, said.pair, failed = said.pair, None, ""
    said.truth, said.weight, said.settled = truth, weight, said.settled or truth is not None
    if truth is not None:
        resolved = book.resolve(said, truth, weight)
        if isinstance(resolved, str):
            failed = resolved
        else:
            said.pair = resolved
    if said.pair != before:
        if before is not None:
            book.take_pair(before)
        if said.pair is not None:
            book.apply_pair(said.pair, first=first)
    if said.pair is not None and said.row is not None and said.row.series != said.pair.series:
        # Its series started anew since it was logged; of what is labelled there, it was predicted there.
        book.take_row(said.row)
        said.row = book.apply_row(said, first=False)
    return failed


def _take_reward(case: Case, reward: Reward, book: Book) -> None:
    same = [old for old in case.rewards if are_alike(old.labels, reward.labels) and share(old.order + old.others, reward.order)]
    if not same:
        case.rewards.append(copy(reward))
        return
    first = same[0]
    for other in [*same[1:], reward]:
        if other.applied is not None:
            book.take_reward(other.applied)
        if other is not reward:
            case.rewards.remove(other)
        first.at = min(first.at, other.at)
        keys = first.order + first.others + other.order + other.others
        if _is_later(other.time, [*other.labels, other.value, other.slices], first.time, [*first.labels, first.value, first.slices]):
            first.labels, first.time, first.value, first.slices = other.labels, other.time, other.value, other.slices
            first.order = other.order
        first.others = bytes(key for key in dict.fromkeys(keys) if key not in first.order)


def _settle_rewards(case: Case, book: Book) -> None:
    """Counts each reward for the prediction it is about, as far as the log tells, and else for what the feedback says."""
    for reward in case.rewards:
        about = [said for said in case.said if said.logged and are_alike(said.labels, reward.labels)]
        for keys in (*(bytes([key]) for key in reward.order), reward.others):
            if found := [said for said in about if share(keys, said.under)]:
                about = found
                break
        else:
            about = []
        where = min(((said.labels, said.at, said.slices) for said in about), default=(reward.labels, reward.at, reward.slices))
        before = reward.applied
        if before is not None and (reward.where, before.at, reward.counted) == where and before.y_pred == reward.value:
            continue
        if before is not None:
            book.take_reward(before)
        reward.applied = book.apply_reward(reward.value, *where, first=before is None)
        reward.where, _, reward.counted = where
