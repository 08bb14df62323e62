"""Deltas: what commits have added to sums, not yet folded into the table of sums.

A commit appends one row, whatever the number of its sums: of many series each sum would change a page of its own in the
table. When many wait they become one delta, which is no larger than what they are additions to, and all are folded
when a minute is over. Whoever reads sums adds those that wait; a delta is deleted in the transaction that folds it, so
each counts once. Whoever reads one series asks for the deltas that name it, and decodes of these its sums alone.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from metrics_server.metrics.sums import Sums, add_into
from metrics_server.metrics.window import Bucket
from metrics_server.store.sqlite.sql import (
    ADD_SUMS,
    CLEAR_DELTAS,
    COUNT_DELTAS,
    DELETE_IF_ZERO,
    DELTAS,
    DELTAS_OF,
    PUT_DELTA,
    write,
)

# Additions that wait at most, until they are added up. A commit waits for that for some 0.05 s; for 0.3 s when the sums
# are so many that it is worth a fold. Who reads all series takes 0.05 s longer.
MOST_WAITING = 100_000

BySeriesAndBucket: TypeAlias = "Mapping[tuple[int, Bucket], Sums]"
_Rows: TypeAlias = list[tuple[int, int, int, msgspec.Raw]]  # series, width, start, sums

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Rows).decode
_decode_sums = msgspec.msgpack.Decoder(dict[str, float]).decode


class Deltas:
    """The deltas of one connection, the only one that writes; made anew when one of its transactions is rolled back."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._waiting: int = connection.execute(COUNT_DELTAS).fetchone()[0]

    def append(self, connection: sqlite3.Connection, sums: BySeriesAndBucket) -> None:
        """Adds to sums, in the transaction of the connection."""
        if not sums:
            return
        count = sum(map(len, sums.values()))
        if not math.isfinite(sum(sum(added.values()) for added in sums.values())):
            # Infinities of two commits may come to NaN, which no row holds: they would never be folded.
            raise sqlite3.IntegrityError("a number that is added to a sum is not finite")
        rows = [(series_id, *bucket, added) for (series_id, bucket), added in sums.items()]
        named = b"".join(map(_name, {series_id for series_id, _ in sums}))
        connection.execute(PUT_DELTA, (count, named, _encode(rows)))
        self._waiting += count
        if self._waiting > MOST_WAITING:
            self._shrink(connection)

    def _shrink(self, connection: sqlite3.Connection) -> None:
        """Makes one delta of all; folds them when it would be of more than half of what may wait."""
        waiting = added_up(connection)
        if sum(map(len, waiting.values())) > MOST_WAITING // 2:
            self._fold(connection, waiting)
            return
        self._clear(connection)
        self.append(connection, waiting)

    def fold(self, connection: sqlite3.Connection) -> None:
        """Adds all deltas to the table of sums, in the transaction of the connection."""
        self._fold(connection, added_up(connection))

    def _fold(self, connection: sqlite3.Connection, waiting: BySeriesAndBucket) -> None:
        by_bucket = [(*bucket, series_id, sums) for (series_id, bucket), sums in waiting.items()]
        by_bucket.sort(key=lambda row: row[:3])  # the order of the table
        rows = [
            (series_id, width, start, name, value)
            for width, start, series_id, sums in by_bucket
            for name, value in sums.items()
        ]
        write(connection, ADD_SUMS, rows)
        # Sums of what waits are named by the time of receipt: those that came to 0 would only become more.
        connection.executemany(DELETE_IF_ZERO, [row[:-1] for row in rows if row[-1] < 0])
        self._clear(connection)

    def _clear(self, connection: sqlite3.Connection) -> None:
        connection.execute(CLEAR_DELTAS)
        self._waiting = 0


def added_up(
    connection: sqlite3.Connection, series_id: int | None = None
) -> dict[tuple[int, Bucket], dict[str, float]]:
    """Adds up all deltas that wait; those of one series alone, if it is named."""
    found: dict[tuple[int, Bucket], dict[str, float]] = {}
    deltas = connection.execute(DELTAS) if series_id is None else connection.execute(DELTAS_OF, (_name(series_id),))
    for (encoded,) in deltas:
        try:
            for series, width, start, added in _decode(encoded):
                if series_id is None or series == series_id:
                    add_into(found.setdefault((series, Bucket(width, start)), {}), _decode_sums(added))
        except msgspec.DecodeError as error:
            raise sqlite3.DatabaseError(f"the table of deltas is damaged: {error}") from error
    return found


def _name(series_id: int) -> bytes:
    """Encodes a series for `DELTAS_OF`, which may also find it across two names: rows are told apart again."""
    return series_id.to_bytes(8, "big", signed=True)


def is_in_time(bucket: Bucket, since: int, end: int) -> bool:
    """Tells whether a bucket is one of time, and starts at `since` or later and before `end`."""
    return bucket.width > 0 and since <= bucket.start < end
