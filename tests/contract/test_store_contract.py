"""What every store promises, tested once for all. A new store is one more row of STORES."""

from __future__ import annotations

import itertools
import math
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics_server.errors import StoreUnavailable
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import (
    COARSEST,
    CUMULATIVE,
    CUMULATIVE_BUCKETS,
    CUMULATIVE_REAPPLIED,
    CUMULATIVE_RETRACTED,
    DAY,
    MINUTE,
    QUARTER,
    Bucket,
)
from metrics_server.store.interface import Change, Record, Register, Store, StoredSeries, Write
from metrics_server.store.memory import MemoryStore
from metrics_server.store.postgres.store import PostgresStore
from metrics_server.store.sqlite.store import SqliteStore
from tests.support.counted_versions import CountedVersions
from tests.support.postgres import shared_postgres

NOW = 20_000 * DAY  # any day


@dataclass(frozen=True)
class Backend:
    """How to open a store on a directory, and whether opening it there again shows the same."""

    open: Callable[[Path], Store]
    durable: bool


def _open_postgres(directory: Path) -> Store:
    """In a schema of its own, which opening the directory again finds."""
    url = directory / "url"
    if not url.exists():
        url.write_text(shared_postgres().fresh())
    return PostgresStore(url.read_text())


STORES = {
    "memory": Backend(lambda directory: MemoryStore(), durable=False),
    "sqlite": Backend(lambda directory: SqliteStore(str(directory / "state.db")), durable=True),
    "postgres": Backend(_open_postgres, durable=True),
}
DURABLE = [name for name, backend in STORES.items() if backend.durable]


_versions: dict[tuple[str, Path], dict[bytes, list[int]]] = {}


def opened_store(name: str, directory: Path) -> Store:
    """The store in a directory; opened again it goes on counting versions."""
    given = _versions.setdefault((name, directory), {})
    return cast("Store", CountedVersions(STORES[name].open(directory), given))


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = opened_store(request.param, tmp_path)
    yield opened
    opened.close()


def write(value: bytes, version: int = 0, expires_at: float = NOW + DAY) -> Write:
    return Write(version, value, expires_at)


def row(series_id: int, created_at: float = NOW, seen_at: float = NOW) -> StoredSeries:
    return StoredSeries(series_id, b"identity of %d" % series_id, created_at, seen_at, {})


def plain(by_key: Mapping[Any, Sums]) -> dict[Any, dict[str, float]]:
    """Sums without what is 0, since an absent component is 0."""
    kept = {key: {name: value for name, value in sums.items() if value} for key, sums in by_key.items()}
    return {key: sums for key, sums in kept.items() if sums}


def seen(store: Store, keys: set[bytes]) -> dict[str, Any]:
    """Everything that can be read of a store."""
    series = sorted(store.series())
    return {
        "records": dict(store.load(keys)),
        "series": series,
        "cumulative": {bucket: plain(store.cumulative(bucket)) for bucket in CUMULATIVE_BUCKETS},
        "totals": plain(store.totals(0)),
        "registers": store.registers(),
        "history": {series_id: plain(store.history(series_id, 0)) for series_id in (-1, 1, 2, 3)},
        "steps": [
            (part.start, part.sums) for step in (QUARTER, DAY) for part in store.steps(1, 0, NOW + 9 * DAY, step)
        ],
    }


def total(store: Store, since: int = 0, until: int | None = None, series_id: int = 1, name: str = "n") -> float:
    return store.totals(since, until).get(series_id, {}).get(name, 0.0)


# Records


def test_versions_count_writes(store: Store) -> None:
    """A record is loaded as it was committed, with a version that counts its writes from 1."""
    assert store.load([b"a", b"b"]) == {}
    assert store.commit(Change(records={b"a": write(b"one"), b"b": write(b"\x00\xff")}))
    assert store.load([b"a", b"b", b"c"]) == {b"a": Record(1, b"one"), b"b": Record(1, b"\x00\xff")}
    assert store.commit(Change(records={b"a": write(b"two", 1)}))
    assert store.commit(Change(records={b"a": write(b"", 2)}))
    assert store.load([b"a", b"b"]) == {b"a": Record(3, b""), b"b": Record(1, b"\x00\xff")}


def test_loading_nothing(store: Store) -> None:
    """Loading no keys gives no records."""
    store.commit(Change(records={b"a": write(b"one")}))
    assert store.load([]) == {}


@pytest.mark.parametrize("prefix", [b"\x01\x7f", b"\x01\xff", b"\xff\xff"])
def test_records_are_found_by_how_their_keys_begin(store: Store, prefix: bytes) -> None:
    """All records whose keys begin with some bytes are found, and no others, at the end of the order of keys too."""
    ends = (b"", b"\x00", b"\x00\x01", b"\xff\xff\xff\xff")
    others = (b"\x01", b"\x01\x7e\xff\xff", b"\x01\x80", b"\x02", b"\xff\xfe")
    keys = {*(prefix + end for end in ends), *(key for key in others if not key.startswith(prefix))}
    assert store.commit(Change(records={key: write(key) for key in keys}))
    found = store.load_prefix(prefix)
    assert {key: record.value for key, record in found.items()} == {prefix + end: prefix + end for end in ends}
    assert found == store.load([prefix + end for end in ends])
    assert store.load_prefix(b"\x55") == {}


KEYS = {b"kept", b"new", b"old", b"gone"}


def _stocked(store: Store) -> None:
    """Records `kept` at version 2 and `old` at version 1, a series with a claim, cumulative sums and a bucket."""
    minute, ever = {(1, Bucket(MINUTE, NOW)): {"n": 5.0}}, {(1, CUMULATIVE): {"n": 7.0}}
    assert store.commit(
        Change({b"kept": write(b"1"), b"old": write(b"x")}, {1: row(1)}, {(1, "model"): "binary"}, {**minute, **ever})
    )
    assert store.commit(Change({b"kept": write(b"2", 1)}))


def _fresh() -> Change:
    """A change that applies to a stocked store, with something of every kind."""
    return Change(
        records={b"new": write(b"n"), b"kept": write(b"3", 2)},
        series={1: row(1, seen_at=NOW + 50), 2: row(2)},
        claims={(1, "class/0"): "a", (2, "model"): "binary"},
        sums={(1, Bucket(MINUTE, NOW)): {"n": 1.0}, (2, Bucket(MINUTE, NOW)): {"m": 1.0}, (1, CUMULATIVE): {"n": 1.0}},
        deletes={b"old": 1},
        registers={(1, "g"): Register(NOW, 1.5), (2, "g"): Register(NOW, -1.0)},
    )


SPOILERS: dict[str, Callable[[Change], None]] = {
    "a record that has been made meanwhile": lambda change: change.records.update({b"kept": write(b"3", 0)}),
    "a record that has been written meanwhile": lambda change: change.records.update({b"kept": write(b"3", 1)}),
    "a record of a version yet to come": lambda change: change.records.update({b"kept": write(b"3", 3)}),
    "a record that has been deleted meanwhile": lambda change: change.records.update({b"gone": write(b"3", 1)}),
    "a delete of an older version": lambda change: change.deletes.update({b"old": 2}),
    "a delete of what is deleted": lambda change: change.deletes.update({b"gone": 1}),
    "a claim taken by another value": lambda change: change.claims.update({(1, "model"): "regression"}),
}


@pytest.mark.parametrize("spoiler", SPOILERS)
def test_stale_changes_apply_nothing(store: Store, spoiler: str) -> None:
    """A change computed from what has moved meanwhile comes back False, and no part of it is applied."""
    _stocked(store)
    before = seen(store, KEYS)
    change = _fresh()
    SPOILERS[spoiler](change)
    assert not store.commit(change)
    assert seen(store, KEYS) == before
    assert store.commit(_fresh()), "the same change without the stale part applies"
    assert seen(store, KEYS) != before


def test_fresh_changes_apply_everything(store: Store) -> None:
    """A change whose versions and claims hold is applied in all its parts."""
    _stocked(store)
    assert store.commit(_fresh())
    found = seen(store, KEYS)
    assert found["records"] == {b"kept": Record(3, b"3"), b"new": Record(1, b"n")}
    assert found["series"] == [
        StoredSeries(1, b"identity of 1", NOW, NOW + 50, {"model": "binary", "class/0": "a"}),
        StoredSeries(2, b"identity of 2", NOW, NOW, {"model": "binary"}),
    ]
    assert found["totals"] == {1: {"n": 6.0}, 2: {"m": 1.0}}
    assert found["cumulative"][CUMULATIVE] == {1: {"n": 8.0}}
    assert found["registers"] == {1: {"g": Register(NOW, 1.5)}, 2: {"g": Register(NOW, -1.0)}}


def test_deletes_need_the_right_version(store: Store) -> None:
    """A record is deleted at the version named, and a new one under its key counts from 1 again."""
    store.commit(Change(records={b"a": write(b"one")}))
    store.commit(Change(records={b"a": write(b"two", 1)}))
    assert not store.commit(Change(deletes={b"a": 1}))
    assert store.load([b"a"]) == {b"a": Record(2, b"two")}
    assert store.commit(Change(deletes={b"a": 2}))
    assert store.load([b"a"]) == {}
    assert store.commit(Change(records={b"a": write(b"anew")}))
    assert store.load([b"a"]) == {b"a": Record(1, b"anew")}


def test_no_change(store: Store) -> None:
    """A change of nothing is applied."""
    assert store.commit(Change())
    assert seen(store, KEYS)["series"] == []


def test_large_changes(store: Store) -> None:
    """A change of 5,000 records and 5,000 series' sums is applied whole, and refused whole for one stale record."""
    keys = [b"%05d" % number for number in range(5000)]
    sums = {
        (number, bucket): {"n": 1.0, "m": 2.0} for number in range(2500) for bucket in (CUMULATIVE, Bucket(MINUTE, NOW))
    }
    change = Change(
        {key: write(key) for key in keys},
        {n: row(n) for n in range(2500)},
        {(n, "model"): "x" for n in range(2500)},
        sums,
    )
    assert store.commit(change)
    assert store.load(keys) == {key: Record(1, key) for key in keys}
    assert plain(store.totals(0)) == {number: {"n": 1.0, "m": 2.0} for number in range(2500)}
    assert len(store.series()) == 2500
    again = Change({key: write(b"again", 1) for key in keys} | {keys[2718]: write(b"again", 0)}, sums=sums)
    assert not store.commit(again)
    assert store.load(keys) == {key: Record(1, key) for key in keys}
    assert plain(store.cumulative(CUMULATIVE)) == {number: {"n": 1.0, "m": 2.0} for number in range(2500)}
    assert store.commit(Change(deletes=dict.fromkeys(keys, 1)))
    assert store.load(keys) == {}


# Claims and series


def test_claims_are_taken_once(store: Store) -> None:
    """The first to claim a parameter gives it its value: later claims of this value pass, of another come back
    False."""
    assert store.commit(Change(series={1: row(1), 2: row(2)}, claims={(1, "model"): "binary"}))
    assert store.commit(Change(claims={(1, "model"): "binary"}))
    assert not store.commit(Change(claims={(1, "model"): "regression"}))
    assert store.commit(Change(claims={(2, "model"): "regression", (1, "class/0"): "a"}))
    assert {s.id: dict(s.parameters) for s in store.series()} == {
        1: {"model": "binary", "class/0": "a"},
        2: {"model": "regression"},
    }


def test_rows_of_series(store: Store) -> None:
    """A series' row keeps when it was made, moves forward when it was seen, and takes no parameters."""
    assert store.series() == []
    store.commit(Change(series={-(2**63): row(-(2**63), 100.5, 100.5), 1: row(1, 200.0, 200.0)}))
    store.commit(Change(series={1: StoredSeries(1, b"identity of 1", 999.0, 300.25, {"model": "unclaimed"})}))
    store.commit(Change(series={1: row(1, 1.0, 250.0)}))
    assert sorted(store.series()) == [
        StoredSeries(-(2**63), b"identity of %d" % -(2**63), 100.5, 100.5, {}),
        StoredSeries(1, b"identity of 1", 200.0, 300.25, {}),
    ]


def test_forgotten_series(store: Store) -> None:
    """A series that is forgotten leaves with its parameters, registers and all its sums; what is not its own stays."""
    for number in (1, 2):
        store.commit(
            Change(
                {b"%d" % number: write(b"")},
                {number: row(number)},
                {(number, "model"): "binary"},
                {
                    (number, bucket): {"n": 1.0}
                    for bucket in (*CUMULATIVE_BUCKETS, Bucket(MINUTE, NOW), Bucket(QUARTER, NOW), Bucket(DAY, NOW))
                },
                registers={(number, "g"): Register(NOW, 1.0)},
            )
        )
    assert store.forget_series(1)
    assert store.forget_series(3)
    store.catch_up()
    assert [series.id for series in store.series()] == [2]
    assert plain(store.totals(0)) == {2: {"n": 3.0}}
    assert [plain(store.cumulative(bucket)) for bucket in CUMULATIVE_BUCKETS] == [{2: {"n": 1.0}}] * len(
        CUMULATIVE_BUCKETS
    )
    assert plain(store.history(1, 0)) == {}
    assert store.registers() == {2: {"g": Register(NOW, 1.0)}}
    assert set(store.load([b"1", b"2"])) == {b"1", b"2"}
    assert store.commit(
        Change(series={1: row(1)}, claims={(1, "model"): "regression"}, sums={(1, CUMULATIVE): {"n": 1.0}})
    ), "it starts anew"
    assert store.cumulative(CUMULATIVE)[1] == {"n": 1.0}


# Registers


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_registers_keep_the_newest(store: Store, order: tuple[int, ...]) -> None:
    """In whatever order its values are committed, and however often, a register has that of the latest time; of one
    time the larger. A register is told apart by its series and every character of its name."""
    values = Register(NOW, 9.0), Register(NOW + 0.5, -2.0), Register(NOW + 0.5, -1.5)
    for index in (*order, *order):
        assert store.commit(Change(registers={(1, "g"): values[index]}))
    store.commit(Change(registers={(1, "G"): Register(0.0, 0.0), (-1, "g"): Register(1.0, 1e300)}))
    assert store.registers() == {
        1: {"g": Register(NOW + 0.5, -1.5), "G": Register(0.0, 0.0)},
        -1: {"g": Register(1.0, 1e300)},
    }


# Sums


def test_sums_add_exactly(store: Store) -> None:
    """Committing adds to what is there, and a component that is not there is 0."""
    bucket = Bucket(MINUTE, NOW)
    for value in (1.0, 2.0**52, -1.0, 0.5, -0.25):
        assert store.commit(
            Change(sums={(1, bucket): {"n": value, f"only {value}": value}, (1, CUMULATIVE): {"n": value}})
        )
    assert store.totals(0)[1]["n"] == store.cumulative(CUMULATIVE)[1]["n"] == 2.0**52 + 0.25
    assert store.totals(0)[1]["only 0.5"] == 0.5
    assert store.totals(0)[1].get("never", 0.0) == 0.0
    assert store.cumulative(CUMULATIVE_RETRACTED) == {}


def test_names_of_components_are_free(store: Store) -> None:
    """Components may have any name, and are told apart by every character of it."""
    sums = {
        "": 1.0,
        "a": 2.0,
        "A": 3.0,
        "a ": 4.0,
        "confusion\x1fja\x1fnein": 5.0,
        "ä": 6.0,
        "a\u0308": 7.0,
        "'; --": 8.0,
        "𝛼": 9.0,
    }
    store.commit(Change(sums={(1, CUMULATIVE): sums}))
    store.commit(Change(sums={(1, CUMULATIVE): sums}))
    assert store.cumulative(CUMULATIVE) == {1: {name: 2 * value for name, value in sums.items()}}


def test_ledgers_are_apart(store: Store) -> None:
    """What goes into one cumulative bucket is in no other, and in no total or history of time buckets."""
    for value, bucket in enumerate(CUMULATIVE_BUCKETS, 1):
        store.commit(Change(sums={(1, bucket): {"n": float(value)}}))
    store.commit(Change(sums={(1, Bucket(MINUTE, 0)): {"n": 100.0}}))
    assert [
        store.cumulative(bucket)[1]["n"] for bucket in (CUMULATIVE, CUMULATIVE_RETRACTED, CUMULATIVE_REAPPLIED)
    ] == [1.0, 2.0, 3.0]
    assert total(store) == 100.0
    assert plain(store.history(1, 0)) == {Bucket(MINUTE, 0): {"n": 100.0}}


def test_totals_are_half_open(store: Store) -> None:
    """A total holds the buckets of every width that start at `since` or later and before `until`, by series."""
    for weight, bucket in enumerate(
        (Bucket(MINUTE, NOW), Bucket(MINUTE, NOW + 60), Bucket(QUARTER, NOW), Bucket(DAY, NOW - DAY))
    ):
        store.commit(Change(sums={(1, bucket): {"n": 10.0**weight}, (2, bucket): {"n": 2.0}}))
    assert total(store, NOW - DAY) == 1111.0
    assert total(store, NOW - DAY + 1) == total(store, NOW) == 111.0
    assert total(store, NOW, NOW + 60) == 101.0
    assert total(store, NOW, NOW + 61) == 111.0
    assert total(store, NOW + 1) == 10.0
    assert store.totals(NOW + 61) == store.totals(NOW, NOW) == {}
    assert total(store, NOW - DAY, NOW, series_id=2) == 2.0


def test_history_of_a_series(store: Store) -> None:
    """The history holds the time buckets of one series that start at `since` or later and before `until`, each by
    itself."""
    buckets = [Bucket(DAY, NOW - DAY), Bucket(QUARTER, NOW), Bucket(MINUTE, NOW), Bucket(MINUTE, NOW + 60)]
    for weight, bucket in enumerate(buckets, 1):
        store.commit(Change(sums={(1, bucket): {"n": float(weight), "m": 1.0}, (2, bucket): {"n": 9.0}}))
    assert store.history(1, 0) == {bucket: {"n": float(weight), "m": 1.0} for weight, bucket in enumerate(buckets, 1)}
    assert set(store.history(1, NOW)) == set(buckets[1:])
    assert set(store.history(1, NOW + 1)) == {buckets[3]}
    assert set(store.history(1, 0, NOW)) == {buckets[0]}
    assert set(store.history(1, NOW, NOW + 60)) == {buckets[1], buckets[2]}
    assert store.history(1, NOW, NOW) == {}
    assert store.history(3, 0) == {}


def test_the_history_is_read_while_another_thread_writes(store: Store) -> None:
    """A reader in a thread of its own meets each commit and each roll-up whole or not at all, and never hears of the
    other thread."""
    change = Change(sums={(1, Bucket(MINUTE, NOW + minute * MINUTE)): {"n": 1.0, "m": 1.0} for minute in range(30)})
    store.commit(change)
    found: list[list[Sums]] = []
    failed: list[BaseException] = []
    wanted, done = threading.Event(), threading.Event()

    def read() -> None:
        try:
            while not done.is_set() or len(found) < 20:
                found.append(list(store.history(1, NOW - DAY, NOW + DAY).values()))
                wanted.set()
        except BaseException as error:
            failed.append(error)
            wanted.set()

    reader = threading.Thread(target=read)
    reader.start()
    commits = 1
    while commits < 200 or len(found) < 20:
        wanted.wait(10)
        wanted.clear()
        if failed:
            break
        assert store.commit(change)
        commits += 1
        if not commits % 4:
            assert store.roll_up(MINUTE, QUARTER, NOW + DAY)
            assert store.commit(Change(sums={(2, Bucket(DAY, NOW + commits * DAY)): {"n": 1.0}})), (
                "other buckets come and go meanwhile"
            )
        if commits >= 200:
            done.set()
    done.set()
    reader.join(20)
    assert not failed
    totals = [[sum(sums[name] for sums in each) for name in "nm"] for each in found]
    assert all(n == m and n % 30 == 0 for n, m in totals), "no part of a commit is missing, no bucket is there twice"
    assert totals == sorted(totals)
    assert totals[0][0] < 30 * commits


def test_the_history_ends_with_the_store(store: Store) -> None:
    """After a close it is unavailable, in a word that callers know."""
    store.commit(Change(sums={(1, Bucket(MINUTE, NOW)): {"n": 1.0}}))
    store.close()
    with pytest.raises(StoreUnavailable):
        store.history(1, 0)


def test_steps_are_the_history_added_up(store: Store) -> None:
    """The buckets of a series are added up by the step they start in, in the order of time; what comes to nothing is
    left out."""
    buckets = [
        Bucket(DAY, NOW - DAY),
        Bucket(QUARTER, NOW),
        Bucket(MINUTE, NOW),
        Bucket(MINUTE, NOW + 60),
        Bucket(MINUTE, NOW + DAY),
    ]
    for weight, bucket in enumerate(buckets, 1):
        store.commit(Change(sums={(1, bucket): {"n": float(weight), "m": 1.0, "gone": 1.0}, (2, bucket): {"n": 9.0}}))
        store.commit(Change(sums={(1, bucket): {"gone": -1.0}}))
    by_day = [
        (NOW - DAY, DAY, {"n": 1.0, "m": 1.0}),
        (NOW, QUARTER, {"n": 9.0, "m": 3.0}),
        (NOW + DAY, MINUTE, {"n": 5.0, "m": 1.0}),
    ]
    assert list(store.steps(1, 0, NOW + 2 * DAY, DAY)) == by_day
    assert list(store.steps(1, NOW, NOW + DAY, DAY)) == by_day[1:2]
    assert [part.start for part in store.steps(1, NOW, NOW + DAY, MINUTE)] == [NOW, NOW + 60]
    assert list(store.steps(1, NOW + 60, NOW + DAY, DAY)) == [(NOW, MINUTE, {"n": 4.0, "m": 1.0})]
    assert list(store.steps(3, 0, NOW + DAY, DAY)) == []
    many = {(3, Bucket(MINUTE, NOW + minute * MINUTE)): {"n": 1.0} for minute in range(100)}
    store.commit(Change(sums=many))
    assert list(store.steps(3, 0, NOW + DAY, DAY)) == [(NOW, MINUTE, {"n": 100.0})]


def test_a_reader_can_be_ended(store: Store) -> None:
    """Who reads step by step stops when it is over, and when the store is closed, which does not wait for the rest."""
    store.commit(Change(sums={(1, Bucket(DAY, NOW + day * DAY)): {"n": 1.0} for day in range(9)}))
    asked = iter((False, False, True))
    stretches = store.steps(1, 0, NOW + 9 * DAY, DAY, lambda: next(asked))
    assert [next(stretches).start, next(stretches).start] == [NOW, NOW + DAY]
    with pytest.raises(StoreUnavailable):
        next(stretches)
    unread = store.steps(1, 0, NOW + 9 * DAY, DAY)
    next(unread)
    thread = threading.Thread(target=store.close)
    thread.start()
    while _is_open(store):
        pass
    with pytest.raises(StoreUnavailable):
        next(unread)
    thread.join(1)
    assert not thread.is_alive()
    with pytest.raises(StoreUnavailable):
        next(store.steps(1, 0, NOW, DAY))


def _is_open(store: Store) -> bool:
    try:
        store.history(1, 0)
    except StoreUnavailable:
        return False
    return True


def test_steps_take_the_memory_of_one(tmp_path: Path) -> None:
    """A file of many full buckets is read in the memory of one of them, whether they lie in one step or in as many."""
    with closing(SqliteStore(str(tmp_path / "state.db"))) as store:
        full = {f"a component of some length, number {number}": 1.0 for number in range(1000)}
        store.commit(Change(sums={(1, Bucket(MINUTE, NOW + minute * MINUTE)): full for minute in range(120)}))
        for step, steps in ((DAY, 1), (MINUTE, 120)):
            tracemalloc.start()
            found = sum(len(part.sums) // 1000 for part in store.steps(1, 0, NOW + DAY, step))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert found == steps
            assert peak < 2**20, "all of them are 20 MB"


def test_roll_up_folds_one_bucket_a_call(store: Store) -> None:
    """A roll-up moves the oldest bucket before the mark into its coarser one, one a call, and moves no total at a
    coarse edge."""
    starts = [NOW - 60, NOW, NOW + 60, NOW + 840, NOW + 900, NOW + 960]
    for weight, start in enumerate(starts):
        store.commit(
            Change(sums={(1, Bucket(MINUTE, start)): {"n": 10.0**weight}, (2, Bucket(MINUTE, start)): {"m": 1.0}})
        )
    store.commit(Change(sums={(1, Bucket(QUARTER, NOW)): {"n": 0.5}, (1, CUMULATIVE): {"n": 1.0}}))
    edges = [NOW - 900, NOW, NOW + 900, NOW + 1800]
    before = [(plain(store.totals(edge)), plain(store.totals(0, edge))) for edge in edges]
    for folded in range(1, 5):
        assert store.roll_up(MINUTE, QUARTER, NOW + 900)
        assert [(plain(store.totals(edge)), plain(store.totals(0, edge))) for edge in edges] == before
        assert sorted(b.start for b in store.history(1, 0) if b.width == MINUTE) == starts[folded:]
    assert not store.roll_up(MINUTE, QUARTER, NOW + 900)
    assert plain(store.history(1, 0)) == {
        Bucket(QUARTER, NOW - 900): {"n": 1.0},
        Bucket(QUARTER, NOW): {"n": 1110.5},
        Bucket(MINUTE, NOW + 900): {"n": 10_000.0},
        Bucket(MINUTE, NOW + 960): {"n": 100_000.0},
    }
    assert plain(store.history(2, 0))[Bucket(QUARTER, NOW)] == {"m": 3.0}
    assert not store.roll_up(DAY, DAY * 7, NOW)
    assert store.cumulative(CUMULATIVE) == {1: {"n": 1.0}}


def test_a_split_keeps_apart_what_began_before_it(store: Store) -> None:
    """Through all roll-ups the sums of a series from a split on, and those before it, are what they were; those of a
    series without splits go into one bucket."""
    split, end = NOW + 420, NOW + DAY
    for minute in range(0, 1800, 60):
        sums = {(series, Bucket(MINUTE, NOW + minute)): {"n": 1.0, "x": minute} for series in (-7, 2)}
        assert store.commit(Change(sums=sums))
    since, before = plain(store.totals(split)), plain(store.totals(0, split))
    assert since[-7]["n"] == 23
    splits = {-7: (NOW - DAY, split, end), 3: (split,), 4: ()}
    while store.roll_up(MINUTE, QUARTER, end, splits):
        assert plain(store.totals(split))[-7] == since[-7]
    assert set(store.history(-7, 0)) == {Bucket(QUARTER, start) for start in (NOW, split, NOW + 900)}
    assert set(store.history(2, 0)) == {Bucket(QUARTER, start) for start in (NOW, NOW + 900)}
    while store.roll_up(QUARTER, DAY, end, splits):
        assert plain(store.totals(split))[-7] == since[-7]
    assert set(store.history(-7, 0)) == {Bucket(DAY, NOW), Bucket(DAY, split)}
    assert plain(store.totals(0, split))[-7] == before[-7]
    assert plain(store.history(2, 0)) == {Bucket(DAY, NOW): {"n": 30.0, "x": 26100.0}}
    assert [(step.start, step.sums["n"]) for step in store.steps(-7, NOW, NOW + DAY, DAY)] == [(NOW, 30)]


def test_roll_up_of_nothing(store: Store) -> None:
    """A roll-up of an empty store says that there was nothing."""
    assert not store.roll_up(MINUTE, QUARTER, NOW)
    assert not store.forget_before(COARSEST, NOW)


def test_forgetting_old_buckets(store: Store) -> None:
    """The oldest buckets of the coarsest width are deleted, one a call, before the mark only, and no cumulative one."""
    for start in (NOW - 2 * DAY, NOW - DAY, NOW):
        store.commit(Change(sums={(1, Bucket(DAY, start)): {"n": 1.0}, (2, Bucket(DAY, start)): {"n": 1.0}}))
    store.commit(
        Change(
            sums={
                (1, Bucket(QUARTER, NOW - 3 * DAY)): {"n": 1.0},
                **{(1, bucket): {"n": 1.0} for bucket in CUMULATIVE_BUCKETS},
            }
        )
    )
    assert store.forget_before(COARSEST, NOW)
    assert set(store.history(1, 0)) == {Bucket(QUARTER, NOW - 3 * DAY), Bucket(DAY, NOW - DAY), Bucket(DAY, NOW)}
    assert store.forget_before(COARSEST, NOW)
    assert not store.forget_before(COARSEST, NOW)
    assert set(store.history(1, 0)) == {Bucket(QUARTER, NOW - 3 * DAY), Bucket(DAY, NOW)}
    assert set(store.history(2, 0)) == {Bucket(DAY, NOW)}
    assert [plain(store.cumulative(bucket)) for bucket in CUMULATIVE_BUCKETS] == [{1: {"n": 1.0}}] * len(
        CUMULATIVE_BUCKETS
    )


# Expiry


def test_expired_records_are_found(store: Store) -> None:
    """What has expired is found earliest first, at most `limit` at a time, until it is deleted, and nothing else ever
    is."""
    due = {b"due %03d" % number for number in range(40)}
    open_ = {b"a%03d" % number for number in range(25)} | {b"z%03d" % number for number in range(25)}
    store.commit(Change({key: write(key, expires_at=NOW - 50 + number) for number, key in enumerate(sorted(due))}))
    store.commit(Change({key: write(key, expires_at=NOW + 0.5) for key in open_}))
    store.commit(Change({b"elsewhere": Write(0, b"", NOW - 60, expiry_queue=1)}))
    found: list[bytes] = []
    for _ in range(90 // 7 + 60):
        look = store.expired(NOW, 7)
        assert len(look) <= 7
        assert not look or store.expired(NOW, 7) == look
        assert look == {key: Record(1, key) for key in look}
        found += sorted(look)
        store.commit(Change(deletes=dict.fromkeys(look, 1)))
    assert found == sorted(due)
    assert set(store.expired(NOW, 7, expiry_queue=1)) == {b"elsewhere"}
    assert set(store.expired(math.inf, 100)) <= open_


@pytest.mark.parametrize("limit", [1, 3, 10, 11, 100])
def test_the_sweep_survives_its_own_deletes(store: Store, limit: int) -> None:
    """Deleting what a look has found, and putting back or making others meanwhile, hides nothing from the looks after
    it."""
    store.commit(Change({b"%02d" % number: write(b"", expires_at=NOW - 2) for number in range(10)}))
    left = {b"%02d" % number for number in range(10)} | {b"late"}
    for turn in range(50):
        expired = store.expired(NOW, limit)
        assert set(expired) <= left
        assert store.commit(Change(deletes={key: record.version for key, record in expired.items()}))
        left -= set(expired)
        if not turn:
            store.commit(Change({b"late": write(b"", expires_at=NOW - 5), b"open": write(b"", expires_at=NOW + 1)}))
    assert not left
    assert set(store.load([b"%02d" % number for number in range(10)] + [b"late", b"open"])) == {b"open"}


def test_a_later_expiry_counts(store: Store) -> None:
    """A record written again expires by its last write."""
    store.commit(Change({b"a": write(b"", expires_at=NOW + 9), b"b": write(b"", expires_at=NOW - 2)}))
    store.commit(Change({b"a": write(b"", 1, NOW - 1), b"b": write(b"", 1, NOW + 9)}))
    store.commit(Change({b"a": Write(2, b"again", NOW - 1, expiry_changed=False)}))
    found = {key for _ in range(4) for key in store.expired(NOW, 1)}
    assert found == {b"a"}


def test_all_records_are_read_in_the_order_of_their_expiry(store: Store) -> None:
    """Portion by portion, each queue by itself, with all that is needed to put them elsewhere in that order."""
    for number in range(25):
        key = b"%02d" % (number * 7 % 25)
        store.commit(Change({key: Write(0, b"of " + key, float(NOW + number), number % 2)}))
    found: list[tuple[bytes, Write]] = []
    position, portions = b"", 0
    while position or not portions:
        records, position = store.scan(position, 4)
        found += records.items()
        portions += 1
    assert portions == 7
    assert [one.expiry_queue for _, one in found] == [0] * 13 + [1] * 12
    assert [one.expires_at for _, one in found] == [float(NOW + n) for n in (*range(0, 25, 2), *range(1, 25, 2))]
    stored = store.load([key for key, _ in found])
    assert {key: one.value for key, one in found} == {key: record.value for key, record in stored.items()}
    assert len(stored) == 25


# Life


def test_closing_twice(tmp_path: Path) -> None:
    """Closing a store twice is harmless."""
    for name in STORES:
        (tmp_path / name).mkdir()
        opened = opened_store(name, tmp_path / name)
        opened.commit(Change({b"a": write(b"")}))
        opened.close()
        opened.close()


def test_the_size_is_known(store: Store) -> None:
    """The size of the state is told in bytes, and is not smaller than what was put there."""
    store.commit(Change({b"%03d" % number: write(b"x" * 1000) for number in range(200)}))
    assert store.state_bytes() >= 200_000


@pytest.mark.parametrize("name", DURABLE)
def test_reopening(name: str, tmp_path: Path) -> None:
    """A durable store that is opened again shows what was committed, with its versions, and goes on from there."""
    first = opened_store(name, tmp_path)
    _stocked(first)
    before = seen(first, KEYS)
    first.close()
    second = opened_store(name, tmp_path)
    assert seen(second, KEYS) == before
    assert not second.commit(Change(claims={(1, "model"): "regression"}))
    assert second.commit(_fresh())
    second.close()


# Laws

BUCKETS = (
    CUMULATIVE,
    CUMULATIVE_RETRACTED,
    Bucket(MINUTE, NOW),
    Bucket(MINUTE, NOW + 60),
    Bucket(QUARTER, NOW),
    Bucket(DAY, NOW - DAY),
)
increments = st.tuples(
    st.sampled_from([1, 2, -1]), st.sampled_from(BUCKETS), st.sampled_from("abc"), st.integers(-(2**40), 2**40)
)


def _sums(parts: list[tuple[int, Bucket, str, int]]) -> Change:
    change = Change()
    for series_id, bucket, name, value in parts:
        target = dict(change.sums.get((series_id, bucket), {}))
        target[name] = target.get(name, 0.0) + value
        change.sums[series_id, bucket] = target
    return change


@pytest.mark.parametrize("name", STORES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(parts=st.lists(increments, max_size=30), cuts=st.lists(st.integers(0, 30), max_size=6))
def test_any_split_gives_the_same_sums(name: str, parts: list[tuple[int, Bucket, str, int]], cuts: list[int]) -> None:
    """However a list of increments is split into commits, the sums are those of one commit."""
    with tempfile.TemporaryDirectory() as whole_in, tempfile.TemporaryDirectory() as split_in:
        whole, split = opened_store(name, Path(whole_in)), opened_store(name, Path(split_in))
        assert whole.commit(_sums(parts))
        bounds = [0, *sorted(cuts), len(parts)]
        for start, end in zip(bounds, bounds[1:], strict=False):
            assert split.commit(_sums(parts[start:end]))
        assert seen(split, set()) == seen(whole, set())
        whole.close()
        split.close()


keys = st.sampled_from([b"a", b"b", b"c", b"d"])
starts = st.integers(-200, 3).map(lambda quarters: NOW + quarters * QUARTER)
buckets = st.one_of(
    st.sampled_from(CUMULATIVE_BUCKETS),
    st.builds(lambda start, minute: Bucket(MINUTE, start + minute * MINUTE), starts, st.integers(0, 14)),
    st.builds(lambda start: Bucket(QUARTER, start), starts),
    st.builds(lambda start: Bucket(DAY, start - start % DAY), starts),
)


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, Change]:
    """A change some of whose versions and claims are out of date."""
    records = draw(
        st.dictionaries(
            keys,
            st.builds(Write, st.integers(0, 3), st.binary(max_size=3), st.just(0), st.just(0), st.booleans()),
            max_size=2,
        )
    )
    deletes = draw(st.dictionaries(keys, st.integers(1, 3), max_size=1))
    return "commit", Change(
        records,
        {
            n: row(n, seen_at=NOW + seen_at)
            for n, seen_at in draw(st.dictionaries(st.integers(1, 3), st.integers(-5, 5), max_size=2)).items()
        },
        draw(
            st.dictionaries(
                st.tuples(st.integers(1, 3), st.sampled_from(["model", "class/0"])), st.sampled_from("xy"), max_size=1
            )
        ),
        draw(
            st.dictionaries(
                st.tuples(st.integers(1, 3), buckets),
                st.dictionaries(st.sampled_from("nm"), st.integers(-3, 9).map(float), max_size=2),
                max_size=3,
            )
        ),
        {key: version for key, version in deletes.items() if key not in records},
    )


steps = st.one_of(
    changes(),
    changes(),
    changes(),
    st.tuples(st.just("roll up"), st.sampled_from([(MINUTE, QUARTER), (QUARTER, DAY)])),
    st.tuples(st.just("forget buckets"), st.integers(-2, 1)),
    st.tuples(st.just("forget series"), st.integers(1, 3)),
    st.tuples(st.just("expire"), st.tuples(st.integers(0, 25), st.integers(1, 5))),
)


def _in_time(change: Change, at: int, expiries: Mapping[bytes, float]) -> Change:
    """The same with expiries that are set later the later they are, as with one retention."""
    records = {
        key: one._replace(expires_at=float(at) if one.expiry_changed else expiries.get(key, float(at)))
        for key, one in change.records.items()
    }
    return replace(change, records=records)


def _do(store: Store, what: str, how: Any) -> object:
    """Takes one step, and says what can be compared of its outcome.

    Whether a bucket of nothing but zeros is there is left to the store; so what is folded or forgotten is done to the
    end.
    """
    if what == "commit":
        return store.commit(how)
    if what == "roll up":
        return any(not store.roll_up(*how, NOW - QUARTER * how[1] // 9000) for _ in range(200))
    if what == "forget buckets":
        return any(not store.forget_before(COARSEST, NOW + how * DAY) for _ in range(200))
    if what == "expire":
        found: dict[bytes, Record] = {}
        for _ in range(40):
            look = store.expired(*how)
            store.commit(Change(deletes={key: record.version for key, record in look.items()}))
            found |= look
        return found
    is_gone = store.forget_series(how)
    store.catch_up()
    return is_gone


@pytest.mark.parametrize("examples", [20, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", [name for name in STORES if name != "memory"])
def test_all_stores_do_the_same(name: str, examples: int) -> None:
    """After any history of changes, sweeps and roll-ups every store has given the same answers as the one in memory."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(taken=st.lists(steps, max_size=25))
    def holds(taken: list[tuple[str, Any]]) -> None:
        _assert_same(name, taken)

    holds()


def _assert_same(name: str, taken: list[tuple[str, Any]]) -> None:
    expiries: dict[bytes, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        model, store = CountedVersions(MemoryStore(), {}), opened_store(name, Path(directory))
        for at, (what, how) in enumerate(taken):
            step = _in_time(how, at, expiries) if what == "commit" else how
            done = _do(cast("Store", model), what, step)
            assert _do(store, what, step) == done, (what, how)
            if what == "commit" and done:
                expiries |= {key: one.expires_at for key, one in step.records.items()}
            assert seen(store, {b"a", b"b", b"c", b"d"}) == seen(cast("Store", model), {b"a", b"b", b"c", b"d"}), (
                what,
                how,
            )
        store.close()
