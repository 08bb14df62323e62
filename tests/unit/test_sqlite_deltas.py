"""Additions that wait in a SQLite file: whoever reads sums sees them, folded or not."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_server.metrics.sums import Sums, add_into
from metrics_server.metrics.window import CUMULATIVE, MINUTE, QUARTER, Bucket, floor
from metrics_server.store.interface import Change, StoredSeries
from metrics_server.store.sqlite import deltas
from metrics_server.store.sqlite.store import SqliteStore

SERIES = (1, 2, 3)
BUCKETS = (CUMULATIVE, *(Bucket(MINUTE, MINUTE * minute) for minute in (0, 1, 14, 15, 31)), Bucket(QUARTER, 0))
Plain = defaultdict[tuple[int, Bucket], dict[str, float]]

sums_of_a_commit = st.dictionaries(
    st.tuples(st.sampled_from(SERIES), st.sampled_from(BUCKETS)),
    st.dictionaries(st.sampled_from(("n", "x", "y")), st.integers(-3, 3).filter(bool).map(float), min_size=1),
    max_size=4,
)
ROLL_UP, REOPEN, FORGET = "roll up", "reopen", "forget series 1"


@given(
    steps=st.lists(st.one_of(sums_of_a_commit, st.sampled_from((ROLL_UP, REOPEN, FORGET))), max_size=12),
    most_waiting=st.sampled_from((0, 4, 100_000)),
)
def test_reading_sees_what_waits(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Mapping[tuple[int, Bucket], Sums] | str], most_waiting: int
) -> None:
    """After any commits, roll-ups, restarts and deleted series, however many additions may wait, all readings are what
    plain addition gives."""
    path = tmp_path_factory.mktemp("deltas") / "state.db"
    plain = Plain(dict)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deltas, "MOST_WAITING", most_waiting)
        store = SqliteStore(str(path))
        try:
            for step in steps:
                if step == REOPEN:
                    store.close()
                    store = SqliteStore(str(path))
                else:
                    _take(store, plain, step)
                _compare(store, plain)
        finally:
            store.close()


def _take(store: SqliteStore, plain: Plain, step: Mapping[tuple[int, Bucket], Sums] | str) -> None:
    if step == ROLL_UP:
        _roll_up_plainly(plain)
        store.roll_up(MINUTE, QUARTER, 30 * MINUTE)
    elif step == FORGET:
        assert store.forget_series(1)
        for key in [key for key in plain if key[0] == 1]:
            del plain[key]
    elif not isinstance(step, str):
        rows = {series_id: StoredSeries(series_id, b"", 0.0, 0.0, {}) for series_id, _ in step}
        assert store.commit(Change(sums=dict(step), series=rows))
        for key, sums in step.items():
            add_into(plain[key], sums)


def _roll_up_plainly(plain: Plain) -> None:
    """Moves the oldest minute before the 30th into its quarter of an hour."""
    minutes = [bucket.start for _, bucket in plain if bucket.width == MINUTE and bucket.start < 30 * MINUTE]
    for key in [key for key in plain if minutes and key[1] == Bucket(MINUTE, min(minutes))]:
        into = key[0], Bucket(QUARTER, floor(key[1].start, QUARTER))
        add_into(plain[into], plain.pop(key))


def _compare(store: SqliteStore, plain: Plain) -> None:
    assert _nonzero(store.cumulative(CUMULATIVE)) == _added(plain, CUMULATIVE)
    buckets = {bucket for _, bucket in plain if bucket != CUMULATIVE}
    assert _nonzero(store.totals(0)) == _added(plain, *buckets)
    late = [bucket for bucket in buckets if MINUTE <= bucket.start < 20 * MINUTE]
    assert _nonzero(store.totals(MINUTE, 20 * MINUTE)) == _added(plain, *late)
    for series_id in SERIES:
        history = {(series_id, bucket): sums for bucket, sums in store.history(series_id, 0).items()}
        own = {key: sums for key, sums in plain.items() if key[0] == series_id and key[1] != CUMULATIVE}
        assert _nonzero(history) == _nonzero(own)
        steps = {step.start: step.sums for step in store.steps(series_id, 0, 60 * MINUTE, QUARTER)}
        starts = {floor(bucket.start, QUARTER) for _, bucket in own}
        by_step = {
            start: _added(own, *(bucket for _, bucket in own if floor(bucket.start, QUARTER) == start)).get(series_id)
            for start in starts
        }
        assert steps == {start: sums for start, sums in by_step.items() if sums}


def _added(plain: Mapping[tuple[int, Bucket], Sums], *buckets: Bucket) -> dict[int, dict[str, float]]:
    """Adds up these buckets by series."""
    found: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for (series_id, bucket), sums in plain.items():
        if bucket in buckets:
            add_into(found[series_id], sums)
    return _nonzero(found)


def _nonzero(by_key: Mapping[object, Sums]) -> dict:  # type: ignore[type-arg]
    kept = {key: {name: value for name, value in sums.items() if value} for key, sums in by_key.items()}
    return {key: sums for key, sums in kept.items() if sums}


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit that is one too many makes one addition to each sum of all that wait; the roll-up folds them."""
    monkeypatch.setattr(deltas, "MOST_WAITING", 5)
    path = tmp_path / "state.db"
    with closing(SqliteStore(str(path))) as store:
        for expected in (2, 4, 2, 4, 2):
            store.commit(Change(sums={(1, CUMULATIVE): {"n": 1.0, "x": 2.0}}))
            assert _counted(path) == expected
        assert store.cumulative(CUMULATIVE) == {1: {"n": 5.0, "x": 10.0}}
        assert not _folded(path)
        store.roll_up(MINUTE, QUARTER, 0)
        assert _counted(path) == 0
    assert _folded(path) == [("n", 5.0), ("x", 10.0)]


def test_what_is_to_many_sums_is_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Additions to so many sums that adding them up would leave most of them are folded instead."""
    monkeypatch.setattr(deltas, "MOST_WAITING", 5)
    path = tmp_path / "state.db"
    with closing(SqliteStore(str(path))) as store:
        for expected in (3, 0, 3):
            store.commit(Change(sums={(1, CUMULATIVE): {"n": 1.0, "x": 2.0, "y": 3.0}}))
            assert _counted(path) == expected
    assert _folded(path) == [("n", 2.0), ("x", 4.0), ("y", 6.0)]


def _folded(path: Path) -> list[tuple[str, float]]:
    """The table of sums."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT component, value FROM sums").fetchall()


def _counted(path: Path) -> int:
    """The additions that wait in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT coalesce(sum(count), 0) FROM deltas").fetchone()[0])
