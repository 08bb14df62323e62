"""One group of events, from what the store holds to what it has to apply: load, pair, increments, one change."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

from metrics_server.cabinet import Cabinet, Folder
from metrics_server.case import MAX_KEYS, Case, remember
from metrics_server.catalog import Catalog
from metrics_server.errors import Rejected
from metrics_server.event import FEEDBACK, REQUEST, RESPONSE
from metrics_server.half import Half, row_key
from metrics_server.latency import Latencies
from metrics_server.ledger import NOWHERE, Ledger
from metrics_server.pairing import Arrival, arrive, settle
from metrics_server.store.interface import Change, Store
from metrics_server.window import KEPT

ACCEPTED, DUPLICATE = "accepted", "duplicate"
PARKED = "parked"  # accepted, and its truth waits for the prediction
Outcome = str | Rejected


@dataclass(frozen=True)
class Keeping:
    """How long things are kept, in seconds.

    Attributes:
        history: net sums, by prediction time.
        retention: halves of pairs, from receipt: how long a prediction stays open to truth and correction.
        dedupe: the keys of events without a request id, from receipt.
    """

    history: int
    retention: int
    dedupe: int


class Group:
    """Events that are applied together, each seeing what the earlier ones of the group did."""

    def __init__(self, store: Store, catalog: Catalog, keeping: Keeping, now: float, latencies: Latencies | None = None) -> None:
        self._ledger = Ledger(catalog, now, keeping.history)
        self._cabinet = Cabinet(store, now, keeping.retention, keeping.dedupe)
        self._latencies = latencies or Latencies()

    def take(self, halves: Sequence[Half]) -> list[Outcome]:
        """Pairs the halves in their order; what became of each, provided that `change` is then committed."""
        keys = {key for half in halves for key in (half.keys or [half.event])}
        keys.update(row_key(alias, first + row) for half in halves for alias, first in half.aliases for row in range(len(half.keys)))
        keys.discard(b"")
        self._cabinet.load(keys)
        return [self._take(half) for half in halves]

    def change(self) -> Change:
        """What the store has to apply."""
        change = self._ledger.change()
        change.records = dict(self._cabinet.writes())
        if sums := self._cabinet.sums:
            change.sums[NOWHERE, KEPT] = sums
        return change

    def _take(self, half: Half) -> Outcome:
        folder = self._cabinet.folder(half.keys[0]) if half.joins else None
        if folder is not None and half.event and half.event in folder.case.seen:
            return DUPLICATE
        first = half.arrivals[0] if half.arrivals else None
        if first is not None and (first.said is not None or first.reward is not None):
            try:
                self._ledger.admit(half.labels)
            except Rejected as error:
                return error.bare()
        if folder is None and half.event and not self._cabinet.is_new(half.event):
            return DUPLICATE
        if half.kind != FEEDBACK and half.request_id:
            self._clock(half)
        if folder is None:
            for arrival in half.arrivals:  # nothing can ever meet these halves: they count, and only the event's key is kept
                arrive(Case(), arrival, self._ledger)
            return ACCEPTED
        return PARKED if self._file(half, folder) else ACCEPTED

    def _file(self, half: Half, first: Folder) -> bool:
        """Takes a half into the cases it concerns; says whether all its truths wait."""
        waits = False
        if half.kind == REQUEST:
            self._name(half, first)
        else:
            waits = self._pair(half, first)
        first = self._cabinet.folder(half.keys[0])  # a later row may have taken the case in
        if half.event:
            remember(first.case, half.event)
        first.is_touched = True
        return waits

    def _pair(self, half: Half, first: Folder) -> bool:
        if len(half.keys) > 1:
            first.case.rows = max(first.case.rows, len(half.keys))
        aliases = half.aliases
        if first.case.named and half.kind == RESPONSE:
            aliases = [*aliases, *((pair[16:], 0) for pair in first.case.named if pair[:16] == half.keys[0][:16])]
        waits = True
        for row, (key, arrival) in enumerate(zip(half.keys, half.arrivals, strict=True)):
            if aliases:
                folder, keys = self._cabinet.joined([key, *(row_key(alias, start + row) for alias, start in aliases)])
            else:
                folder, keys = self._cabinet.folder(key), [key]
            filed = _under(arrival, folder, keys) if folder.case.also or folder.key != key else arrival
            waits = arrive(folder.case, filed, self._ledger) and waits
            folder.is_touched = True
        return waits

    def _name(self, half: Half, first: Folder) -> None:
        """Files the predictions of a request, those there and those to come, under the ids that the client gave it too."""
        request = half.keys[0][:16]
        named = first.case.named
        aliases = [alias for alias, _ in half.aliases if request + alias not in named][: max(0, MAX_KEYS - len(named))]
        if not aliases:
            return
        named += [request + alias for alias in aliases]
        self._cabinet.load([row_key(name, row) for name in (request, *aliases) for row in range(first.case.rows)])
        for row in range(first.case.rows):
            folder, keys = self._cabinet.joined([row_key(request, row), *(row_key(alias, row) for alias in aliases)])
            own, *others = (folder.index_of(key) for key in keys)
            for said in folder.case.said:
                if said.logged and said.under[0] == own:
                    said.under += bytes(index for index in others if index not in said.under)
            settle(folder.case, self._ledger)
            folder.is_touched = True

    def _clock(self, half: Half) -> None:
        """Takes the time between request and response, when both have come."""
        seconds = self._latencies.seen(half.request_id, half.labels, half.time, answered=half.kind == RESPONSE)
        if seconds is not None:
            self._ledger.latency(half.labels, seconds)


def _under(arrival: Arrival, folder: Folder, keys: Sequence[bytes]) -> Arrival:
    """The arrival as it is filed in a case of several keys. The given one stays as it is: it may have to be taken again."""
    indexes = bytes(folder.index_of(key) for key in keys)
    said, known, reward = copy(arrival.said), copy(arrival.known), copy(arrival.reward)
    if said is not None:
        said.under = indexes
    if known is not None:
        known.order = indexes
    if reward is not None:
        reward.order = indexes
    return Arrival(said, known, reward)
