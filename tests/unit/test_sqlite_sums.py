"""What the file of the SQLite store keeps of sums."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.window import MINUTE, QUARTER, USAGE, Bucket
from metrics_server.pairing.batch import Batch
from metrics_server.store.interface import Change
from metrics_server.store.sqlite import deltas
from metrics_server.store.sqlite.store import SqliteStore
from tests.support.pairing_bench import KEEPING, MAIN, NOW
from tests.support.pairing_machine import Bench, Sent


def rows(path: Path, bucket: Bucket) -> dict[str, float]:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT component, value FROM sums WHERE width = ? AND start = ?"
        return dict(connection.execute(query, bucket).fetchall())


@pytest.fixture(autouse=True)
def _folded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every commit is folded into the table of sums."""
    monkeypatch.setattr(deltas, "MOST_WAITING", 0)


def test_sums_of_what_waited_leave_the_file(tmp_path: Path) -> None:
    """Days of predictions that each get their truth leave no more sums of usage than one of them."""
    store = SqliteStore(str(path := tmp_path / "state.db"))
    bench = Bench(store)
    kept = []
    for number in range(20):
        now = NOW + number * QUARTER
        prediction = Sent(EventKind.RESPONSE, f"p{number}", now, f"r{number}", MAIN, response=(1,))
        truth = Sent(EventKind.FEEDBACK, f"t{number}", now, f"r{number}", MAIN, truth=(1,))
        for one in (truth, prediction) if number % 2 else (prediction, truth):
            batch = Batch(store, bench.registry, KEEPING, now)
            batch.apply([bench.observation(one)])
            assert store.commit(batch.change())
        kept.append(set(rows(path, USAGE)))
    store.close()
    assert kept == [kept[0]] * 20


def test_only_what_came_to_nothing_leaves(tmp_path: Path) -> None:
    """Of sums that are subtracted from, those that are 0 leave the file, and any other stays, below 0 too."""
    store = SqliteStore(str(path := tmp_path / "state.db"))
    bucket = Bucket(MINUTE, 60)
    for sums in ({"a": 2.0, "b": 2.0, "c": 1.0}, {"a": -2.0, "b": -3.0, "c": -0.5}):
        assert store.commit(Change(sums={(1, bucket): sums, (2, bucket): {"a": 1.0}}))
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        found = set(connection.execute("SELECT series, component, value FROM sums").fetchall())
    assert found == {(1, "b", -1.0), (1, "c", 0.5), (2, "a", 2.0)}
