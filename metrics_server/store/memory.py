"""State in this process only: for tests, trials, and numbers that may be lost with the process."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from threading import Lock

from metrics_server.errors import StoreUnavailable
from metrics_server.metrics.sums import Sums, add_into
from metrics_server.metrics.window import Bucket, bucket_start, floor
from metrics_server.store.interface import (
    Change,
    Record,
    Register,
    Splits,
    StepSums,
    StepSumsStream,
    StoredSeries,
    Write,
    never,
)
from metrics_server.store.sole_writer import SoleWriter

_ABSENT = (Record(0, b""), -1.0)
_SERIES_TIMES = ("seen_at", "predicted_at", "labelled_at")  # which only move forward


class MemoryStore(SoleWriter):
    """Dictionaries with the contract of `Store`; durable for as long as the process lives."""

    def __init__(self) -> None:
        self._records: dict[bytes, tuple[Record, float]] = {}
        self._series: dict[int, StoredSeries] = {}
        self._parameters: dict[int, dict[str, str]] = {}
        self._sums: dict[Bucket, dict[int, dict[str, float]]] = {}
        self._registers: dict[int, dict[str, Register]] = {}
        self._expiry_queues: dict[int, dict[bytes, None]] = {}  # keys in the order in which their expiry was set
        self._value_bytes = 0
        self._lock = Lock()  # held while sums change, and while `history` reads them
        self._is_closed = False

    def load(self, keys: Collection[bytes]) -> Mapping[bytes, Record]:
        records = self._records
        return {key: records[key][0] for key in keys if key in records}

    def load_prefix(self, prefix: bytes) -> Mapping[bytes, Record]:
        return {key: found[0] for key, found in self._records.items() if key.startswith(prefix)}

    def commit(self, change: Change) -> bool:
        if self._is_stale(change):
            return False
        self._put_records(change.records)
        self._delete_records(change.deletes)
        self._put_series(change.series.values())
        for (series_id, name), value in change.claims.items():
            self._parameters.setdefault(series_id, {})[name] = value
        for (series_id, name), register in change.registers.items():
            registers = self._registers.setdefault(series_id, {})
            registers[name] = max(register, registers.get(name, register))
        with self._lock:
            for (series_id, bucket), sums in change.sums.items():
                add_into(self._sums.setdefault(bucket, {}).setdefault(series_id, {}), sums)
        return True

    def _put_records(self, records: Mapping[bytes, Write]) -> None:
        for key, write in sorted(records.items()):
            self._value_bytes += len(write.value) - self._length(key)
            self._records[key] = Record(write.version + 1, write.value), write.expires_at
            if write.expiry_changed or not write.version:
                expiry_queue = self._expiry_queues.setdefault(write.expiry_queue, {})
                expiry_queue.pop(key, None)
                expiry_queue[key] = None

    def _delete_records(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._value_bytes -= self._length(key)
            self._records.pop(key, None)
            for expiry_queue in self._expiry_queues.values():
                expiry_queue.pop(key, None)

    def _put_series(self, rows: Iterable[StoredSeries]) -> None:
        for row in rows:
            stored = self._series.get(row.id, row)
            times = {name: max(getattr(stored, name), getattr(row, name)) for name in _SERIES_TIMES}
            self._series[row.id] = stored._replace(**times)

    def _is_stale(self, change: Change) -> bool:
        return (
            any(self._records.get(key, _ABSENT)[0].version != write.version for key, write in change.records.items())
            or any(self._records.get(key, _ABSENT)[0].version != version for key, version in change.deletes.items())
            or any(self._parameters.get(i, {}).get(name, value) != value for (i, name), value in change.claims.items())
        )

    def _length(self, key: bytes) -> int:
        record, _ = self._records.get(key, _ABSENT)
        return len(record.value)

    def series(self) -> list[StoredSeries]:
        return [row._replace(parameters=dict(self._parameters.get(row.id, {}))) for row in self._series.values()]

    def cumulative(self, bucket: Bucket) -> Mapping[int, Sums]:
        return {series_id: dict(sums) for series_id, sums in self._sums.get(bucket, {}).items()}

    def registers(self) -> Mapping[int, Mapping[str, Register]]:
        return {series_id: dict(registers) for series_id, registers in self._registers.items()}

    def totals(self, since: int, until: int | None = None) -> Mapping[int, Sums]:
        result: dict[int, dict[str, float]] = {}
        for bucket, by_series in self._sums.items():
            if bucket.width > 0 and since <= bucket.start and (until is None or bucket.start < until):
                for series_id, sums in by_series.items():
                    add_into(result.setdefault(series_id, {}), sums)
        return result

    def history(self, series_id: int, since: int, until: int | None = None) -> Mapping[Bucket, Sums]:
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable("the store is closed")
            return {
                bucket: dict(by_series[series_id])
                for bucket, by_series in self._sums.items()
                if bucket.width > 0
                and since <= bucket.start
                and (until is None or bucket.start < until)
                and series_id in by_series
            }

    def steps(
        self, series_id: int, since: int, until: int, step: int, is_over: Callable[[], bool] = never
    ) -> StepSumsStream:
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable("the store is closed")
            known = {bucket for bucket, by_series in self._sums.items() if bucket.width > 0 and series_id in by_series}
        for start in sorted({floor(bucket.start, step) for bucket in known if since <= bucket.start < until}):
            buckets = self._buckets_of_step(series_id, max(start, since), min(start + step, until), known)
            widest, sums = max((bucket.width for bucket in buckets), default=0), dict[str, float]()
            while buckets:
                if is_over():
                    raise StoreUnavailable("the reading was ended")
                add_into(sums, buckets.popitem()[1])
            if sums:
                yield StepSums(start, widest, sums)

    def _buckets_of_step(self, series_id: int, since: int, until: int, known: set[Bucket]) -> dict[Bucket, Sums]:
        """Copies the buckets of a step, so that nobody waits while they are added up.

        A bucket that a roll-up has made since the known ones were listed belongs to each step that it overlaps.
        """
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable("the store is closed")
            return {
                bucket: by_series[series_id].copy()
                for bucket, by_series in self._sums.items()
                if bucket.width > 0
                and bucket.start < until
                and (bucket.start >= since or (bucket not in known and bucket.end > since))
                and series_id in by_series
            }

    def roll_up(self, fine: int, coarse: int, before: int, splits: Splits | None = None) -> bool:
        if (bucket := self._oldest(fine, before)) is None:
            return False
        splits = splits or {}
        with self._lock:
            for series_id, sums in self._sums.pop(bucket).items():
                start = bucket_start(bucket.start, coarse, splits.get(series_id, ()))
                into = self._sums.setdefault(Bucket(coarse, start), {})
                add_into(into.setdefault(series_id, {}), sums)
        return True

    def forget_before(self, coarsest: int, before: int) -> bool:
        bucket = self._oldest(coarsest, before)
        with self._lock:
            return bucket is not None and self._sums.pop(bucket) is not None

    def _oldest(self, width: int, before: int) -> Bucket | None:
        return min((b for b in self._sums if b.width == width and b.start < before), default=None)

    def expired(self, before: float, limit: int, expiry_queue: int = 0) -> Mapping[bytes, Record]:
        expired: dict[bytes, Record] = {}
        for key in islice(self._expiry_queues.get(expiry_queue, ()), limit):
            record, expires_at = self._records[key]
            if expires_at > before:
                break
            expired[key] = record
        return expired

    def scan(self, position: bytes, limit: int) -> tuple[Mapping[bytes, Write], bytes]:
        start = int(position or b"0")
        keys = [(key, queue) for queue in sorted(self._expiry_queues) for key in self._expiry_queues[queue]]
        found = {}
        for key, queue in keys[start : start + limit]:
            record, expires_at = self._records[key]
            found[key] = Write(record.version, record.value, expires_at, queue)
        end = start + len(found)
        return found, b"%d" % end if end < len(keys) else b""

    def forget_series(self, series_id: int, used_since: float = math.inf) -> bool:
        if series_id in self._series and self._series[series_id].seen_at >= used_since:
            return False
        self._series.pop(series_id, None)
        self._parameters.pop(series_id, None)
        self._registers.pop(series_id, None)
        with self._lock:
            for by_series in self._sums.values():
                by_series.pop(series_id, None)
        return True

    def state_bytes(self) -> int:
        # Measured: a record takes about 250 bytes beside its value (key, tuple, slot in the dictionary).
        return self._value_bytes + 250 * len(self._records)

    def ready(self) -> None:
        return

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
