"""What a server remembers of a database, when another has taken its place that lacks the last of it."""

from __future__ import annotations

from contextlib import closing

import psycopg

from metrics_server.metrics.window import CUMULATIVE
from metrics_server.store.interface import Change
from metrics_server.store.postgres.store import PostgresStore
from tests.support.postgres import shared_postgres

LOSE_THE_LAST_COMMIT = """
DELETE FROM deltas; UPDATE writers SET seq = 0; DELETE FROM components; ALTER TABLE components ALTER id RESTART
"""


def counted(name: str) -> Change:
    return Change(sums={(0, CUMULATIVE): {name: 1.0}})


def test_numbers_that_were_given_anew_are_not_taken_for_the_old_ones() -> None:
    """After a standby took over that lacks a commit which was seen, another commit by its number is read, and another
    component by the number of a lost one is itself."""
    url = shared_postgres().fresh()
    with closing(PostgresStore(url)) as first, closing(PostgresStore(url)) as second:
        second.catch_up()
        assert first.commit(counted("lost"))
        assert [change.sums for change in second.catch_up().changes] == [counted("lost").sums]
        with psycopg.connect(url) as database:
            database.execute(LOSE_THE_LAST_COMMIT)
        for store in (first, second):
            store.recover()
        assert first.commit(counted("kept"))
        assert not second.catch_up().is_complete
        assert second.cumulative(CUMULATIVE) == {0: {"kept": 1.0}}
