"""Usage: how many records are kept for pairing, how large they are, how many rows wait, and since when.

These are sums like all others, of no series. They move in the same commit as the records they count; so limits and
gauges need no look at millions of records.

Sums:
    kept/halves, kept/half_bytes: records and redirects, and about what they take on a disk.
    kept/events: keys of events without a request id.
    pending/predictions, pending/truths: rows that wait for the other side.
    pending/since / s: rows of both kinds that were received in the quarter of an hour from the second s on.
    pending/unpredicted_since / s: the truths among them that wait in records without any prediction, withdrawn or not.

Sums know when rows were received to a quarter of an hour, or there would be too many; to the second that is known in
memory, of what this process has received.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from metrics_server.metrics.components import (
    EVENT_KEY_COUNT,
    PENDING_PREDICTIONS,
    PENDING_SINCE,
    PENDING_TRUTHS,
    RECORD_BYTES,
    RECORD_COUNT,
    UNPREDICTED_SINCE,
)
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import HOUR, QUARTER, floor
from metrics_server.pairing.record import PairingRecord, pending_rows

EVENT_KEYS, RECORDS = 0, 1  # expiry queues of the store: keys of events; records and redirects

# What a record takes beside its value: twice its key, which the order of expiry holds again, and the cells of two
# tables.
OVERHEAD_BYTES = 84

OVERDUE_SECONDS = HOUR  # a prediction that has not come by then is not on its way any more
MOST_SECONDS = 50_000  # with a row that waits, kept in memory: 14 hours of full traffic, about 5 MB


class UsageDelta:
    """Adds up what records that came and went count for."""

    def __init__(self) -> None:
        self._records = 0
        self._bytes = 0
        self._event_keys = 0
        self._predictions = 0
        self._truths = 0
        self._unpredicted: dict[int, int] = {}  # truths that wait without any prediction, by the second of receipt
        self.pending_by_second: dict[int, int] = {}  # rows that wait, by the second of receipt

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
            at, by_second = record.received_at, self.pending_by_second
            by_second[at] = by_second.get(at, 0) + sign * (predictions + truths)
            if not record.predictions and not record.withdrawn:
                self._unpredicted[at] = self._unpredicted.get(at, 0) + sign * truths

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
            **_by_quarter(PENDING_SINCE, self.pending_by_second),
            **_by_quarter(UNPREDICTED_SINCE, self._unpredicted),
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


class PendingSeconds:
    """When rows that wait were received, to the second: of those received since some moment, in this process.

    >>> seconds = PendingSeconds()
    >>> seconds.start(1000.0)
    >>> seconds.add({1007: 2, 1019: 1})
    >>> seconds.add({1007: -2})
    >>> seconds.oldest({f"{PENDING_SINCE}900": 1.0})
    1019
    """

    def __init__(self) -> None:
        self._known_since: float = math.inf  # what was received earlier is known to the quarter of an hour
        self._counts: dict[int, int] = {}

    def start(self, now: float) -> None:
        """Begins anew: what was received before is known from the sums alone."""
        self._known_since, self._counts = int(now) + 1, {}

    def add(self, by_second: Mapping[int, int]) -> None:
        """Adds rows that wait, and takes out those that do no more."""
        for second, count in by_second.items():
            if second >= self._known_since:
                self._counts[second] = self._counts.get(second, 0) + count
                if not self._counts[second]:
                    del self._counts[second]
        if len(self._counts) > MOST_SECONDS:
            self._forget_older_half()

    def _forget_older_half(self) -> None:
        kept = sorted(self._counts)[len(self._counts) // 2 :]
        self._known_since, self._counts = kept[0], {second: self._counts[second] for second in kept}

    def oldest(self, sums: Sums) -> float | None:
        """Finds when the oldest waiting row was received; of what is not known to the second the latest that it can be.
        None for no row.
        """
        rows = dict(_waiting(PENDING_SINCE, sums))
        if not rows:
            return None
        quarter = min(rows)
        end = quarter + QUARTER
        counts = [(second, self._counts.get(second, 0)) for second in range(quarter, end)]
        if quarter < self._known_since and rows[quarter] > sum(count for _, count in counts):
            return min(end, self._known_since)
        return next((second for second, count in counts if count > 0), end)


def overdue_truths(sums: Sums, now: float) -> float:
    """Counts the truths that have waited for an hour, and up to a quarter of one more, under ids without a prediction.

    >>> overdue_truths({f"{UNPREDICTED_SINCE}900": 3.0, f"{UNPREDICTED_SINCE}1800": 1.0}, now=5400.0)
    3.0
    """
    newest = now - OVERDUE_SECONDS - QUARTER
    return sum((rows for start, rows in _waiting(UNPREDICTED_SINCE, sums) if start <= newest), 0.0)


def _by_quarter(prefix: str, by_second: Mapping[int, int]) -> Mapping[str, int]:
    """Adds up by the quarter of an hour, as components with this prefix."""
    rows: dict[str, int] = {}
    for second, count in by_second.items():
        name = f"{prefix}{floor(second, QUARTER)}"
        rows[name] = rows.get(name, 0) + count
    return rows


def _waiting(prefix: str, sums: Sums) -> Iterator[tuple[int, float]]:
    """Yields the quarters of an hour, by their starts, in which rows were received that wait, and how many."""
    for name, rows in sums.items():
        if rows > 0 and name.startswith(prefix):
            yield int(name[len(prefix) :]), rows
