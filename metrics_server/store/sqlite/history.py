"""The time buckets of a series out of a SQLite file, for any thread, beside the one connection that writes.

In WAL mode a reader sees what was committed when it began, holds no writer up and waits for none. It opens the file for
the one question (half a millisecond), so there is no connection to distrust after an error, nor one of a file that has
been replaced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from threading import Condition
from urllib.parse import quote

from metrics_server.errors import StoreUnavailable
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import Bucket, floor
from metrics_server.store.interface import StepSums, StepSumsStream
from metrics_server.store.sqlite.sql import HISTORY, LAST_START, STARTS, added_up

BUSY_SECONDS = 2.0  # how long it waits for another process that has locked the file
CLOSE_SECONDS = 2.0  # how long a close waits for readers that it has interrupted
TOGETHER = 16  # buckets added up by one statement: between two it is looked whether somebody still waits
SORTED_KIB = 8192  # of rows that one statement sorts in memory, some 200,000; more go through a temporary file


class HistoryReader:
    """Reads the file at a path until it is closed; then no file is open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._readers: set[sqlite3.Connection] = set()
        self._changed = Condition()  # guards the readers
        self._is_closed = False

    def of(self, series_id: int, since: int, until: int | None) -> Mapping[Bucket, Sums]:
        """The time buckets of one series with since <= start < until, all of one moment."""
        found: dict[Bucket, dict[str, float]] = {}
        with self._reading() as connection:
            for width, start, name, value in connection.execute(HISTORY, _arguments(series_id, since, until)):
                found.setdefault(Bucket(width, start), {})[name] = value
        return dict(found)

    def steps(self, series_id: int, since: int, until: int, step: int, is_over: Callable[[], bool]) -> StepSumsStream:
        """What `of` has, added up by step, in their order, with one step in memory at a time; all of one moment."""
        with self._reading() as connection:
            connection.execute("BEGIN")
            buckets = sorted(
                (floor(start, step), width, start)
                for width, start in connection.execute(STARTS, _arguments(series_id, since, until))
            )
            for start, of_step in groupby(buckets, key=itemgetter(0)):
                sums: dict[str, float] = {}
                widest = 0
                for width, starts in _parts(of_step):
                    if is_over() or self._is_closed:
                        raise StoreUnavailable("SQLite: the reading was ended")
                    arguments = [*chain.from_iterable((one, width) for one in starts), series_id]
                    for name, value in connection.execute(added_up(len(starts)), arguments):
                        sums[name] = sums.get(name, 0.0) + value
                        widest = width
                if kept := {name: value for name, value in sums.items() if value}:
                    yield StepSums(start, widest, kept)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that `close` interrupts."""
        try:
            with closing(self._open()) as connection:
                with self._changed:
                    if self._is_closed:
                        raise StoreUnavailable("SQLite: the store is closed")
                    self._readers.add(connection)
                try:
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
        """Interrupts who reads, and lets nobody read any more."""
        with self._changed:
            self._is_closed = True
            for connection in self._readers:
                connection.interrupt()
            self._changed.wait_for(lambda: not self._readers, CLOSE_SECONDS)


def _arguments(series_id: int, since: int, until: int | None) -> dict[str, int]:
    return {"series": series_id, "since": since, "until": LAST_START if until is None else until}


def _parts(buckets: Iterable[tuple[int, int, int]]) -> Iterator[tuple[int, list[int]]]:
    """The starts of the buckets of a step, a few of one width at a time."""
    for width, of_width in groupby(buckets, key=itemgetter(1)):
        while part := list(islice(of_width, TOGETHER)):
            yield width, [start for *_, start in part]
