"""`metrics-server migrate`: a state moves between stores, whole and checked, and goes on where it stopped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from metrics_server.errors import StoreRefused
from metrics_server.metrics.window import DAY, MINUTE
from metrics_server.pairing.batch import Batch
from metrics_server.store import open_store
from metrics_server.store.interface import Change, Write
from metrics_server.store.migration import Migration
from tests.support.pairing_bench import CANARY, KEEPING, MAIN, NOW
from tests.support.pairing_machine import Bench, Sent
from tests.support.postgres import shared_postgres
from tests.support.running import RESPONSE, RunningServer, ce

Targets = Callable[[Path], str]
SQLITE: Targets = lambda folder: f"sqlite:///{folder / 'state.db'}"  # noqa: E731 - one of two ways
POSTGRES: Targets = lambda folder: shared_postgres().fresh()  # noqa: E731


def _filled(url: str) -> None:
    """A store with classes, slices, corrections, sums of all widths, what waits, and keys of events without ids."""
    with closing(open_store(url)) as store:
        bench = Bench(store)
        store.catch_up()
        for number in range(60):
            at = NOW - number * number * 13 * MINUTE
            event = Sent("feedback", f"e{number}", at, f"r{number}", (MAIN, CANARY)[number % 2], tenant="red")
            whole = event._replace(response=(number % 3,), truth=(number % 4,) if number % 5 else None)
            batch = Batch(store, bench.registry, KEEPING, NOW)
            batch.apply(
                [
                    bench.observation(whole),
                    bench.observation(event._replace(id=f"t{number}", truth=(2,), request=f"x{number}")),
                ]
            )
            assert store.commit(batch.change())
        bench.send(*[Sent("feedback", f"alone{number}", NOW, response=(1,), truth=(0,)) for number in range(40)])
        while store.roll_up(MINUTE, 15 * MINUTE, int(NOW) - DAY):
            pass
        store.tidy()


def _moved(source: str, target: str, on_progress: Callable[[int], None] = lambda steps: None) -> Migration:
    with closing(open_store(source)) as first, closing(open_store(target)) as second:
        migration = Migration(first, second, "the source", on_progress)
        migration.run()
    return migration


@pytest.mark.parametrize(
    ("first", "second"), [(SQLITE, POSTGRES), (POSTGRES, SQLITE)], ids=["to-postgres", "to-sqlite"]
)
def test_all_is_moved_and_moved_back(first: Targets, second: Targets, tmp_path: Path) -> None:
    """There and back again: every series, sum, register and record is as it was, and no mark is left."""
    (tmp_path / "back").mkdir()
    source, target, back = first(tmp_path), second(tmp_path), first(tmp_path / "back")
    _filled(source)
    done: list[int] = []
    total = _moved(source, target, done.append).total
    assert sum(done) == total > 200
    _moved(target, back)
    with closing(open_store(source)) as old, closing(open_store(back)) as new:
        assert sorted(new.series()) == sorted(old.series())
        for row in old.series():
            assert new.history(row.id, 0) == old.history(row.id, 0)
        records, returned = old.scan(b"", 1000)[0], new.scan(b"", 1000)[0]
        assert {key: one._replace(version=0) for key, one in records.items()} == {
            key: one._replace(version=0) for key, one in returned.items()
        }
        order = [(one.expiry_queue, one.expires_at) for one in returned.values()]
        assert order == sorted(order)


@pytest.mark.parametrize("after", [1, 3, 40, 150])
def test_it_goes_on_where_it_was_stopped(after: int, tmp_path: Path) -> None:
    """A migration that ends at any step leaves a store that is refused, and the next one ends it."""
    source, target = SQLITE(tmp_path), POSTGRES(tmp_path)
    _filled(source)
    left = [after]

    def stop(steps: int) -> None:
        left[0] -= steps
        if left[0] <= 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _moved(source, target, stop)
    ran = subprocess.run(
        [sys.executable, "-m", "metrics_server", "--store", target, "--http_port", "1"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "a migration from the source has stopped; repeat that, it goes on" in ran.stderr
    _moved(source, target)
    with closing(open_store(source)) as old, closing(open_store(target)) as new:
        assert sorted(new.series()) == sorted(old.series())
        assert len(new.scan(b"", 1000)[0]) == len(old.scan(b"", 1000)[0])


def test_a_store_in_use_is_not_moved(tmp_path: Path) -> None:
    """Neither the file of a running server nor its database."""
    database = POSTGRES(tmp_path)
    in_use = pytest.raises(StoreRefused, match="1 servers use the source; stop them first")
    with closing(open_store(database)), in_use:
        _moved(database, "memory://")
    with closing(open_store(SQLITE(tmp_path))), pytest.raises(StoreRefused, match="in use by another process"):
        _moved(SQLITE(tmp_path), "memory://")


def test_only_an_empty_store_is_filled(tmp_path: Path) -> None:
    """Nothing is written to a store that has something in it."""
    source, target = SQLITE(tmp_path), POSTGRES(tmp_path)
    _filled(source)
    with closing(open_store(target)) as other:
        other.commit(Change({b"mine": Write(0, b"", NOW)}))
    with pytest.raises(StoreRefused, match="must be empty"):
        _moved(source, target)
    with closing(open_store(target)) as other:
        assert list(other.scan(b"", 10)[0]) == [b"mine"]


def test_a_source_that_is_written_to_meanwhile_is_noticed(tmp_path: Path) -> None:
    """The target stays refused: something of the source may be missing in it."""
    source, target = POSTGRES(tmp_path), SQLITE(tmp_path)
    _filled(source)

    def meddle(steps: int) -> None:
        with closing(open_store(source)) as other:
            other.commit(Change())

    with pytest.raises(StoreRefused, match="written to meanwhile"):
        _moved(source, target, meddle)


def test_a_server_shows_the_same_after_its_state_was_moved(tmp_path: Path) -> None:
    """By the command: all numbers of models, and what waits is still paired; a wrong URL is told in a sentence."""
    source, target = SQLITE(tmp_path), POSTGRES(tmp_path)
    server = RunningServer(tmp_path, "--store", source)
    for number in range(30):
        assert server.post({"data": {"ndarray": [number % 3]}}, ce(RESPONSE, f"e{number}", f"r{number}")).status == 200
    truths = [{"request_id": f"r{number}", "truth": number % 2} for number in range(20)]
    assert server.post(truths, {"Content-Type": "application/json"}, "/v1/feedback").status == 200
    before = {key: value for key, value in server.samples().items() if key[0].startswith(("model_", "seldon_"))}
    server.stop()
    ran = subprocess.run(
        [sys.executable, "-m", "metrics_server", "migrate", source, target],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "start the servers with --store" in ran.stderr
    moved = RunningServer(tmp_path, "--store", target)
    try:
        after = {key: value for key, value in moved.samples().items() if key[0].startswith(("model_", "seldon_"))}
        assert after == pytest.approx(before)
        late = [{"request_id": "r25", "truth": 1}]
        assert moved.post(late, {"Content-Type": "application/json"}, "/v1/feedback").status == 200
        assert moved.value("model_support", window="1h") == 21.0
    finally:
        moved.stop()
    ran = subprocess.run(
        [sys.executable, "-m", "metrics_server", "migrate", source, "redis://x"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "want one of" in ran.stderr
