"""Usage: how many records are kept for pairing, how large they are, how many rows wait, and since when.

These are sums like all others, of no series. They move in the same commit as the records they count; so limits and
gauges need no look at millions of records.

Sums:
    kept/halves, kept/half_bytes: records and redirects, and about what they take on a disk.
    kept/events: keys of events without a request id.
    pending/predictions, pending/truths: rows that wait for the other side.
    pending/since / s: rows of both kinds that were received in the quarter of an hour from the second s on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from metrics_server.metrics.components import (
    EVENT_KEY_COUNT,
    PENDING_PREDICTIONS,
    PENDING_SINCE,
    PENDING_TRUTHS,
    RECORD_BYTES,
    RECORD_COUNT,
)
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import QUARTER, floor
from metrics_server.pairing.record import PairingRecord, pending_rows

EVENT_KEYS, RECORDS = 0, 1  # expiry queues of the store: keys of events; records and redirects

# What a record takes beside its value: twice its key, which the order of expiry holds again, and the cells of two
# tables.
OVERHEAD_BYTES = 84


class UsageDelta:
    """Adds up what records that came and went count for."""

    def __init__(self) -> None:
        self._records = 0
        self._bytes = 0
        self._event_keys = 0
        self._predictions = 0
        self._truths = 0
        self._since: dict[int, int] = {}  # rows that wait, by the quarter of an hour they were received in

    def add_record(self, record: PairingRecord | None, length: int, sign: int = 1) -> None:
        """Adds a record, or a redirect (None), with a value of so many bytes; with sign -1 takes it out."""
        self._records += sign
        self._bytes += sign * (length + OVERHEAD_BYTES)
        if record is None or not record.received_at:
            return
        predictions, truths = pending_rows(record)
        if predictions or truths:
            self._predictions += sign * predictions
            self._truths += sign * truths
            since = floor(record.received_at, QUARTER)
            self._since[since] = self._since.get(since, 0) + sign * (predictions + truths)

    def add_event_keys(self, count: int) -> None:
        """Adds keys of events without a request id; a negative count takes some out."""
        self._event_keys += count

    @property
    def sums(self) -> Sums:
        """All of it as sums."""
        counts = {
            RECORD_COUNT: self._records,
            RECORD_BYTES: self._bytes,
            EVENT_KEY_COUNT: self._event_keys,
            PENDING_PREDICTIONS: self._predictions,
            PENDING_TRUTHS: self._truths,
            **{f"{PENDING_SINCE}{since}": count for since, count in self._since.items()},
        }
        return {name: float(count) for name, count in counts.items() if count}


@dataclass(frozen=True)
class UsageLimits:
    """How much is kept at most: records and redirects, their bytes on disk, and keys of events without a request id."""

    records: int = 5_000_000
    record_bytes: int = 4 * 2**30
    event_keys: int = 50_000_000

    def surplus(self, sums: Sums) -> dict[int, int]:
        """How many records have to leave each expiry queue, at least; by bytes that is an estimate, to be asked for
        again.
        """
        records, length, event_keys = (sums.get(name, 0.0) for name in (RECORD_COUNT, RECORD_BYTES, EVENT_KEY_COUNT))
        too_long = max(0.0, length - self.record_bytes) * records / length if length else 0.0
        return {
            RECORDS: math.ceil(max(records - self.records, too_long)),
            EVENT_KEYS: math.ceil(event_keys - self.event_keys),
        }


def oldest_since(sums: Sums) -> int | None:
    """Finds the quarter of an hour, by its start, in which the oldest waiting row was received; None for no row."""
    return min(
        (
            int(name[len(PENDING_SINCE) :])
            for name, count in sums.items()
            if name.startswith(PENDING_SINCE) and count > 0
        ),
        default=None,
    )
