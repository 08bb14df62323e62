"""Reads the time buckets of a series from PostgreSQL, in any thread, by connections of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import itemgetter

import psycopg
from psycopg import Connection

from metrics_server.errors import StoreUnavailable
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import Bucket
from metrics_server.store.interface import StepSums, StepSumsStream
from metrics_server.store.postgres.components import decoded
from metrics_server.store.postgres.connection import connect, first_line
from metrics_server.store.postgres.sql import HISTORY, STEPS
from metrics_server.store.postgres.watchdog import Watchdog

LAST_START = 2**62  # beyond all
ROWS_AT_ONCE = 2000  # fetched from the server
CANCEL_SECONDS = 2.0
READ_SECONDS = 60.0  # for a query; beyond it the database is taken to hang
PROBE_SECONDS = 3.0  # for a look at an idle connection
IDLE_READERS = 2  # connections kept open for the next query


class HistoryReader:
    """Reads a database until it is closed."""

    def __init__(self, url: str, watchdog: Watchdog) -> None:
        self._url = url
        self._watchdog = watchdog
        self._readers: set[Connection] = set()
        self._idle: list[Connection] = []
        self._lock = threading.Lock()  # guards the readers and the idle ones
        self._is_closed = False

    def history(self, series_id: int, since: int, until: int | None) -> Mapping[Bucket, Sums]:
        """Returns the time buckets of one series with since <= start < until, all of one moment."""
        buckets: dict[Bucket, dict[str, float]] = {}
        arguments = series_id, since, LAST_START if until is None else until
        with self._reading() as connection:
            for width, start, name, value in connection.execute(HISTORY, arguments, binary=True):
                buckets.setdefault(Bucket(width, start), {})[decoded(name)] = value
        return dict(buckets)

    def steps(self, series_id: int, since: int, until: int, step: int, is_over: Callable[[], bool]) -> StepSumsStream:
        """Yields the buckets of `history` added up by step; the server adds, and sends them one after the other."""
        arguments = {"series": series_id, "since": since, "until": until, "step": step}
        with self._reading() as connection, connection.transaction(), connection.cursor("steps", binary=True) as cursor:
            cursor.itersize = ROWS_AT_ONCE
            cursor.execute(STEPS, arguments)
            for start, rows in groupby(cursor, key=itemgetter(0)):
                if is_over() or self._is_closed:
                    raise StoreUnavailable("PostgreSQL: the reading was ended")
                sums, widest = {}, 0
                for _, name, value, width in rows:
                    widest = max(widest, width)
                    if value:
                        sums[decoded(name)] = value
                if sums:
                    yield StepSums(start, widest, sums)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Lends a connection that `close` ends. One that fails is not used again."""
        connection: Connection | None = None
        try:
            connection = self._taken()
            with self._watchdog.within(READ_SECONDS, connection):
                yield connection
            self._give_back(connection)
        except psycopg.Error as error:
            raise StoreUnavailable(f"PostgreSQL: {first_line(error)}") from error
        finally:
            if connection is not None:
                self._drop(connection)

    def _taken(self) -> Connection:
        """Takes an idle connection that is still open, or a new one."""
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable("PostgreSQL: the store is closed")
            connection = self._idle.pop() if self._idle else None
        if connection is not None and not self._is_alive(connection):
            connection.close()
            connection = None
        connection = connection or connect(self._url, "reader", self._watchdog)
        with self._lock:
            self._readers.add(connection)
        return connection

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._is_closed and len(self._idle) < IDLE_READERS:
                self._readers.discard(connection)
                self._idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        """Closes a connection that was not given back."""
        with self._lock:
            is_in_use = connection in self._readers
            self._readers.discard(connection)
        if is_in_use:
            connection.close()

    def close(self) -> None:
        """Cancels what is being read, and refuses new readers."""
        with self._lock:
            self._is_closed = True
            readers, idle, self._idle = list(self._readers), self._idle, []
        for connection in idle:
            connection.close()
        for connection in readers:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=CANCEL_SECONDS)

    def _is_alive(self, connection: Connection) -> bool:
        """Tells whether a connection that was idle can still be used, before a query depends on it."""
        try:
            with self._watchdog.within(PROBE_SECONDS, connection):
                connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True
