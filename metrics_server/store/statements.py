"""The text of what is said to SQLite: the schema, and the statements that write many rows at once (`{rows}`)."""

SCHEMA = """
CREATE TABLE records (
    key BLOB PRIMARY KEY, version INTEGER NOT NULL, expires_at REAL NOT NULL, value BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE series (
    id INTEGER PRIMARY KEY, identity BLOB NOT NULL, created_at REAL NOT NULL, seen_at REAL NOT NULL
);
CREATE TABLE parameters (
    series INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (series, name)
) WITHOUT ROWID;
CREATE TABLE sums (
    series INTEGER NOT NULL, width INTEGER NOT NULL, start INTEGER NOT NULL, component TEXT NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (width, start, series, component)
) WITHOUT ROWID;
"""

NEW_RECORDS = "INSERT INTO records (key, version, expires_at, value) VALUES {rows} ON CONFLICT (key) DO NOTHING"
PUT_RECORDS = """UPDATE records SET version = new.column2, expires_at = new.column3, value = new.column4
FROM (VALUES {rows}) AS new WHERE records.key = new.column1 AND records.version = new.column2 - 1"""
DELETE_RECORDS = "DELETE FROM records WHERE (key, version) IN (VALUES {rows})"
ADD_SUMS = """INSERT INTO sums (series, width, start, component, value) VALUES {rows}
ON CONFLICT (width, start, series, component) DO UPDATE SET value = value + excluded.value"""
PUT_SERIES = """INSERT INTO series (id, identity, created_at, seen_at) VALUES {rows}
ON CONFLICT (id) DO UPDATE SET seen_at = max(seen_at, excluded.seen_at)"""
CLAIM = """INSERT INTO parameters (series, name, value) VALUES {rows}
ON CONFLICT (series, name) DO UPDATE SET value = value WHERE value = excluded.value"""
ROLL_UP = """INSERT INTO sums (series, width, start, component, value)
SELECT series, :coarse, start - start % :coarse, component, value FROM sums
WHERE width = :fine AND start = :start AND value != 0
ON CONFLICT (width, start, series, component) DO UPDATE SET value = value + excluded.value"""
