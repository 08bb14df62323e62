"""The SQL of the store: its schema, its migrations, and statements that write many rows at once (`{rows}`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar

from metrics_server.metrics.window import COARSEST, CUMULATIVE_BUCKETS, LEVELS

APPLICATION_ID = 0x464D5331  # "FMS1": says that a SQLite file is ours
SCHEMA_VERSION = 4

_REGISTERS = """
CREATE TABLE registers (
    series INTEGER NOT NULL, name TEXT NOT NULL, at REAL NOT NULL, value REAL NOT NULL, PRIMARY KEY (series, name)
) WITHOUT ROWID;
"""

# What commits have added to sums, see `deltas`: `count` sums each, of these series, eight bytes for each.
_DELTAS = """
CREATE TABLE deltas (id INTEGER PRIMARY KEY, count INTEGER NOT NULL, series BLOB NOT NULL, sums BLOB NOT NULL);
"""

SCHEMA = f"""
CREATE TABLE records (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, version INTEGER NOT NULL, expires_at REAL NOT NULL,
    value BLOB NOT NULL
);
CREATE TABLE series (
    id INTEGER PRIMARY KEY, identity BLOB NOT NULL, created_at REAL NOT NULL, seen_at REAL NOT NULL,
    predicted_at REAL NOT NULL DEFAULT 0, labelled_at REAL NOT NULL DEFAULT 0
);
CREATE TABLE parameters (
    series INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (series, name)
) WITHOUT ROWID;
CREATE TABLE sums (
    series INTEGER NOT NULL, width INTEGER NOT NULL, start INTEGER NOT NULL, component TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (width, start, series, component)
) WITHOUT ROWID;
{_REGISTERS}{_DELTAS}"""

# Statements that bring a file to the next version, by the version that it has.
MIGRATIONS = {
    1: """
ALTER TABLE records RENAME TO records_1;
CREATE TABLE records (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, version INTEGER NOT NULL, expires_at REAL NOT NULL,
    value BLOB NOT NULL
);
INSERT INTO records SELECT ((length(key) > 16) << 56) + row_number() OVER (ORDER BY expires_at), * FROM records_1;
DROP TABLE records_1;
ALTER TABLE series ADD COLUMN predicted_at REAL NOT NULL DEFAULT 0;
ALTER TABLE series ADD COLUMN labelled_at REAL NOT NULL DEFAULT 0;
INSERT INTO sums SELECT 0, -3, 0, iif(length(key) > 16, 'kept/halves', 'kept/events'), count(*)
FROM records GROUP BY length(key) > 16;
INSERT INTO sums SELECT 0, -3, 0, 'kept/half_bytes', sum(length(value) + 84)
FROM records WHERE length(key) > 16 GROUP BY 1;
""",
    2: _REGISTERS,
    3: _DELTAS,
}

# Records stand in the order in which their expiry was set, each expiry queue by itself: new ones go to the end of the
# file, and only the much smaller index of the keys is written to all over. In one table by key, a million records make
# every write three times as dear.
EXPIRY_QUEUE_BITS = 56
LAST_ID = "SELECT max(id) FROM records WHERE id BETWEEN ? AND ?"
NEW_RECORDS = "INSERT INTO records (key, version, expires_at, value, id) VALUES {rows} ON CONFLICT (key) DO NOTHING"
# A record whose expiry changes is written twice: an update of its id in the same statement would rewrite the index for
# all that keep theirs.
MOVE_RECORDS = "UPDATE records SET id = new.column2 FROM (VALUES {rows}) AS new WHERE records.key = new.column1"
PUT_RECORDS = """UPDATE records SET version = new.column2, expires_at = new.column3, value = new.column4
FROM (VALUES {rows}) AS new WHERE records.key = new.column1 AND records.version = new.column2 - 1"""
# By the ids: for a list of (key, version) SQLite reads the whole table.
DELETE_RECORDS = """DELETE FROM records WHERE id IN (SELECT records.id FROM (VALUES {rows}) AS gone
CROSS JOIN records ON records.key = gone.column1 AND records.version = gone.column2)"""
ADD_SUMS = """INSERT INTO sums (series, width, start, component, value) VALUES {rows}
ON CONFLICT (width, start, series, component) DO UPDATE SET value = value + excluded.value"""
PUT_DELTA = "INSERT INTO deltas (count, series, sums) VALUES (?, ?, ?)"
DELTAS = "SELECT sums FROM deltas ORDER BY id"
DELTAS_OF = "SELECT sums FROM deltas WHERE instr(series, ?) ORDER BY id"
COUNT_DELTAS = "SELECT coalesce(sum(count), 0) FROM deltas"
CLEAR_DELTAS = "DELETE FROM deltas"
# One by one: for a list of keys SQLite reads the whole table.
DELETE_IF_ZERO = "DELETE FROM sums WHERE series = ? AND width = ? AND start = ? AND component = ? AND value = 0"
PUT_REGISTERS = """INSERT INTO registers (series, name, at, value) VALUES {rows}
ON CONFLICT (series, name) DO UPDATE SET at = excluded.at, value = excluded.value
WHERE (excluded.at, excluded.value) > (at, value)"""
LOAD_PREFIX = "SELECT key, version, value FROM records WHERE key >= ? AND key < ?"
OLDEST = "SELECT expires_at, key, version, value FROM records WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
SCAN = "SELECT id, key, version, value, expires_at FROM records WHERE id > ? ORDER BY id LIMIT ?"
PUT_SERIES = """INSERT INTO series (id, identity, created_at, seen_at, predicted_at, labelled_at) VALUES {rows}
ON CONFLICT (id) DO UPDATE SET seen_at = max(seen_at, excluded.seen_at),
predicted_at = max(predicted_at, excluded.predicted_at), labelled_at = max(labelled_at, excluded.labelled_at)"""
CLAIM = """INSERT INTO parameters (series, name, value) VALUES {rows}
ON CONFLICT (series, name) DO UPDATE SET value = value WHERE value = excluded.value"""
# Writes the value that is there already: fails on a file that is read-only, or on a full disk.
TOUCH = f"PRAGMA user_version = {SCHEMA_VERSION}"

ROLL_UP = """WITH splits (series, start) AS MATERIALIZED (SELECT CAST(key AS INTEGER), value FROM json_each(:splits))
INSERT INTO sums (series, width, start, component, value)
SELECT sums.series, :coarse, coalesce(splits.start, sums.start - sums.start % :coarse), component, sums.value
FROM sums LEFT JOIN splits ON splits.series = sums.series
WHERE width = :fine AND sums.start = :start AND sums.value != 0
ON CONFLICT (width, start, series, component) DO UPDATE SET value = value + excluded.value"""

# The starts of the buckets of each width, found by a seek each: the table is by width and start, and each bucket holds
# sums of all series.
_STARTS = """WITH RECURSIVE buckets (width, start) AS (
SELECT column1, (SELECT min(start) FROM sums WHERE width = column1 AND start >= :since AND start < :until)
FROM (VALUES {widths})
UNION ALL
SELECT width, (SELECT min(start) FROM sums
WHERE sums.width = buckets.width AND sums.start > buckets.start AND sums.start < :until)
FROM buckets WHERE start IS NOT NULL)"""
WIDTHS = (*(width for width, _ in LEVELS), COARSEST)
_ALL_WIDTHS = (*(bucket.width for bucket in CUMULATIVE_BUCKETS), *WIDTHS)


def _starts_of(widths: Sequence[int]) -> str:
    """Fills in the widths of the buckets whose starts are wanted."""
    return _STARTS.format(widths=",".join(f"({width})" for width in widths))


_STARTS_OF_TIME = _starts_of(WIDTHS)
STARTS = f"{_STARTS_OF_TIME} SELECT width, start FROM buckets WHERE start IS NOT NULL"  # noqa: S608 - only our widths
HISTORY = f"""{_STARTS_OF_TIME}
SELECT sums.width, sums.start, component, value FROM buckets CROSS JOIN sums
ON sums.width = buckets.width AND sums.start = buckets.start AND sums.series = :series"""  # noqa: S608 - only our widths
_BUCKET = "SELECT component, value FROM sums WHERE start = ? AND width = ? AND series = ?"
_BUCKETS = """SELECT component, sum(value) FROM (VALUES {rows}) AS bucket CROSS JOIN sums
ON sums.start = bucket.column1 AND sums.width = bucket.column2 AND sums.series = ? GROUP BY 1"""
DELETE_SUMS = f"""{_starts_of(_ALL_WIDTHS)}
DELETE FROM sums WHERE (width, start, series) IN (SELECT width, start, :series FROM buckets)"""  # noqa: S608 - only our widths
USED_SERIES = "SELECT 1 FROM series WHERE id = ? AND seen_at >= ?"
DELETE_SERIES = (
    "DELETE FROM series WHERE id = ?",
    "DELETE FROM parameters WHERE series = ?",
    "DELETE FROM registers WHERE series = ?",
)
LAST_START = 2**62  # beyond all

# Rows a statement: as many as there are up to 64, so that a common batch takes one statement of each kind and all sizes
# stay in the statement cache; the rest of a large batch goes in portions of these sizes.
PORTIONS = (512, 64)

_Row = TypeVar("_Row")


def chunks(rows: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
    """Splits rows into portions of the sizes above."""
    start = 0
    for size in PORTIONS:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size
    if start < len(rows):
        yield rows[start:]


def ids_of(expiry_queue: int) -> tuple[int, int]:
    """Returns the first and the last id of an expiry queue."""
    return expiry_queue << EXPIRY_QUEUE_BITS, (expiry_queue + 1 << EXPIRY_QUEUE_BITS) - 1


class VersionConflict(Exception):
    """Something that a change was computed from has changed since."""


def write_all(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """Runs `write`, and raises VersionConflict unless it touches every row."""
    if write(connection, statement, rows) != len(rows):
        raise VersionConflict


def write(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[Any]]) -> int:
    """Runs a statement over rows, many at a time; returns how many it touched."""
    touched = 0
    for chunk in chunks(rows):
        touched += connection.execute(
            _of_size(statement, len(chunk), len(chunk[0])), list(chain.from_iterable(chunk))
        ).rowcount
    return touched


@lru_cache(1024)
def _of_size(statement: str, rows: int, columns: int) -> str:
    """Fills in the question marks of so many rows."""
    return statement.format(rows=",".join(["(" + ",".join("?" * columns) + ")"] * rows))


def added_up(buckets: int) -> str:
    """Returns the query that adds up so many buckets of a series, each given by start and width, by component."""
    return _BUCKET if buckets == 1 else _of_size(_BUCKETS, buckets, 2)
