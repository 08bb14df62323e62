"""Additions that wait in a SQLite file: what can be wrong with them harms as little as may be."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from metrics_server.errors import StoreUnavailable
from metrics_server.metrics.window import CUMULATIVE, MINUTE, QUARTER, Bucket
from metrics_server.store.interface import Change, Register
from metrics_server.store.sqlite import deltas
from metrics_server.store.sqlite.store import SqliteStore

BUCKET = Bucket(MINUTE, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(str(path))) as store:
        yield store


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_addition_keeps_others_from_being_folded(bad: float, store: SqliteStore) -> None:
    """A commit that adds NaN or an infinity is refused, alone: what waits is folded later, and the next commit too."""
    assert store.commit(Change(sums={(1, BUCKET): {"n": 1.0}}))
    with pytest.raises(StoreUnavailable, match="not finite"):
        store.commit(Change(sums={(1, BUCKET): {"n": 1.0}, (2, BUCKET): {"n": bad}}))
    assert store.commit(Change(sums={(1, BUCKET): {"n": 1.0}}))
    assert store.roll_up(MINUTE, QUARTER, QUARTER)
    assert store.totals(0) == {1: {"n": 2.0}}


def test_a_series_is_read_by_itself(store: SqliteStore, path: Path) -> None:
    """Reading one series decodes no commit to others alone, so that with thousands of series it takes no longer."""
    for series_id in (1, 2):
        assert store.commit(Change(sums={(series_id, BUCKET): {"n": float(series_id)}}))
    _damage_last(path)
    assert store.history(1, 0) == {BUCKET: {"n": 1.0}}
    assert [step.sums for step in store.steps(1, 0, QUARTER, QUARTER)] == [{"n": 1.0}]


def test_ids_are_told_apart(store: SqliteStore) -> None:
    """A series, whose id may be negative, has nothing of two whose ids, one behind the other, have its own across
    them."""
    ids = (1, 2, -(2**63), -1, 2**63 - 1)
    assert store.commit(Change(sums={(series_id, BUCKET): {"n": float(series_id)} for series_id in ids}))
    for series_id in (0, 256, 512, -256):
        assert store.history(series_id, 0) == {}
    for series_id in ids:
        assert store.history(series_id, 0) == {BUCKET: {"n": float(series_id)}}


def test_damage_is_told(store: SqliteStore, path: Path) -> None:
    """Additions that cannot be decoded make the store unavailable to whoever needs them, as any damage of the file."""
    assert store.commit(Change(sums={(1, BUCKET): {"n": 1.0}, (1, CUMULATIVE): {"n": 1.0}}))
    _damage_last(path)
    for read in (
        lambda: store.history(1, 0),
        lambda: list(store.steps(1, 0, QUARTER, QUARTER)),
        lambda: store.totals(0),
        lambda: store.cumulative(CUMULATIVE),
        lambda: store.roll_up(MINUTE, QUARTER, QUARTER),
    ):
        with pytest.raises(StoreUnavailable, match="deltas is damaged"):
            read()


def test_what_was_rolled_back_still_waits(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that fails after it has folded leaves all that waited waiting, and the next one folds it."""
    monkeypatch.setattr(deltas, "MOST_WAITING", 2)
    one = {(1, BUCKET): {"n": 1.0, "x": 2.0}}
    assert store.commit(Change(sums=one))
    with pytest.raises(OverflowError):
        store.commit(Change(sums=one, registers={(1, "g"): Register(0.0, 2**70)}))
    assert _rows(path, "deltas") == 1
    assert store.commit(Change(sums=one))
    assert (_rows(path, "deltas"), _rows(path, "sums")) == (0, 2)
    assert store.totals(0) == {1: {"n": 2.0, "x": 4.0}}


def _damage_last(path: Path) -> None:
    """Writes over the sums of the last commit."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE deltas SET sums = x'c1' WHERE id = (SELECT max(id) FROM deltas)")


def _rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - our own names
