"""One of several writers on one database, as the law tests write it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import psycopg

from metrics_server.metrics.window import CUMULATIVE_BUCKETS, DAY, HOUR, edge_of
from metrics_server.series.totals import Totals
from metrics_server.series.view import StoreView
from metrics_server.store.interface import Change, Store
from metrics_server.store.postgres.store import PostgresStore
from tests.support.pairing_bench import NOW
from tests.support.pairing_machine import Bench

WINDOWS = {"1h": HOUR, "6h": 6 * HOUR, "1d": DAY}


def without_zeros(by_series: Any) -> dict[int, dict[str, float]]:
    kept = {key: {name: value for name, value in sums.items() if value} for key, sums in by_series.items()}
    return {key: sums for key, sums in kept.items() if sums}


class SharedBench(Bench):
    """One of several writers: what a server keeps in memory, and how it commits."""

    store: PostgresStore  # type: ignore[assignment]

    def __init__(self, url: str) -> None:
        super().__init__(cast("Store", PostgresStore(url)))

    def restart(self) -> None:
        super().restart()
        if isinstance(self.store, PostgresStore):
            self.totals = Totals(WINDOWS)
            self.view = StoreView(cast("Store", self.store), self.registry, self.totals, lambda now: None)
            self.view.restore(NOW)

    def committed(self, observations: Sequence[Any], now: float = NOW) -> list[Any]:
        for _ in range(5):
            outcomes, change = self.taken(observations, now)
            if self.commit(change, now):
                return outcomes
        raise AssertionError("nobody else writes, and yet it is refused")

    def commit(self, change: Change, now: float = NOW) -> bool:
        if self.store.commit(change):
            self.view.add(change)
            return True
        self.view.catch_up(now)
        self.view.restore_registry()
        return False

    def records(self) -> dict[bytes, bytes]:
        with psycopg.connect(self.store._url) as connection:
            return dict(connection.execute("SELECT key, value FROM records", binary=True).fetchall())

    def check_memory(self, now: float = NOW) -> None:
        """What is kept in memory is what is stored."""
        self.view.catch_up(now)
        stored = {row.id for row in self.store.series()}
        assert {series.id for series in self.registry.current()} == stored
        for row in self.store.series():
            series = self.registry.get(row.id)
            assert series is not None
            assert (series.created_at, series.parameters) == (row.created_at, dict(row.parameters))
        for bucket in CUMULATIVE_BUCKETS:
            in_memory = {number: self.totals.cumulative(bucket, number) for number in {*stored, 0}}
            assert without_zeros(in_memory) == without_zeros(self.store.cumulative(bucket))
        for name, length in WINDOWS.items():
            windows = {number: self.totals.series_totals(number).windows[name] for number in stored}
            assert without_zeros(windows) == without_zeros(self.store.totals(edge_of(length, now)))
