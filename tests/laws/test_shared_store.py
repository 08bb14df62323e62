"""Several writers on one database: the machine of test_pairing_machine, where each step is taken by any of three."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, multiple, rule, run_state_machine_as_test

from metrics_server.metrics.window import CUMULATIVE_BUCKETS, DAY, HOUR, edge_of
from metrics_server.series.totals import Totals
from metrics_server.series.view import StoreView
from metrics_server.store.interface import Change, Store
from metrics_server.store.postgres.store import PostgresStore
from tests.support.pairing_bench import NOW
from tests.support.pairing_machine import Bench, Pairing, Sent, events
from tests.support.postgres import shared_postgres

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
            self.view = StoreView(cast("Store", self.store), self.catalog, self.totals, lambda now: None)
            self.view.restore(NOW)

    def committed(self, halves: Sequence[Any], now: float = NOW) -> list[Any]:
        for _ in range(5):
            outcomes, change = self.taken(halves, now)
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
        assert {series.id for series in self.catalog.current()} == stored
        for row in self.store.series():
            series = self.catalog.get(row.id)
            assert series is not None
            assert (series.created_at, series.parameters) == (row.created_at, dict(row.parameters))
        for bucket in CUMULATIVE_BUCKETS:
            in_memory = {number: self.totals.cumulative(bucket, number) for number in {*stored, 0}}
            assert without_zeros(in_memory) == without_zeros(self.store.cumulative(bucket))
        for name, length in WINDOWS.items():
            windows = {number: self.totals.series_totals(number).windows[name] for number in stored}
            assert without_zeros(windows) == without_zeros(self.store.totals(edge_of(length, now)))


class PairingShared(Pairing):
    """Any history of events, sent to any of three servers, which come, go, lose their connections and are given up."""

    url: str

    def opened(self) -> SharedBench:
        self.url = shared_postgres().fresh()
        self.benches = [SharedBench(self.url) for _ in range(3)]
        return self.benches[0]

    @initialize()
    def start(self) -> None:
        pass

    @rule(number=st.integers(0, 2))
    def go_to_another_server(self, number: int) -> None:
        self.bench = self.benches[number]
        self.bench.view.catch_up(NOW)  # type: ignore[attr-defined]

    @rule(target=Pairing.sent, number=st.integers(0, 2), drawn=st.lists(events(), min_size=1, max_size=3))
    def send_to_a_server_that_is_behind(self, number: int, drawn: list[Sent]) -> Any:
        found = self.numbered(drawn)
        self.noted(found, self.benches[number].send(*found))
        return multiple(*found)

    @rule(
        target=Pairing.sent,
        numbers=st.permutations(range(3)),
        mine=st.lists(events(), min_size=1, max_size=3),
        others=st.lists(events(), min_size=1, max_size=3),
    )
    def let_another_writer_come_between(self, numbers: list[int], mine: list[Sent], others: list[Sent]) -> Any:
        """It commits between the look of the first and its commit."""
        first, second = (self.benches[number] for number in numbers[:2])
        found = self.numbered([*mine, *others])
        mine, others = found[: len(mine)], found[len(mine) :]
        first.view.catch_up(NOW)
        halves = [first.half(one) for one in mine]
        outcomes, change = first.taken(halves)
        self.noted(others, second.send(*others))
        self.noted(mine, outcomes if first.commit(change) else first.committed(halves))
        return multiple(*found)

    @rule(
        target=Pairing.sent,
        number=st.integers(0, 2),
        drawn=st.lists(events(), min_size=1, max_size=3),
        late=st.booleans(),
    )
    def lose_the_connection_in_a_commit(self, number: int, drawn: list[Sent], late: bool) -> Any:
        """Before it took place, or after; the server finds out which."""
        found, bench = self.numbered(drawn), self.benches[number]
        bench.view.catch_up(NOW)
        with losing_a_commit(bench.store, late=late):
            outcomes = bench.send(*found)
        self.noted(found, outcomes)
        return multiple(*found)

    @rule(number=st.integers(0, 2))
    def end_the_connection(self, number: int) -> None:
        self.benches[number].store.recover()

    @rule(number=st.integers(0, 2))
    def give_a_writer_up(self, number: int) -> None:
        """As after ten minutes of silence."""
        store = self.benches[number].store
        with psycopg.connect(self.url) as connection:
            connection.execute("UPDATE writers SET session = -1 WHERE id = %s", (store._writer,))

    @rule(number=st.integers(0, 2), most=st.sampled_from([1, 2, 500]))
    def fold(self, number: int, most: int) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute("SELECT tidy(%s)", (most,))

    @rule()
    def delete_all_folded_deltas(self) -> None:
        """As a minute later: who has not read them has to read all anew."""
        with psycopg.connect(self.url) as connection:
            connection.execute("UPDATE deltas SET at = now() - interval '1 hour'")
            connection.execute("SELECT tidy(500)")

    @rule(number=st.integers(0, 2))
    def start_another(self, number: int) -> None:
        self.benches[number].store.close()
        is_current = self.bench is self.benches[number]
        self.benches[number] = SharedBench(self.url)
        if is_current:
            self.bench = self.benches[number]

    @rule(number=st.integers(0, 2))
    def slide(self, number: int) -> None:
        self.benches[number].view.slide(NOW)

    def reopened(self) -> None:
        self.start_another(self.benches.index(cast("SharedBench", self.bench)))

    @rule()
    def everybody_knows_all(self) -> None:
        """And then those that were given up are removed."""
        for bench in self.benches:
            bench.check_memory()
        with psycopg.connect(self.url) as connection:
            connection.execute("UPDATE writers SET seen_at = now() - interval '1 hour' WHERE session < 0")
            connection.execute("SELECT tidy(500)")

    def check_invariants(self, *arguments: Any, **named: Any) -> None:
        cast("SharedBench", self.bench).view.catch_up(NOW)
        super().check_invariants(*arguments, **named)

    def teardown(self) -> None:
        self.everybody_knows_all()
        for bench in self.benches:
            bench.store.close()


@contextmanager
def losing_a_commit(store: PostgresStore, *, late: bool) -> Iterator[None]:
    """Ends the connection in the next commit: just before the server gets it, or just after it has answered."""
    commit = store._call_commit

    def lost(*arguments: Any) -> int:
        store._call_commit = commit  # type: ignore[method-assign]
        if late:
            commit(*arguments)
        raise psycopg.OperationalError("the connection was lost")

    store._call_commit = lost  # type: ignore[method-assign]
    yield
    store._call_commit = commit  # type: ignore[method-assign]


@pytest.mark.parametrize("examples", [8, pytest.param(60, marks=pytest.mark.long)])
def test_any_history_on_several_servers_gives_the_numbers_of_the_set_of_its_events(examples: int) -> None:
    """However events are spread over servers that write at the same time, lose connections, are given up and come
    back, every server shows the numbers of the set of all events, and keeps in memory what is stored."""
    run_state_machine_as_test(
        PairingShared,
        settings=settings(
            max_examples=examples,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink] if examples > 8 else [Phase.generate],
        ),
    )
