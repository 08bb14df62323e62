"""State in PostgreSQL, shared: any number of servers write to one database, and all show the same numbers.

A server is a writer with a number, and its commits are numbered from 1 without gaps, in its row of `writers`. So after
a connection was lost in a commit, that row tells whether the commit took place: it is first taken over, by a write,
which a database that is no longer the primary cannot finish, and which waits for a commit that is still under way.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any

import msgspec
import psycopg
from psycopg import Connection, errors

from metrics_server.errors import StoreRefused, StoreUnavailable
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import Bucket
from metrics_server.store.connected import ConnectedStore
from metrics_server.store.interface import (
    RECORD_SCHEMA,
    Change,
    News,
    Record,
    Register,
    Sharing,
    Splits,
    StoredSeries,
    Write,
    end_of_prefix,
)
from metrics_server.store.postgres.arrays import array
from metrics_server.store.postgres.batch import CommitArguments, Delta, arguments_of
from metrics_server.store.postgres.components import Components, decoded
from metrics_server.store.postgres.connection import connect, first_line
from metrics_server.store.postgres.history import LAST_START, HistoryReader
from metrics_server.store.postgres.sql import (
    ARRAYS,
    BEAT,
    COMMIT,
    CONFLICT,
    CUMULATIVE,
    ENROL,
    EXPIRED,
    FENCED,
    LEAVE,
    LOAD,
    LOAD_PREFIX,
    MERGE_BUCKET,
    NEWS,
    OTHER_WRITERS,
    PARAMETERS,
    REGISTERS,
    SCAN,
    SERIES,
    SIZE,
    STALE_CATALOG,
    TAKE_OVER,
    TOTALS,
)
from metrics_server.store.postgres.tables import ensure_tables
from metrics_server.store.postgres.watchdog import Watchdog

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0  # for a commit or a look at records; beyond it the database is taken to hang
READ_SECONDS = 120.0  # the same for all sums of all series
RESOLVE_SECONDS = 15.0  # how long a commit that may have taken place is asked after: senders wait meanwhile
RETRY_SECONDS = 0.2  # between two attempts to connect
HEARTBEAT_SECONDS = 1.0
CLOCK_JITTER_SECONDS = 0.25  # of the difference between two clocks, by the time that a message takes
SIZE_SECONDS = 10.0  # how long a size is taken for the current one
FOLDED_AT_ONCE = 500  # deltas at most
FOLD_SECONDS = 0.5  # that a fold may hold up commits, about: a delta has a few sums or a hundred thousand

# Another writer was first, in another order; it is computed again.
_COLLISIONS = (errors.DeadlockDetected, errors.SerializationFailure)
_REFUSALS = (CONFLICT, STALE_CATALOG, FENCED)
# SQLSTATEs that begin so may come with the end of a connection, in the midst of a commit: of connections, and of a
# server that is stopped.
_CONNECTION_ENDS = ("08", "57")


class PostgresStore(ConnectedStore[Connection]):
    """The contract of `Store` over one database, with other writers.

    Raises (on opening):
        StoreRefused: the database cannot be reached, or holds a newer version.
    """

    upkeep_delay = 3600.0  # for clocks that differ and servers that were stopped

    def __init__(self, url: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._url = url
        self._answer_seconds = answer_seconds
        self._components = Components()
        self._connection: Connection | None = None
        self._watchdog = Watchdog()
        self._history = HistoryReader(url, self._watchdog)
        self._writer = self._session = self._seq = 0  # no writer yet
        self._heads: dict[int, int] | None = None  # the last commit of each writer that was told of; None before any
        self._epoch = self._deletions = 0  # of the catalog, as it was told of
        self._series_ids: set[int] = set()
        self.sharing = Sharing(record_schema=0)  # not known before the first heartbeat
        self._is_upkeeper = False
        self._folded_at_once = FOLDED_AT_ONCE
        self._beat_at = -math.inf
        self._size, self._sized_at = 0, -math.inf
        self._is_unsure = False  # a write was reported done that a standby may not have
        try:
            self._connect()
            self._read_catalog()
        except (psycopg.Error, StoreUnavailable) as error:
            self.close()
            raise StoreRefused(f"--store: PostgreSQL cannot be used: {first_line(error)}") from error
        except BaseException:
            self.close()
            raise

    # Connection

    def _connect(self) -> Connection:
        """Connects, and makes this connection the one that commits for its writer."""
        connection = connect(self._url, "writer", self._watchdog)
        try:
            connection.add_notice_handler(self._note_notice)
            with self._watchdog.within(self._answer_seconds, connection):
                ensure_tables(connection)
                self._enrol(connection)
        except BaseException:
            connection.close()
            raise
        # A standby that has taken over may lack commits that were seen before, if a wait for it was cancelled, and give
        # their numbers and those of components to others: all is read anew.
        self._heads, self._components = None, Components()
        self._connection = connection
        return connection

    def _enrol(self, connection: Connection) -> None:
        self._is_unsure = False
        row = connection.execute(TAKE_OVER, (self._writer,)).fetchone() if self._writer else None
        if row is None:  # new, or given up meanwhile
            row = connection.execute(ENROL, (RECORD_SCHEMA,)).fetchone()
            assert row is not None
        if self._is_unsure:
            raise StoreUnavailable("PostgreSQL: the standby has not confirmed a write")
        self._writer, self._session, self._seq = row

    def _note_notice(self, notice: psycopg.errors.Diagnostic) -> None:
        # "canceling wait for synchronous replication": the write is on this machine alone, and reported as done.
        if notice.sqlstate == "01000":
            self._is_unsure = True

    @contextmanager
    def _guarded(self, seconds: float | None = None) -> Iterator[Connection]:
        """Lends the connection; every error of PostgreSQL becomes `StoreUnavailable`, and ends the connection."""
        try:
            connection = self._connection or self._connect()
            with self._watchdog.within(seconds or self._answer_seconds, connection):
                yield connection
        except psycopg.Error as error:
            self.recover()
            raise StoreUnavailable(f"PostgreSQL: {first_line(error)}") from error

    def _read_catalog(self) -> None:
        with self._guarded() as connection:
            row = connection.execute("SELECT epoch, deletions FROM catalog").fetchone()
            assert row is not None
            self._epoch, self._deletions = row
            self._series_ids = {number for (number,) in connection.execute("SELECT id FROM series")}

    # Records and commits

    def load(self, keys: Collection[bytes]) -> Mapping[bytes, Record]:
        if not keys:
            return {}
        with self._guarded() as connection:
            rows = connection.execute(LOAD, (array("bytea[]", list(keys)),), binary=True).fetchall()
        return {key: Record(version, value) for key, version, value in rows}

    def load_prefix(self, prefix: bytes) -> Mapping[bytes, Record]:
        with self._guarded() as connection:
            rows = connection.execute(LOAD_PREFIX, (prefix, end_of_prefix(prefix)), binary=True).fetchall()
        return {key: Record(version, value) for key, version, value in rows}

    def commit(self, change: Change) -> bool:
        with self._guarded() as connection:
            names = {name for sums in change.sums.values() for name in sums}
            arguments = arguments_of(change, self._series_ids, self._components.ids(connection, names))
        seq = self._seq + 1
        try:
            epoch = self._call_commit(seq, arguments)
        except psycopg.Error as error:
            if not self._took_place(seq, error):
                return False
            epoch = self._epoch + arguments.has_claims  # as the server has counted, if it was asked to
        self._seq, self._epoch = seq, epoch
        self._series_ids.update(change.series)
        return True

    def _call_commit(self, seq: int, arguments: CommitArguments) -> int:
        connection = self._connection or self._connect()
        self._is_unsure = False
        arrays = map(array, ARRAYS, chain.from_iterable(arguments))
        with self._watchdog.within(self._answer_seconds, connection):
            row = connection.execute(COMMIT, (self._writer, self._session, seq, self._epoch, *arrays)).fetchone()
        if self._is_unsure:
            raise psycopg.OperationalError("the standby has not confirmed a commit")
        assert row is not None
        return int(row[0])

    def _took_place(self, seq: int, error: psycopg.Error) -> bool:
        """Tells whether a commit took place that has failed; False if it can be tried again.

        Raises:
            StoreUnavailable: it did not take place, or there is no telling because the database is away.
            psycopg.Error: it cannot take place, by a fault of ours.
        """
        if error.sqlstate in _REFUSALS or isinstance(error, _COLLISIONS):
            if error.sqlstate == FENCED:
                self._start_anew()
            else:
                self.sharing.conflicts += 1
            return False
        if error.sqlstate is None and not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
            raise error
        if error.sqlstate is not None and not error.sqlstate.startswith(_CONNECTION_ENDS):
            self.recover()  # of several hosts another may take writes by now
            raise StoreUnavailable(f"PostgreSQL: {first_line(error)}") from error
        return self._is_found(seq, error)

    def _start_anew(self) -> None:
        logger.warning("This server was silent for long, and starts anew as another writer")
        self._writer = 0
        self.recover()

    def _is_found(self, seq: int, error: psycopg.Error) -> bool:
        """Finds out whether a commit took place whose connection was lost.

        Raises:
            StoreUnavailable: there is no telling, because the database is away.
        """
        deadline = time.monotonic() + RESOLVE_SECONDS
        writer = self._writer
        while True:
            self.recover()
            try:
                self._connect()
                break
            except (psycopg.Error, StoreUnavailable) as still:
                if time.monotonic() > deadline:
                    raise StoreUnavailable(f"PostgreSQL: {first_line(still)}") from error
                time.sleep(RETRY_SECONDS)
        if self._writer != writer:  # given up meanwhile, and with it the answer
            raise StoreUnavailable(f"PostgreSQL: {first_line(error)}") from error
        return self._seq == seq

    # Series and sums

    def series(self) -> list[StoredSeries]:
        with self._guarded(READ_SECONDS) as connection, self._in_transaction(connection):
            rows = self._series_since(connection, None)
        self._series_ids = {row.id for row in rows}
        return rows

    def _series_since(self, connection: Connection, epoch: int | None) -> list[StoredSeries]:
        """Reads the series that were made or have claimed since an epoch; None for all."""
        rows = connection.execute(SERIES, {"since": epoch}, binary=True).fetchall()
        ids = None if epoch is None else [row[0] for row in rows]
        parameters: dict[int, dict[str, str]] = {}
        for series_id, name, value in connection.execute(PARAMETERS, {"ids": ids}, binary=True):
            parameters.setdefault(series_id, {})[decoded(name)] = decoded(value)
        return [
            StoredSeries(number, identity, created_at, seen_at, parameters.get(number, {}), predicted_at, labelled_at)
            for number, identity, created_at, seen_at, predicted_at, labelled_at in rows
        ]

    @contextmanager
    def _in_transaction(self, connection: Connection) -> Iterator[None]:
        """Shows one moment to several queries, unless they are in a snapshot already."""
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            with self._watchdog.within(self._answer_seconds, connection):  # a database that hangs is noticed here
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield
            finally:
                with suppress(psycopg.Error):
                    connection.execute("COMMIT")
        else:
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with self._guarded(READ_SECONDS) as connection, self._in_transaction(connection):
            yield

    def cumulative(self, bucket: Bucket) -> Mapping[int, Sums]:
        return self._sums_by_series(CUMULATIVE, bucket)

    def totals(self, since: int, until: int | None = None) -> Mapping[int, Sums]:
        return self._sums_by_series(TOTALS, (since, LAST_START if until is None else until))

    def _sums_by_series(self, query: str, arguments: Sequence[int]) -> dict[int, Sums]:
        by_series: dict[int, dict[str, float]] = {}
        with self._guarded(READ_SECONDS) as connection:
            rows = connection.execute(query, arguments, binary=True).fetchall()
            names = self._components.names(connection, {row[1] for row in rows})
        for series_id, number, value in rows:
            by_series.setdefault(series_id, {})[names[number]] = value
        return dict(by_series)

    def registers(self) -> Mapping[int, Mapping[str, Register]]:
        by_series: dict[int, dict[str, Register]] = {}
        with self._guarded(READ_SECONDS) as connection:
            for series_id, name, at, value in connection.execute(REGISTERS, binary=True):
                by_series.setdefault(series_id, {})[decoded(name)] = Register(at, value)
        return by_series

    # Other writers

    def now(self) -> float:
        return time.time() + self.sharing.clock_offset

    def catch_up(self) -> News:
        # Who has missed much reads all anew; a database that hangs is noticed here as soon as in a commit.
        with self._guarded(READ_SECONDS if self._heads is None else self._answer_seconds) as connection:
            rows = [Delta(*row) for row in self._news_rows(connection)]
            told = self._news_of(connection, rows)
        self._heads = {row.writer: row.head for row in rows}
        self._epoch, self._deletions = rows[0].epoch, rows[0].deletions
        self.sharing.caught_up_at = time.monotonic()
        return told

    def _news_rows(self, connection: Connection) -> list[tuple[Any, ...]]:
        heads = self._heads or {}
        arguments = {"writers": list(heads), "seqs": list(heads.values()), "me": self._writer}
        return connection.execute(NEWS, arguments, binary=True).fetchall()

    def _news_of(self, connection: Connection, rows: Sequence[Delta]) -> News:
        deltas = [row for row in rows if row.seq is not None]
        if rows[0].deletions != self._deletions or not self._is_seamless(rows, deltas):
            return News(is_complete=False)
        series: Sequence[StoredSeries] = ()
        if rows[0].epoch != self._epoch:
            series = self._series_since(connection, self._epoch)
            self._series_ids.update(row.id for row in series)
        names = self._components.names(connection, {number for row in deltas for number in row.component})
        return News([row.change(names) for row in deltas], series)

    def _is_seamless(self, rows: Sequence[Delta], deltas: Sequence[Delta]) -> bool:
        """Tells whether these deltas are all commits of others between those that were told of and their last."""
        if self._heads is None:
            return False
        reached = dict(self._heads)
        for delta in deltas:
            if delta.seq != reached.get(delta.writer, 0) + 1:
                return False
            reached[delta.writer] = delta.seq
        return all(reached.get(row.writer, 0) == row.head for row in rows if row.writer != self._writer)

    def takes_upkeep(self) -> bool:
        if time.monotonic() - self._beat_at >= HEARTBEAT_SECONDS:
            self._beat()
        return self._is_upkeeper

    def _beat(self) -> None:
        asked = time.time()
        with self._guarded() as connection:
            row = connection.execute(BEAT, (self._writer, self._session)).fetchone()
        assert row is not None
        self._beat_at = time.monotonic()
        is_upkeeper, database_time, self.sharing.unfolded, self.sharing.record_schema = row
        offset = database_time - (asked + time.time()) / 2
        if abs(offset - self.sharing.clock_offset) > CLOCK_JITTER_SECONDS:
            self.sharing.clock_offset = offset
        self._is_upkeeper = bool(is_upkeeper)
        if is_upkeeper is None:
            self._start_anew()

    # Upkeep

    def tidy(self) -> bool:
        most, started = self._folded_at_once, time.monotonic()
        self._folded_at_once = max(1, most // 8)  # the next time, unless this ends within the limit
        with self._guarded() as connection:
            row = connection.execute("SELECT tidy(%s)", (most,)).fetchone()
        self.sharing.upkeep_at = time.monotonic()
        found = 0 if row is None else row[0]
        pace = found / max(self.sharing.upkeep_at - started, 1e-3)  # deltas a second
        self._folded_at_once = max(1, min(FOLDED_AT_ONCE, int(pace * FOLD_SECONDS))) if found else most
        return bool(found == most)

    def roll_up(self, fine: int, coarse: int, before: int, splits: Splits | None = None) -> bool:
        return self._merge_bucket(fine, coarse, before, splits or {})

    def forget_before(self, coarsest: int, before: int) -> bool:
        return self._merge_bucket(coarsest, 0, before, {})

    def _merge_bucket(self, fine: int, coarse: int, before: int, splits: Splits) -> bool:
        split = [(series_id, start) for series_id, starts in splits.items() for start in starts]
        columns = [series_id for series_id, _ in split], [start for _, start in split]
        with self._guarded() as connection:
            row = connection.execute(MERGE_BUCKET, (fine, coarse, before, *columns)).fetchone()
        return bool(row and row[0])

    def expired(self, before: float, limit: int, expiry_queue: int = 0) -> Mapping[bytes, Record]:
        with self._guarded() as connection:
            rows = connection.execute(EXPIRED, (expiry_queue, before, limit), binary=True).fetchall()
        return {key: Record(version, value) for key, version, value in rows}

    def scan(self, position: bytes, limit: int) -> tuple[Mapping[bytes, Write], bytes]:
        after = msgspec.msgpack.decode(position, type=tuple[int, float, bytes]) if position else (-1, 0.0, b"")
        with self._guarded() as connection:
            rows = connection.execute(SCAN, (*after, limit), binary=True).fetchall()
        found = {key: Write(version, value, expires_at, queue) for queue, expires_at, key, version, value in rows}
        return found, msgspec.msgpack.encode(rows[-1][:3]) if len(rows) == limit else b""

    def other_writers(self) -> int:
        with self._guarded() as connection:
            row = connection.execute(OTHER_WRITERS, (self._writer,)).fetchone()
        return int(row[0]) if row else 0

    def forget_series(self, series_id: int, used_since: float = math.inf) -> bool:
        with self._guarded(READ_SECONDS) as connection:
            row = connection.execute("SELECT delete_series(%s, %s)", (series_id, used_since)).fetchone()
        if row and row[0]:
            self._series_ids.discard(series_id)
        return bool(row and row[0])

    def state_bytes(self) -> int:
        if time.monotonic() - self._sized_at >= SIZE_SECONDS:
            with self._guarded() as connection:
                row = connection.execute(SIZE).fetchone()
            self._size, self._sized_at = int(row[0]) if row else 0, time.monotonic()
        return self._size

    def ready(self) -> None:
        self._beat()

    def close(self) -> None:
        self._history.close()
        if self._connection is not None:  # the upkeep goes to another at once
            with suppress(psycopg.Error), self._watchdog.within(self._answer_seconds, self._connection):
                self._connection.execute(LEAVE, {"me": self._writer, "session": self._session})
        self.recover()
        self._watchdog.close()
