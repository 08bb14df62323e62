"""How long PostgreSQL may take for what."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import psycopg
import pytest

from metrics_server.errors import StoreUnavailable
from metrics_server.metrics.window import CUMULATIVE
from metrics_server.store.interface import Change
from metrics_server.store.postgres.store import PostgresStore
from metrics_server.store.postgres.watchdog import LOOK_SECONDS
from tests.support.postgres import shared_postgres
from tests.support.waiting import until

ANSWER_SECONDS = 1.0


def test_a_rebuild_of_totals_takes_longer_than_an_answer() -> None:
    """What is done between two readings of a snapshot, such as adding up many sums, does not end the connection."""
    url = shared_postgres().fresh()
    with closing(PostgresStore(url)) as store:
        assert store.commit(Change(sums={(0, CUMULATIVE): {"n": 1.0}}))
    with closing(PostgresStore(url, ANSWER_SECONDS)) as store, store.snapshot():
        time.sleep(ANSWER_SECONDS + 3 * LOOK_SECONDS)  # how long it is added up is what is tested
        assert store.cumulative(CUMULATIVE) == {0: {"n": 1.0}}


SLOW = """
CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep({}); RETURN new; END';
CREATE OR REPLACE TRIGGER slow BEFORE INSERT ON sums FOR EACH ROW EXECUTE FUNCTION slow()"""


def test_commits_that_take_long_to_add_up_are_added_up_in_parts() -> None:
    """A backlog of them, which would take longer than an answer may, is no outage: it is added up as fast as those
    before it were, and where that is still too much, in smaller parts the next time."""
    url = shared_postgres().fresh()
    with closing(PostgresStore(url, ANSWER_SECONDS)) as store, psycopg.connect(url, autocommit=True) as database:

        def commit(count: int, seconds: float) -> None:
            """So many commits, each of which takes so long to be added up."""
            database.execute(SLOW.format(seconds).encode())
            for number in range(count):
                assert store.commit(Change(sums={(number, CUMULATIVE): {"n": 1.0}}))

        def is_added_up() -> bool:
            return not store.tidy() and database.execute("SELECT FROM unfolded").fetchone() is None

        commit(5, 0.05)
        assert is_added_up()
        commit(40, 0.05)
        assert store.tidy()
        until(is_added_up, 20, "the backlog stays")
        commit(12, 0.25)
        with pytest.raises(StoreUnavailable):
            store.tidy()
        until(is_added_up, 20, "it is not done in smaller parts")


def test_sums_are_found_without_a_look_at_those_of_other_series() -> None:
    """Also in tables that PostgreSQL has no statistics of yet, where it takes each of their indexes for as good."""
    url = shared_postgres().fresh()
    PostgresStore(url).close()
    with psycopg.connect(url) as database:
        database.execute("INSERT INTO sums SELECT number, 60, 0, '{1}', '{1}' FROM generate_series(1, 5000) AS number")
        explained = database.execute(
            """EXPLAIN SELECT FROM (SELECT DISTINCT * FROM unnest('{7}'::bigint[], '{60}'::integer[], '{0}'::bigint[])
            AS part (series, width, start)) AS touched JOIN sums USING (series, width, start)"""
        )
        plan = "\n".join(line for (line,) in explained)
    assert "Index Cond" in plan
    assert "Filter" not in plan, plan


def test_news_take_no_longer_than_an_answer() -> None:
    """A database that does not tell what others have committed is noticed as soon as one that does not commit."""
    url = shared_postgres().fresh()
    with closing(PostgresStore(url, ANSWER_SECONDS)) as store, psycopg.connect(url) as database:
        store.catch_up()
        database.execute("LOCK deltas")
        release = threading.Timer(5 * ANSWER_SECONDS, database.rollback)
        release.start()
        with pytest.raises(StoreUnavailable):
            store.catch_up()
        release.cancel()
        release.join()
        database.rollback()
        assert not store.catch_up().is_complete
