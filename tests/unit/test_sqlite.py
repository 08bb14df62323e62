"""What only the SQLite store can break: its file, its lock, its disk, and the order of its writes."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from metrics_server.errors import StoreRefused, StoreUnavailable
from metrics_server.metrics.window import CUMULATIVE, MINUTE, Bucket
from metrics_server.store.interface import Change, Record, Write
from metrics_server.store.sqlite import sql
from metrics_server.store.sqlite.store import APPLICATION_ID, BUSY_SECONDS, SCHEMA_VERSION, SqliteStore
from tests.support.sqlite_files import records, refusal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(str(path))
    yield opened
    opened.close()


def filled(path: Path) -> bytes:
    """A closed file of many pages; its bytes."""
    store = SqliteStore(str(path))
    assert store.commit(records(2000))
    assert store.commit(Change(sums={(1, Bucket(MINUTE, 60 * minute)): {"n": 1.0} for minute in range(2000)}))
    store.close()
    return path.read_bytes()


def test_a_second_instance_is_refused(store: SqliteStore, path: Path) -> None:
    """A second instance in the same process is refused, harms the first in nothing, and is taken after a close."""
    assert "in use" in refusal(path)
    assert store.commit(records(3))
    store.close()
    again = SqliteStore(str(path))
    assert len(again.load([b"000000", b"000002"])) == 2
    again.close()


# Files that are not ours, or not as they should be


def test_our_files_say_whose_they_are(path: Path) -> None:
    """A file carries our application id and schema version."""
    filled(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_newer_schema_is_refused(path: Path) -> None:
    """A file of a newer schema version is refused with both versions named, and left as it is."""
    filled(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    message = refusal(path)
    assert f"schema version {SCHEMA_VERSION + 1}" in message
    assert f"up to {SCHEMA_VERSION}" in message
    assert "newer server" in message
    assert path.read_bytes() == before


def test_a_foreign_database_is_refused(path: Path) -> None:
    """A SQLite file of another application is refused and left as it is."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY)")
        connection.commit()
    before = path.read_bytes()
    assert "another application" in refusal(path)
    assert path.read_bytes() == before


def test_a_foreign_database_without_tables_is_refused(path: Path) -> None:
    """A SQLite file that another application has stamped, but not yet filled, is refused and left as it is."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 1196444487")  # GeoPackage
    before = path.read_bytes()
    assert before
    assert "another application" in refusal(path)
    assert path.read_bytes() == before


NO_DATABASES = {
    "short": b"hello\n",
    "long": b"not a database\n" * 1000,
    "zeros": b"\x00" * 512,
    "magic": b"SQLite format 3\x00",
}


@pytest.mark.parametrize("content", NO_DATABASES.values(), ids=NO_DATABASES)
def test_a_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    """A file that is no SQLite database is refused and left as it is."""
    path.write_bytes(content)
    refusal(path)
    assert path.read_bytes() == content


def _overwrite(path: Path, start: float, length: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(int(path.stat().st_size * start) // 4096 * 4096)
        file.write((content * length)[:length])


DAMAGES: dict[str, Callable[[Path], None]] = {
    "pages in the middle": lambda path: _overwrite(path, 0.5, 3 * 4096, b"\xff\x00\x37"),
    "zeros in the middle": lambda path: _overwrite(path, 0.3, 2 * 4096, b"\x00"),
    "the schema": lambda path: path.write_bytes(path.read_bytes()[:100] + b"\xff" * 3996 + path.read_bytes()[4096:]),
    "the end": lambda path: os.truncate(path, path.stat().st_size // 4096 // 2 * 4096),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(path: Path, damage: str) -> None:
    """A damaged file stops the start with a message, and is neither repaired nor replaced."""
    filled(path)
    DAMAGES[damage](path)
    before = path.read_bytes()
    message = refusal(path)
    assert "Nothing was changed" in message
    assert "restore a backup" in message
    assert path.read_bytes() == before
    refusal(path)
    assert path.read_bytes() == before


def test_a_file_that_went_away_is_not_replaced(store: SqliteStore, path: Path) -> None:
    """When the file has gone while the server runs, it says so and does not begin from zero."""
    store.commit(records(3))
    path.unlink()
    store.recover()
    with pytest.raises(StoreUnavailable):
        store.load([b"000000"])
    with pytest.raises(StoreUnavailable):
        store.commit(records(1))


def test_a_path_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in a place where no directory can be made is refused with a clear message."""
    (tmp_path / "file").write_bytes(b"")
    assert "cannot write beside" in refusal(tmp_path / "file" / "deep" / "state.db")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    """A directory in the place of the file is refused with a clear message."""
    (tmp_path / "state.db").mkdir()
    assert "cannot be used" in refusal(tmp_path / "state.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("readonly", ["directory", "file"])
def test_read_only_places(path: Path, readonly: str) -> None:
    """A directory or file that cannot be written is refused with a clear message."""
    filled(path)
    before = path.read_bytes()
    Path(f"{path}.lock").unlink()
    target = path.parent if readonly == "directory" else path
    target.chmod(0o500 if readonly == "directory" else 0o400)
    try:
        refusal(path)
        assert path.read_bytes() == before
    finally:
        target.chmod(0o700)


def test_a_directory_that_is_missing_is_not_made(tmp_path: Path) -> None:
    """A volume that is not mounted, or a slash too few, stops the start instead of hiding the state somewhere."""
    with pytest.raises(StoreRefused, match="No such file or directory"):
        SqliteStore(str(tmp_path / "a" / "state.db"))
    assert not list(tmp_path.iterdir())


# Failures while it runs


def test_no_statement_reads_all_records(store: SqliteStore) -> None:
    """Whatever is written, read or deleted by key or by age is found by an index: millions of records must not be gone
    through."""
    connection = store._connection
    assert connection is not None
    connection.executemany(
        "INSERT INTO records VALUES (?, ?, 1, 0, ?)", [(number, b"%04d" % number, b"") for number in range(2000)]
    )
    for name, columns in (
        ("NEW_RECORDS", 5),
        ("PUT_RECORDS", 4),
        ("MOVE_RECORDS", 2),
        ("DELETE_RECORDS", 2),
        ("OLDEST", 0),
        ("LAST_ID", 0),
    ):
        statement = getattr(sql, name)
        asked = statement.format(rows=",".join(["(" + ",".join("?" * columns) + ")"] * 3)) if columns else statement
        plan = connection.execute(f"EXPLAIN QUERY PLAN {asked}", [None] * asked.count("?")).fetchall()
        assert not [line for *_, line in plan if re.match(r"SCAN records", line)], name
    assert "USING INDEX" in str(
        connection.execute("EXPLAIN QUERY PLAN SELECT value FROM records WHERE key IN (?, ?)", (b"", b"")).fetchall()
    )


def test_a_new_connection_sees_what_was_committed(tmp_path: Path) -> None:
    """After a connection was dropped, as after a failed write, the store goes on with what was committed."""
    store = SqliteStore(str(tmp_path / "state.db"))
    assert store.commit(records(1))
    before = store.load(records(1).records)
    store.recover()
    store.ready()
    assert before
    assert store.load(records(1).records) == before
    store.close()


def test_a_locked_database(store: SqliteStore, path: Path) -> None:
    """While another connection holds the database, changes are refused within a few seconds and reading goes on; then
    all works."""
    store.commit(Change({b"a": Write(0, b"one", 1e12)}, sums={(1, CUMULATIVE): {"n": 1.0}}))
    change = Change({b"a": Write(1, b"two", 1e12)}, sums={(1, CUMULATIVE): {"n": 1.0}})
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.commit(change)
        assert time.monotonic() - started < BUSY_SECONDS + 8
        with pytest.raises(StoreUnavailable):
            store.ready()
        assert store.load([b"a"]) == {b"a": Record(1, b"one")}
        assert store.cumulative(CUMULATIVE) == {1: {"n": 1.0}}
        other.execute("ROLLBACK")
        store.ready()
        assert store.commit(change)
        assert store.load([b"a"]) == {b"a": Record(2, b"two")}
        assert store.cumulative(CUMULATIVE) == {1: {"n": 2.0}}


def test_a_full_database(store: SqliteStore) -> None:
    """A change that finds no room is refused, leaves nothing half applied, and the store goes on once there is room."""
    store.commit(Change({b"a": Write(0, b"one", 1e12)}, sums={(1, CUMULATIVE): {"n": 1.0}}))
    connection = store._connection
    assert connection is not None
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    large = records(2000)
    large.records[b"a"] = Write(1, b"two", 1e12)
    large.sums[1, CUMULATIVE] = {"n": 1.0}
    large.claims[1, "model"] = "binary"
    with pytest.raises(StoreUnavailable, match="full"):
        store.commit(large)
    assert store.load([b"a", *large.records]) == {b"a": Record(1, b"one")}
    assert store.cumulative(CUMULATIVE) == {1: {"n": 1.0}}
    assert store.commit(large), "a new connection has no such limit"
    assert len(store.load(list(large.records))) == 2001
    assert store.cumulative(CUMULATIVE) == {1: {"n": 2.0}}
