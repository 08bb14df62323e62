"""Several writers on one database: the machine of test_pairing_machine, where each step is taken by any of three."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, multiple, rule, run_state_machine_as_test

from metrics_server.errors import StoreUnavailable
from metrics_server.store.postgres.store import PostgresStore
from tests.support.pairing_bench import NOW
from tests.support.pairing_machine import Pairing, Sent, events
from tests.support.postgres import shared_postgres
from tests.support.shared_bench import SharedBench


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
        observations = [first.observation(one) for one in mine]
        outcomes, change = first.taken(observations)
        self.noted(others, second.send(*others))
        self.noted(mine, outcomes if first.commit(change) else first.committed(observations))
        return multiple(*found)

    @rule(
        target=Pairing.sent,
        number=st.integers(0, 2),
        drawn=st.lists(events(), min_size=1, max_size=3),
        late=st.booleans(),
    )
    def lose_the_connection_in_a_commit(self, number: int, drawn: list[Sent], late: bool) -> Any:
        """Before it took place, or after; the server finds out which, unless it was given up before: then its senders
        come again."""
        found, bench = self.numbered(drawn), self.benches[number]
        bench.view.catch_up(NOW)
        with losing_a_commit(bench.store, late=late):
            try:
                outcomes = bench.send(*found)
            except StoreUnavailable:
                bench.view.restore(NOW)
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
