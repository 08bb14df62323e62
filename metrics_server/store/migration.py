"""Moves a state from one store to another: everything, exactly, and from where it stopped if it was stopped.

How far it is stands in the store that is filled, written in the same commits; a server refuses a store that has such a
mark. The mark leaves last, when all that was written has been read again and is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from metrics_server.errors import StoreRefused
from metrics_server.metrics.components import EVENT_KEY_COUNT, RECORD_COUNT, SERVER_SERIES_ID
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import CUMULATIVE_BUCKETS, USAGE, Bucket
from metrics_server.store.interface import Change, Store, StoredSeries, Write

MARK_KEY = b"migration"
MARK_QUEUE = 15  # of its own: it never expires
RECORDS_AT_ONCE = 4096
ALL_SINCE = -(2**60)


class Mark(msgspec.Struct, array_like=True):
    """How far a migration is.

    Attributes:
        source: the store that is read, as it may be told.
        series_done: the largest id of a series that was written; None before the first.
        position: in the records of the source; None once all are written.
        records_done: how many were written.
    """

    source: str
    series_done: int | None = None
    position: bytes | None = b""
    records_done: int = 0


def refuse_unfinished(store: Store) -> None:
    """Refuses a store that a migration has not filled to the end.

    Raises:
        StoreRefused: there is a mark.
    """
    if (stored := store.load([MARK_KEY]).get(MARK_KEY)) is not None:
        source = msgspec.msgpack.decode(stored.value, type=Mark).source
        raise StoreRefused(f"--store: it is not whole: a migration from {source} has stopped; repeat that, it goes on")


class Migration:
    """One migration; `run` does what is left of it.

    `total` counts the steps of all of it, and `on_progress` is told how many of them were done since the last time:
    each series and each record is written, and then read again.
    """

    def __init__(self, source: Store, target: Store, source_name: str, on_progress: Callable[[int], None]) -> None:
        """Raises StoreRefused: the source is in use, or the target has something else in it."""
        self._source = source
        self._target = target
        self._on_progress = on_progress
        if (others := source.other_writers()) > 0:
            raise StoreRefused(f"{others} servers use {source_name}; stop them first")
        refuse_unfinished(source)
        source.catch_up()  # what others write from now on is told
        self._mark, self._version = self._found_mark(source_name)
        self._series = {row.id: row for row in source.series()}
        self._cumulative = {bucket: source.cumulative(bucket) for bucket in CUMULATIVE_BUCKETS}
        self._registers = source.registers()
        used = {series_id for by_series in self._cumulative.values() for series_id in by_series}
        self._ids = sorted({*self._series, *used, *source.totals(ALL_SINCE), *self._registers})
        kept = self._cumulative[USAGE].get(SERVER_SERIES_ID, {})
        self.total = 2 * (len(self._ids) + int(kept.get(RECORD_COUNT, 0.0) + kept.get(EVENT_KEY_COUNT, 0.0)))

    def _found_mark(self, source_name: str) -> tuple[Mark, int]:
        """Finds how far the target is, and the version of the record that says so."""
        stored = self._target.load([MARK_KEY]).get(MARK_KEY)
        if stored is not None:
            mark = msgspec.msgpack.decode(stored.value, type=Mark)
            if mark.source != source_name:
                raise StoreRefused(f"the target is half filled from {mark.source}; empty it, or go on with that")
            return mark, stored.version
        if self._target.series() or self._target.cumulative(USAGE) or self._target.scan(b"", 1)[0]:
            raise StoreRefused("the target has something in it already; it must be empty")
        return Mark(source_name), 0

    def run(self) -> None:
        """Writes what is left, reads all of it again, and lets the target be used.

        Raises:
            StoreRefused: the source was written to meanwhile, or what was written is not the same.
        """
        self._write_series()
        self._write_records()
        self._check_series()
        self._check_records()
        news = self._source.catch_up()
        if news.changes or news.series or not news.is_complete or self._source.other_writers():
            raise StoreRefused(
                "the source was written to meanwhile; stop all servers, empty the target, and begin anew"
            )
        self._commit(Change(deletes={MARK_KEY: self._version}))

    # Writing

    def _write_series(self) -> None:
        for series_id in self._ids:
            done = self._mark.series_done
            if done is None or series_id > done:
                self._mark.series_done = series_id
                self._commit_part(self._change_of(series_id))
            self._on_progress(1)

    def _change_of(self, series_id: int) -> Change:
        row: StoredSeries | None = self._series.get(series_id)
        return Change(
            series={} if row is None else {series_id: row},
            claims={} if row is None else {(series_id, name): value for name, value in row.parameters.items()},
            sums={(series_id, bucket): sums for bucket, sums in self._sums_of(series_id).items()},
            registers={(series_id, name): one for name, one in self._registers.get(series_id, {}).items()},
        )

    def _sums_of(self, series_id: int) -> Mapping[Bucket, Sums]:
        cumulative = {bucket: by_series.get(series_id, {}) for bucket, by_series in self._cumulative.items()}
        return _without_zeros({**cumulative, **self._source.history(series_id, ALL_SINCE)})

    def _write_records(self) -> None:
        self._on_progress(self._mark.records_done)
        while (position := self._mark.position) is not None:
            records, position = self._source.scan(position, RECORDS_AT_ONCE)
            self._mark.position = position or None
            self._mark.records_done += len(records)
            self._commit_part(Change(records={key: one._replace(version=0) for key, one in records.items()}))
            self._on_progress(len(records))

    def _commit_part(self, change: Change) -> None:
        """Commits a part together with how far it brings the whole."""
        value = msgspec.msgpack.encode(self._mark)
        change.records[MARK_KEY] = Write(self._version, value, float("inf"), MARK_QUEUE, not self._version)
        self._commit(change)
        self._version = self._target.load([MARK_KEY])[MARK_KEY].version
        self._target.tidy()

    def _commit(self, change: Change) -> None:
        if not self._target.commit(change):
            raise StoreRefused("somebody else writes to the target; it must be empty, and nobody's")

    # Checking

    def _check_series(self) -> None:
        target = {row.id: row for row in self._target.series()}
        if target != self._series:
            raise StoreRefused("the series that were written are not those that were read; empty the target")
        if self._target.registers() != self._registers:
            raise StoreRefused("the registers that were written are not those that were read; empty the target")
        cumulative = {bucket: self._target.cumulative(bucket) for bucket in CUMULATIVE_BUCKETS}
        for series_id in self._ids:
            written = {bucket: by_series.get(series_id, {}) for bucket, by_series in cumulative.items()}
            written |= self._target.history(series_id, ALL_SINCE)
            if _without_zeros(written) != self._sums_of(series_id):
                raise StoreRefused(f"the sums of series {series_id} are not those that were read; empty the target")
            self._on_progress(1)

    def _check_records(self) -> None:
        for records in self._all_records():
            written = self._target.load(list(records))
            if {key: one.value for key, one in written.items()} != {key: one.value for key, one in records.items()}:
                raise StoreRefused("the records that were written are not those that were read; empty the target")
            self._on_progress(len(records))

    def _all_records(self) -> Iterator[Mapping[bytes, Write]]:
        position: bytes = b""
        while True:
            records, position = self._source.scan(position, RECORDS_AT_ONCE)
            if records:
                yield records
            if not position:
                return


def _without_zeros(sums_by_bucket: Mapping[Bucket, Sums]) -> dict[Bucket, Sums]:
    kept = {bucket: {name: value for name, value in sums.items() if value} for bucket, sums in sums_by_bucket.items()}
    return {bucket: sums for bucket, sums in kept.items() if sums}
