"""State in one SQLite file: durable on commit, one writing process, readable by others at any time.

Journal WAL with synchronous=FULL: `commit` returns after fdatasync. All rows of one kind go in statements of many rows
each; besides being faster in SQLite, every statement step lets go of Python's interpreter lock, and a busy event loop
gives it back only after the switch interval, so one step a row would make a batch of a hundred events take a hundred
such waits.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from urllib.parse import quote

from metrics_server.errors import StoreRefused, StoreUnavailable
from metrics_server.metrics.sums import Sums, add_into
from metrics_server.metrics.window import Bucket
from metrics_server.store.connected import ConnectedStore
from metrics_server.store.interface import (
    Change,
    Record,
    Register,
    Splits,
    StoredSeries,
    Write,
    end_of_prefix,
    starts_of_split,
)
from metrics_server.store.sole_writer import SoleWriter
from metrics_server.store.sqlite.deltas import Deltas, added_up, is_in_time
from metrics_server.store.sqlite.history import HistoryReader
from metrics_server.store.sqlite.sql import (
    APPLICATION_ID,
    CLAIM,
    DELETE_RECORDS,
    DELETE_SERIES,
    DELETE_SUMS,
    EXPIRY_QUEUE_BITS,
    LAST_ID,
    LAST_START,
    LOAD_PREFIX,
    MIGRATIONS,
    MOVE_RECORDS,
    NEW_RECORDS,
    OLDEST,
    PUT_RECORDS,
    PUT_REGISTERS,
    PUT_SERIES,
    ROLL_UP,
    SCAN,
    SCHEMA,
    SCHEMA_VERSION,
    TOUCH,
    USED_SERIES,
    WIDTHS,
    VersionConflict,
    chunks,
    ids_of,
    write,
    write_all,
)

BUSY_SECONDS = 2.0  # how long a commit waits for another process that holds the file
CHECKED_BYTES = 32 * 2**20  # files up to this size are checked entirely at the start (about 0.2 s)
_ADVICE = "Nothing was changed; restore a backup, or name another file"

# The file is only busy; the connection is as good as before.
_TRANSIENT = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class SqliteStore(SoleWriter, ConnectedStore[sqlite3.Connection]):
    """The contract of `Store` over one file. A second process on the same file is refused by a lock beside it.

    Raises (on opening):
        StoreRefused: the file is in use, not ours, of a newer version, damaged, or cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lock: int | None = self._claim_file()
        self._last_ids: dict[int, int] = {}  # by expiry queue
        self._history = HistoryReader(self._path)
        self._connection: sqlite3.Connection | None = None
        try:
            with self._refusing():
                self._connection = self._open("rwc")
        except StoreRefused:
            self.close()
            raise

    def _claim_file(self) -> int:
        """Locks `<file>.lock` for this process: each of two writers would keep running totals, and both be wrong."""
        try:
            lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreRefused(f"--store: cannot write beside {self._path}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise StoreRefused(
                f"--store: {self._path} is in use by another process; each server needs a file of its own"
            ) from error
        return lock

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreRefused(f"--store: {self._path} cannot be used: {error}. {_ADVICE}") from error

    def _open(self, mode: str) -> sqlite3.Connection:
        """Opens the file; with mode "rw" it must exist: a state that went away is never replaced by an empty one."""
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode={mode}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            cached_statements=512,
            check_same_thread=False,
        )
        try:
            self._prepare(connection, mode)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection, mode: str) -> None:
        """Refuses a file of another application, sets the connection up, and creates or migrates the tables."""
        version, empty = self._version(connection)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -32768", "wal_autocheckpoint = 4000"):
            connection.execute(f"PRAGMA {pragma}")
        if not empty:
            self._migrate(connection, version)
        elif mode == "rw":
            raise StoreRefused(f"--store: {self._path} has become empty")
        else:
            stamp = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
            connection.executescript(f"BEGIN; {SCHEMA} {stamp} COMMIT;")
        self._last_ids = {}
        self._deltas = Deltas(connection)

    def _version(self, connection: sqlite3.Connection) -> tuple[int, bool]:
        """Returns the schema version of our own file, and whether the file is empty; refuses any other file."""
        application, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        empty = not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if application != APPLICATION_ID and not (empty and application == 0):
            raise StoreRefused(f"--store: {self._path} belongs to another application; name another file")
        if version > SCHEMA_VERSION:
            raise StoreRefused(
                f"--store: {self._path} has schema version {version}, this server knows up to {SCHEMA_VERSION}; "
                "use a newer server"
            )
        return version, empty

    def _migrate(self, connection: sqlite3.Connection, version: int) -> None:
        """Checks a file and brings it from this version to ours; touches it even if there is nothing to do."""
        if self._path.stat().st_size <= CHECKED_BYTES:
            self._check(connection)
        steps = "".join(MIGRATIONS[step] for step in range(version, SCHEMA_VERSION))
        connection.executescript(f"BEGIN IMMEDIATE; {steps} {TOUCH}; COMMIT;")

    def _check(self, connection: sqlite3.Connection) -> None:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreRefused(f"--store: {self._path} is damaged: {' '.join(verdict.split())}. {_ADVICE}")

    @contextmanager
    def _guarded_connection(self) -> Iterator[sqlite3.Connection]:
        """Lends the only connection; every error of SQLite becomes `StoreUnavailable`, with nothing partly applied."""
        try:
            if self._connection is None:
                self._connection = self._open("rw")
            yield self._connection
        except (sqlite3.Error, StoreRefused) as error:
            # After a failed write or fsync the connection's cache may not be what is on the disk: never trust it again.
            if getattr(error, "sqlite_errorcode", None) not in _TRANSIENT:
                self.recover()
            raise StoreUnavailable(f"SQLite: {error}") from error
        finally:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
                self._deltas = Deltas(self._connection)  # counts again what waits

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        with self._guarded_connection() as connection:
            connection.execute(begin)
            yield connection
            connection.execute("COMMIT")

    def load(self, keys: Collection[bytes]) -> Mapping[bytes, Record]:
        records: dict[bytes, Record] = {}
        with self._guarded_connection() as connection:
            for chunk in chunks(sorted(keys)):
                marks = ",".join("?" * len(chunk))
                query = f"SELECT key, version, value FROM records WHERE key IN ({marks})"  # noqa: S608 - only question marks
                records.update(
                    (key, Record(version, value)) for key, version, value in connection.execute(query, chunk)
                )
        return records

    def load_prefix(self, prefix: bytes) -> Mapping[bytes, Record]:
        with self._guarded_connection() as connection:
            rows = connection.execute(LOAD_PREFIX, (prefix, end_of_prefix(prefix))).fetchall()
        return {key: Record(version, value) for key, version, value in rows}

    def commit(self, change: Change) -> bool:
        try:
            with self._transaction() as connection:
                self._put_records(connection, change)
                write_all(connection, CLAIM, [(*key, value) for key, value in change.claims.items()])
                write(connection, PUT_SERIES, [(*row[:4], *row[5:]) for row in change.series.values()])
                self._deltas.append(connection, change.sums)
                write(connection, PUT_REGISTERS, [(*key, *register) for key, register in change.registers.items()])
        except VersionConflict:
            return False
        return True

    def _put_records(self, connection: sqlite3.Connection, change: Change) -> None:
        # Sorted keys touch the pages of their index in order.
        new: list[tuple[object, ...]] = []
        changed: list[tuple[object, ...]] = []
        expiry_changed: list[tuple[object, ...]] = []
        for key, write_ in sorted(change.records.items()):
            if not write_.version:
                new_id = self._next_id(connection, write_.expiry_queue)
                new.append((key, 1, write_.expires_at, write_.value, new_id))
                continue
            changed.append((key, write_.version + 1, write_.expires_at, write_.value))
            if write_.expiry_changed:
                expiry_changed.append((key, self._next_id(connection, write_.expiry_queue)))
        write_all(connection, NEW_RECORDS, new)
        write_all(connection, PUT_RECORDS, changed)
        write_all(connection, MOVE_RECORDS, expiry_changed)
        write_all(connection, DELETE_RECORDS, sorted(change.deletes.items()))

    def _next_id(self, connection: sqlite3.Connection, expiry_queue: int) -> int:
        last = self._last_ids.get(expiry_queue)
        if last is None:
            last = connection.execute(LAST_ID, ids_of(expiry_queue)).fetchone()[0] or ids_of(expiry_queue)[0]
        self._last_ids[expiry_queue] = last + 1
        return last + 1

    def series(self) -> list[StoredSeries]:
        parameters: dict[int, dict[str, str]] = {}
        with self._transaction("BEGIN") as connection:
            for series_id, name, value in connection.execute("SELECT series, name, value FROM parameters"):
                parameters.setdefault(series_id, {})[name] = value
            rows = connection.execute(
                "SELECT id, identity, created_at, seen_at, predicted_at, labelled_at FROM series"
            ).fetchall()
        return [
            StoredSeries(
                series_id, identity, created_at, seen_at, parameters.get(series_id, {}), predicted_at, labelled_at
            )
            for series_id, identity, created_at, seen_at, predicted_at, labelled_at in rows
        ]

    def cumulative(self, bucket: Bucket) -> Mapping[int, Sums]:
        query = "SELECT series, component, value FROM sums WHERE width = ? AND start = ?"
        return self._sums_by_series(query, bucket, lambda other: other == bucket)

    def registers(self) -> Mapping[int, Mapping[str, Register]]:
        by_series: dict[int, dict[str, Register]] = {}
        with self._guarded_connection() as connection:
            for series_id, name, at, value in connection.execute("SELECT series, name, at, value FROM registers"):
                by_series.setdefault(series_id, {})[name] = Register(at, value)
        return by_series

    def totals(self, since: int, until: int | None = None) -> Mapping[int, Sums]:
        # Naming the widths lets SQLite seek to the time span within each, instead of reading all of them.
        query = f"""SELECT series, component, sum(value) FROM sums
WHERE width IN {WIDTHS} AND start >= ? AND start < ? GROUP BY 1, 2"""  # noqa: S608 - only our widths
        end = LAST_START if until is None else until
        return self._sums_by_series(query, (since, end), lambda bucket: is_in_time(bucket, since, end))

    def _sums_by_series(
        self, query: str, arguments: Sequence[int], is_meant: Callable[[Bucket], bool]
    ) -> dict[int, Sums]:
        """Reads sums of the table, and adds those deltas whose buckets are meant."""
        by_series: dict[int, dict[str, float]] = {}
        with self._transaction("BEGIN") as connection:
            for series_id, name, value in connection.execute(query, arguments):
                by_series.setdefault(series_id, {})[name] = value
            for (series_id, bucket), sums in added_up(connection).items():
                if is_meant(bucket):
                    add_into(by_series.setdefault(series_id, {}), sums)
        return dict(by_series)

    def roll_up(self, fine: int, coarse: int, before: int, splits: Splits | None = None) -> bool:
        return self._delete_oldest(fine, before, into=coarse, splits=splits)

    def forget_before(self, coarsest: int, before: int) -> bool:
        return self._delete_oldest(coarsest, before)

    def _delete_oldest(self, width: int, before: int, *, into: int | None = None, splits: Splits | None = None) -> bool:
        """Deletes the oldest bucket of a width that starts before `before`, added to a wider one `into` if given."""
        query = "SELECT min(start) FROM sums WHERE width = ? AND start < ?"
        with self._transaction() as connection:
            self._deltas.fold(connection)
            (oldest,) = connection.execute(query, (width, before)).fetchone()
            if oldest is None:
                return False
            if into is not None:
                starts = starts_of_split(oldest, into, splits or {})
                connection.execute(
                    ROLL_UP, {"fine": width, "coarse": into, "start": oldest, "splits": json.dumps(starts)}
                )
            connection.execute("DELETE FROM sums WHERE width = ? AND start = ?", (width, oldest))
        return True

    def expired(self, before: float, limit: int, expiry_queue: int = 0) -> Mapping[bytes, Record]:
        with self._guarded_connection() as connection:
            # The first alone at first: nearly always it has not expired.
            rows = connection.execute(OLDEST, (*ids_of(expiry_queue), 1)).fetchall()
            if rows and rows[0][0] <= before:
                rows = connection.execute(OLDEST, (*ids_of(expiry_queue), limit)).fetchall()
        return {key: Record(version, value) for _, key, version, value in takewhile(lambda row: row[0] <= before, rows)}

    def scan(self, position: bytes, limit: int) -> tuple[Mapping[bytes, Write], bytes]:
        with self._guarded_connection() as connection:
            rows = connection.execute(SCAN, (int(position or b"-1"), limit)).fetchall()
        found = {
            key: Write(version, value, expires_at, row_id >> EXPIRY_QUEUE_BITS)
            for row_id, key, version, value, expires_at in rows
        }
        return found, b"%d" % rows[-1][0] if len(rows) == limit else b""

    def forget_series(self, series_id: int, used_since: float = math.inf) -> bool:
        with self._transaction() as connection:
            if connection.execute(USED_SERIES, (series_id, used_since)).fetchone():
                return False
            self._deltas.fold(connection)
            for statement in DELETE_SERIES:
                connection.execute(statement, (series_id,))
            connection.execute(DELETE_SUMS, {"series": series_id, "since": -LAST_START, "until": LAST_START})
        return True

    def state_bytes(self) -> int:
        return sum(path.stat().st_size for path in (self._path, Path(f"{self._path}-wal")) if path.exists())

    def ready(self) -> None:
        with self._transaction() as connection:
            connection.execute(TOUCH)

    def close(self) -> None:
        self._history.close()
        self.recover()
        if self._lock is not None:
            lock, self._lock = self._lock, None
            os.close(lock)
