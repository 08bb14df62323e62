"""A file of the version before goes on where it was: nothing is lost, and what comes later meets what was there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import msgspec
import pytest

from metrics_server.metrics.components import EVENT_KEY_COUNT, LOGGED, PAIRS, RECORD_COUNT, SERVER_SERIES_ID
from metrics_server.metrics.reward_stats import REWARDS
from metrics_server.metrics.reward_stats import SUM as REWARD_SUM
from metrics_server.metrics.sums import component
from metrics_server.metrics.window import MINUTE, USAGE, Bucket, floor
from metrics_server.pairing.record import PairingRecord, decode_record
from metrics_server.series.series import Identity
from metrics_server.store.interface import Change, Register
from metrics_server.store.sqlite.sql import TOUCH
from metrics_server.store.sqlite.store import APPLICATION_ID, SCHEMA_VERSION, SqliteStore
from tests.support.pairing_bench import MAIN, NOW, Bench, Sent

VERSION_1 = """
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
    series INTEGER NOT NULL, width INTEGER NOT NULL, start INTEGER NOT NULL, component TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (width, start, series, component)
) WITHOUT ROWID;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of version 1: one prediction that is open, and the key of one event."""
    found = tmp_path / "state.db"
    series = Identity(MAIN, Bench().scoring)
    applied = [series.id, NOW - 60, NOW - 60, None, 1]
    reward = [list(MAIN), NOW - 50, NOW - 50, 0.5, list(MAIN), [series.id, NOW - 60, NOW - 60, None, 0.5]]
    said = [list(MAIN), NOW - 60, NOW - 60, True, 1, None, None, False, applied]
    case = msgspec.msgpack.encode([[b"e" * 16], [said], [], [reward]])
    key = blake2b(b"r", digest_size=16).digest() + bytes(4)
    with closing(sqlite3.connect(found)) as connection:
        connection.executescript(VERSION_1)
        connection.execute("INSERT INTO records VALUES (?, 1, ?, ?)", (key, NOW + 9, case))
        connection.execute(
            "INSERT INTO records VALUES (?, 1, ?, ?)",
            (b"k" * 16, NOW + 5, msgspec.msgpack.encode([[b"k" * 16], [], [], []])),
        )
        identity = msgspec.json.encode([MAIN, Bench().scoring])
        connection.execute("INSERT INTO series VALUES (?, ?, ?, ?)", (series.id, identity, NOW - 60, NOW - 60))
        minute = floor(NOW - 60, MINUTE)
        for name, value in (("server/logged", 1.0), ("server/rewards", 1.0), ("server/reward_sum", 0.5)):
            connection.execute("INSERT INTO sums VALUES (?, ?, ?, ?, ?)", (series.id, MINUTE, minute, name, value))
        connection.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;")
        connection.commit()
    return found


def test_records_series_and_sums_come_along(path: Path) -> None:
    """Every record is there under its key, in its lane, counted; series and sums as they were; opening again changes
    nothing."""
    for _ in range(2):
        store = SqliteStore(str(path))
        (record,) = store.expired(NOW + 100, 10, expiry_queue=1).values()
        assert isinstance(decode_record(record.value), PairingRecord)
        assert set(store.expired(NOW + 100, 10, expiry_queue=0)) == {b"k" * 16}
        counts = store.cumulative(USAGE)[SERVER_SERIES_ID]
        assert (counts[RECORD_COUNT], counts[EVENT_KEY_COUNT]) == (1, 1)
        (row,) = store.series()
        assert (row.seen_at, row.predicted_at, row.labelled_at) == (NOW - 60, 0, 0)
        store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert TOUCH.endswith(str(SCHEMA_VERSION))


@pytest.mark.parametrize(("version", "missing"), [(2, ("registers", "deltas")), (3, ("deltas",))])
def test_a_file_without_a_table_gets_it(version: int, missing: tuple[str, ...], tmp_path: Path) -> None:
    """A file of a version that had no registers, or no deltas, opens with all that is in it, and keeps both from then
    on."""
    path = tmp_path / "state.db"
    SqliteStore(str(path)).close()
    with closing(sqlite3.connect(path)) as connection:
        drops = "".join(f"DROP TABLE {table};" for table in missing)
        connection.executescript(f"INSERT INTO sums VALUES (1, {MINUTE}, 0, 'n', 2.0); {drops}")
        connection.executescript(f"PRAGMA user_version = {version};")
    for times in (1, 2):
        with closing(SqliteStore(str(path))) as store:
            assert store.totals(0) == {1: {"n": 1.0 + times}}
            store.commit(Change(sums={(1, Bucket(MINUTE, 0)): {"n": 1.0}}, registers={(1, "g"): Register(5.0, 1.0)}))
            assert store.registers() == {1: {"g": Register(5.0, 1.0)}}


def test_a_truth_meets_a_prediction_that_an_older_version_kept(path: Path) -> None:
    """The truth that comes after the upgrade labels the prediction that came before it."""
    bench = Bench()
    bench.store = SqliteStore(str(path))  # type: ignore[assignment]
    bench.restart()
    bench.send(Sent("feedback", "1", NOW, "r", MAIN, ("", ""), truth=(1,)))
    assert bench.net()[MAIN][component("confusion", "1", "1")] == 1
    assert bench.statuses(MAIN) == {"matched": 1}
    bench.send(Sent("feedback", "2", NOW + 1, "r", MAIN, ("", ""), reward=2.0))
    assert (bench.net()[MAIN][REWARDS], bench.net()[MAIN][REWARD_SUM]) == (1, 2.0)
    assert all(value >= 0 for value in bench.store.cumulative(USAGE)[SERVER_SERIES_ID].values())
    bench.store.close()


def test_what_is_labelled_in_a_new_series_was_predicted_there() -> None:
    """When a series starts anew, a prediction that the old one has logged counts where its label does, so that coverage
    stays a share."""
    bench = Bench()
    bench.send(*(Sent("response", f"{n}", NOW - 5, f"r{n}", MAIN, ("", ""), response=(1,)) for n in range(3)))
    bench.scoring = msgspec.structs.replace(bench.scoring, revision=2)
    bench.restart()
    bench.send(Sent("response", "3", NOW - 4, "r3", MAIN, ("", ""), response=(1,)))
    bench.send(Sent("feedback", "4", NOW, "r0", MAIN, ("", ""), truth=(1,)))
    assert (bench.net()[MAIN][LOGGED], bench.net()[MAIN][PAIRS]) == (2, 1)
    (old,) = (row.id for row in bench.store.series() if row.id != bench.registry.find(MAIN).id)  # type: ignore[union-attr]
    assert sum(sums.get(LOGGED, 0) for sums in bench.store.history(old, 0).values()) == 2
