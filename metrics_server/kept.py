"""What is kept for pairing, counted: how many halves, how large, how many wait, and since when. Sums like all others.

They stand in a ledger of their own, of no series, and move in the same commit as the records they count; so limits and gauges need
no look at millions of records.

Sums:
    kept/halves, kept/half_bytes: cases and pointers, and about what they take on a disk.
    kept/events: keys of events without a request id.
    pending/predictions, pending/truths: rows that wait for the other half.
    pending/since / s: those of both that were received in the quarter of an hour from the second s on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from metrics_server.case import Case, waiting
from metrics_server.sums import Sums, component
from metrics_server.window import QUARTER, floor

EVENTS, HALVES = 0, 1  # lanes of the store: keys of events, cases and pointers

HALF_COUNT, HALF_BYTES, EVENT_COUNT = "kept/halves", "kept/half_bytes", "kept/events"
PENDING_PREDICTIONS, PENDING_TRUTHS = "pending/predictions", "pending/truths"
_SINCE = component("pending/since", "")

# What a record takes beside its value: twice its key, which the order of expiry holds again, and the cells of two tables.
OVERHEAD_BYTES = 84


class Balance:
    """What records that came and went count for."""

    def __init__(self) -> None:
        self._halves = 0
        self._bytes = 0
        self._events = 0
        self._predictions = 0
        self._truths = 0
        self._since: dict[int, int] = {}  # rows that wait, by the quarter of an hour they were received in

    def half(self, case: Case | None, length: int, sign: int = 1) -> None:
        """Adds a case, or a pointer (None), with a value of so many bytes; with sign -1 takes it out."""
        self._halves += sign
        self._bytes += sign * (length + OVERHEAD_BYTES)
        if case is None or not case.received:
            return
        predictions, truths = waiting(case)
        if predictions or truths:
            self._predictions += sign * predictions
            self._truths += sign * truths
            since = floor(case.received, QUARTER)
            self._since[since] = self._since.get(since, 0) + sign * (predictions + truths)

    def events(self, count: int) -> None:
        """Adds keys of events."""
        self._events += count

    @property
    def sums(self) -> Sums:
        """All of it as sums."""
        counts = {
            HALF_COUNT: self._halves,
            HALF_BYTES: self._bytes,
            EVENT_COUNT: self._events,
            PENDING_PREDICTIONS: self._predictions,
            PENDING_TRUTHS: self._truths,
            **{f"{_SINCE}{since}": count for since, count in self._since.items()},
        }
        return {name: float(count) for name, count in counts.items() if count}


@dataclass(frozen=True)
class Limits:
    """How much is kept at most."""

    halves: int = 5_000_000
    half_bytes: int = 4 * 2**30
    events: int = 50_000_000

    def surplus(self, sums: Sums) -> dict[int, int]:
        """How many records have to leave each lane, at least; by bytes that is an estimate, to be asked for again."""
        halves, length, events = (sums.get(name, 0.0) for name in (HALF_COUNT, HALF_BYTES, EVENT_COUNT))
        too_long = max(0.0, length - self.half_bytes) * halves / length if length else 0.0
        return {HALVES: math.ceil(max(halves - self.halves, too_long)), EVENTS: math.ceil(events - self.events)}


def oldest_since(sums: Sums) -> int | None:
    """The start of the quarter of an hour in which the oldest waiting row was received; None when nothing waits."""
    return min((int(name[len(_SINCE) :]) for name, count in sums.items() if name.startswith(_SINCE) and count > 0), default=None)
