"""One group of events, from what the store holds to what it has to apply: load, pair, increments, one change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metrics_server.errors import Rejected
from metrics_server.half import Half
from metrics_server.ledger import Ledger
from metrics_server.pairing import Case, arrive, decode_case, empty_case, encode_case, is_waiting, remember
from metrics_server.series import Catalog
from metrics_server.store.interface import Change, Record, Store, Write

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


@dataclass
class _Open:
    """A record of this group: as it was read, and the case it holds now."""

    version: int
    case: Case
    expires_at: float = 0.0  # 0: not changed


class Group:
    """Events that are applied together, each seeing what the earlier ones of the group did."""

    def __init__(self, store: Store, catalog: Catalog, keeping: Keeping, now: float) -> None:
        self._store = store
        self._keeping = keeping
        self._now = now
        self._ledger = Ledger(catalog, now, keeping.history)
        self._open: dict[bytes, _Open] = {}

    def take(self, halves: Sequence[Half]) -> list[Outcome]:
        """Pairs the halves in their order; what became of each, provided that `change` is then committed."""
        keys = {key for half in halves for key in half.keys}
        loaded = self._store.load(keys) if keys else {}
        self._open = {key: _opened(loaded.get(key)) for key in keys}
        return [self._take(half) for half in halves]

    def change(self) -> Change:
        """What the store has to apply."""
        change = self._ledger.change()
        change.records = {
            key: Write(opened.version, encode_case(opened.case), opened.expires_at)
            for key, opened in self._open.items()
            if opened.expires_at
        }
        return change

    def _take(self, half: Half) -> Outcome:
        first = self._open[half.keys[0]].case if half.keys and half.event else None
        if first is not None and half.event in first.seen:
            return DUPLICATE
        if any(arrival.said or arrival.reward for arrival in half.arrivals):
            try:
                self._ledger.admit(half.labels)
            except Rejected as error:
                return error
        if first is not None:
            remember(first, half.event)
        self._pair(half)
        return PARKED if half.joins and any(is_waiting(self._open[key].case) for key in half.keys) else ACCEPTED

    def _pair(self, half: Half) -> None:
        kept = self._now + (self._keeping.retention if half.joins else self._keeping.dedupe)
        for key in half.keys:
            self._open[key].expires_at = max(self._open[key].expires_at, kept)
        for row, arrival in enumerate(half.arrivals):
            # Without a request id nothing can ever meet these halves: they count, and only the event's key is kept.
            arrive(self._open[half.keys[row]].case if half.joins else empty_case(), arrival, self._ledger)


def _opened(record: Record | None) -> _Open:
    return _Open(0, empty_case()) if record is None else _Open(record.version, decode_case(record.value))
