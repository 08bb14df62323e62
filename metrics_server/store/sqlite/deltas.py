"""Deltas: what commits have added to sums, not yet folded into the table of sums.

A commit appends one row, whatever the number of its sums: of many series each sum would change a page of its own in the
table. Some thousand sums later all are folded together, when most stand for several additions. Whoever reads sums adds
those that wait; a delta is deleted in the transaction that folds it, so each counts once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import Bucket
from metrics_server.store.sqlite.sql import (
    ADD_SUMS,
    CLEAR_DELTAS,
    COUNT_DELTAS,
    DELETE_IF_ZERO,
    DELTAS,
    PUT_DELTA,
    write,
)

# Additions that wait at most. A fold of as many holds commits up for some 0.2 s if each is to a sum of its own; of a
# thousand series in a minute it makes 20,000 rows of them. A reader decodes them all, in a hundredth of a second.
MOST_WAITING = 100_000

BySeriesAndBucket: TypeAlias = "Mapping[tuple[int, Bucket], Sums]"
_Rows: TypeAlias = list[tuple[int, int, int, dict[str, float]]]  # series, width, start, sums

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Rows).decode


class Deltas:
    """The deltas of one connection, the only one that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._waiting: int  # about: a transaction that is rolled back is not taken out
        (self._waiting,) = connection.execute(COUNT_DELTAS).fetchone()

    def append(self, connection: sqlite3.Connection, sums: BySeriesAndBucket) -> None:
        """Adds to sums, in the transaction of the connection."""
        if not sums:
            return
        count = sum(map(len, sums.values()))
        rows = [(series_id, *bucket, added) for (series_id, bucket), added in sums.items()]
        connection.execute(PUT_DELTA, (count, _encode(rows)))
        self._waiting += count
        if self._waiting > MOST_WAITING:
            self.fold(connection)

    def fold(self, connection: sqlite3.Connection) -> None:
        """Adds all deltas to the table of sums, in the transaction of the connection."""
        by_bucket = [(*bucket, series_id, sums) for (series_id, bucket), sums in added_up(connection).items()]
        by_bucket.sort(key=lambda row: row[:3])  # the order of the table
        rows = [
            (series_id, width, start, name, value)
            for width, start, series_id, sums in by_bucket
            for name, value in sums.items()
            if value
        ]
        write(connection, ADD_SUMS, rows)
        # Sums of what waits are named by the time of receipt: those that came to 0 would only become more.
        connection.executemany(DELETE_IF_ZERO, [row[:-1] for row in rows if row[-1] < 0])
        connection.execute(CLEAR_DELTAS)
        self._waiting = 0


def added_up(
    connection: sqlite3.Connection, series_id: int | None = None
) -> dict[tuple[int, Bucket], dict[str, float]]:
    """Adds up all deltas that wait; those of one series alone, if it is named."""
    found: dict[tuple[int, Bucket], dict[str, float]] = {}
    for (encoded,) in connection.execute(DELTAS):
        for series, width, start, added in _decode(encoded):
            if series_id is None or series == series_id:
                add_plain(found.setdefault((series, Bucket(width, start)), {}), added.items())
    return found


def add_plain(target: dict[str, float], items: Iterable[tuple[str, float]]) -> None:
    """Adds to sums; what comes to 0 stays, as in the table."""
    for name, value in items:
        target[name] = target.get(name, 0.0) + value
