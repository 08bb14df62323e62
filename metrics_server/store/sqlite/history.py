"""Reads the time buckets of a series from a SQLite file, in any thread, beside the one connection that writes.

In WAL mode a reader sees what was committed when it began, holds no writer up and waits for none. It opens the file for
the one query (half a millisecond), so there is no connection to distrust after an error, nor one to a file that has
been replaced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import chain, groupby, islice
from operator import attrgetter
from pathlib import Path
from threading import Condition
from typing import NamedTuple
from urllib.parse import quote

from metrics_server.errors import StoreUnavailable
from metrics_server.metrics.sums import Sums, add_into
from metrics_server.metrics.window import Bucket, floor
from metrics_server.store.interface import StepSums, StepSumsStream
from metrics_server.store.sqlite import deltas
from metrics_server.store.sqlite.sql import HISTORY, LAST_START, STARTS, added_up

BUSY_SECONDS = 2.0  # how long it waits for another process that has locked the file
CLOSE_SECONDS = 2.0  # how long a close waits for readers that it has interrupted
BUCKETS_A_STATEMENT = 16  # added up by one: between two it is checked whether somebody still waits
SORTED_KIB = 8192  # of rows that one statement sorts in memory, some 200,000; more go through a temporary file


class _StoredBucket(NamedTuple):
    """A time bucket that the file holds, and the step that it belongs to."""

    step_start: int
    width: int
    start: int


class HistoryReader:
    """Reads the file at a path until it is closed; after that no file is open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._readers: set[sqlite3.Connection] = set()
        self._changed = Condition()  # guards the readers
        self._is_closed = False

    def history(self, series_id: int, since: int, until: int | None) -> Mapping[Bucket, Sums]:
        """Returns the time buckets of one series with since <= start < until, all of one moment."""
        buckets: dict[Bucket, dict[str, float]] = {}
        with self._reading() as connection:
            for width, start, name, value in connection.execute(HISTORY, _arguments(series_id, since, until)):
                buckets.setdefault(Bucket(width, start), {})[name] = value
            for bucket, sums in _waiting(connection, series_id, since, until).items():
                add_into(buckets.setdefault(bucket, {}), sums)
        return dict(buckets)

    def steps(self, series_id: int, since: int, until: int, step: int, is_over: Callable[[], bool]) -> StepSumsStream:
        """Yields the buckets of `history` added up by step, one step in memory at a time; all of one moment."""
        with self._reading() as connection:
            waiting = _waiting(connection, series_id, since, until)
            stored = map(Bucket._make, connection.execute(STARTS, _arguments(series_id, since, until)))
            buckets = sorted(
                _StoredBucket(floor(start, step), width, start) for width, start in waiting.keys() | frozenset(stored)
            )
            for step_start, of_step in groupby(buckets, key=attrgetter("step_start")):
                sums: dict[str, float] = {}
                widest = 0
                for group in _groups_of_one_width(of_step):
                    if is_over() or self._is_closed:
                        raise StoreUnavailable("SQLite: the reading was ended")
                    if _add_up(connection, series_id, group, waiting, sums):
                        widest = group[0].width
                if nonzero := {name: value for name, value in sums.items() if value}:
                    yield StepSums(step_start, widest, nonzero)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Opens a connection that `close` interrupts, and shows one moment to all that is read by it."""
        try:
            with closing(self._open()) as connection:
                with self._changed:
                    if self._is_closed:
                        raise StoreUnavailable("SQLite: the store is closed")
                    self._readers.add(connection)
                try:
                    connection.execute("BEGIN")
                    yield connection
                finally:
                    with self._changed:
                        self._readers.discard(connection)
                        self._changed.notify_all()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"SQLite: {error}") from error

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=ro",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,  # who closes interrupts it
        )
        connection.execute(f"PRAGMA cache_size = -{SORTED_KIB}")
        return connection

    def close(self) -> None:
        """Interrupts all readers and refuses new ones."""
        with self._changed:
            self._is_closed = True
            for connection in self._readers:
                connection.interrupt()
            self._changed.wait_for(lambda: not self._readers, CLOSE_SECONDS)


def _arguments(series_id: int, since: int, until: int | None) -> dict[str, int]:
    return {"series": series_id, "since": since, "until": LAST_START if until is None else until}


def _waiting(
    connection: sqlite3.Connection, series_id: int, since: int, until: int | None
) -> dict[Bucket, dict[str, float]]:
    """What the deltas add to the time buckets of a series."""
    end = LAST_START if until is None else until
    found = deltas.added_up(connection, series_id)
    return {bucket: sums for (_, bucket), sums in found.items() if deltas.is_in_time(bucket, since, end)}


def _add_up(
    connection: sqlite3.Connection,
    series_id: int,
    group: list[_StoredBucket],
    waiting: Mapping[Bucket, Sums],
    sums: dict[str, float],
) -> bool:
    """Adds the buckets of a group to sums; tells whether the series has any, for they may be of others alone."""
    arguments = [*chain.from_iterable((bucket.start, bucket.width) for bucket in group), series_id]
    stored: dict[str, float] = dict(connection.execute(added_up(len(group)), arguments).fetchall())
    parts = [stored, *(waiting.get(Bucket(bucket.width, bucket.start), {}) for bucket in group)]
    for part in parts:
        add_into(sums, part)
    return any(parts)


def _groups_of_one_width(buckets: Iterable[_StoredBucket]) -> Iterator[list[_StoredBucket]]:
    """Splits the buckets of a step, which are sorted by width, into groups for one statement each."""
    for _, of_width in groupby(buckets, key=attrgetter("width")):
        while group := list(islice(of_width, BUCKETS_A_STATEMENT)):
            yield group
