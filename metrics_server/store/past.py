"""The time buckets of a series out of a SQLite file, for any thread, beside the one connection that writes.

In WAL mode a reader sees what was committed when it began, holds no writer up and waits for none. It opens the file for the one
statement (half a millisecond), so there is no connection to distrust after an error, nor one of a file that has been replaced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from threading import Lock
from urllib.parse import quote

from metrics_server.errors import StoreUnavailable
from metrics_server.store.statements import HISTORY, LAST_START
from metrics_server.sums import Sums
from metrics_server.window import Bucket

BUSY_SECONDS = 2.0  # how long it waits for another process that has locked the file


class Past:
    """Reads the file at a path until it is closed; then no file is open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()  # one reads at a time, and none beyond the close
        self._is_closed = False

    def of(self, series_id: int, since: int, until: int | None) -> Mapping[Bucket, Sums]:
        """The time buckets of one series with since <= start < until, all of one moment."""
        arguments = {"series": series_id, "since": since, "until": LAST_START if until is None else until}
        found: dict[Bucket, dict[str, float]] = {}
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable("SQLite: the store is closed")
            try:
                with closing(self._open()) as connection:
                    for width, start, name, value in connection.execute(HISTORY, arguments).fetchall():
                        found.setdefault(Bucket(width, start), {})[name] = value
            except sqlite3.Error as error:
                raise StoreUnavailable(f"SQLite: {error}") from error
        return dict(found)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None)

    def close(self) -> None:
        """Waits for who reads, and lets nobody read any more."""
        with self._lock:
            self._is_closed = True
