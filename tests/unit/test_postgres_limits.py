"""How long PostgreSQL may take for what."""

from __future__ import annotations

import time
from contextlib import closing

from metrics_server.metrics.window import CUMULATIVE
from metrics_server.store.interface import Change
from metrics_server.store.postgres.store import PostgresStore
from metrics_server.store.postgres.watchdog import LOOK_SECONDS
from tests.support.postgres import shared_postgres

ANSWER_SECONDS = 1.0


def test_a_rebuild_of_totals_takes_longer_than_an_answer() -> None:
    """What is done between two readings of a snapshot, such as adding up many sums, does not end the connection."""
    url = shared_postgres().fresh()
    with closing(PostgresStore(url)) as store:
        assert store.commit(Change(sums={(0, CUMULATIVE): {"n": 1.0}}))
    with closing(PostgresStore(url, ANSWER_SECONDS)) as store, store.snapshot():
        time.sleep(ANSWER_SECONDS + 3 * LOOK_SECONDS)  # how long it is added up is what is tested
        assert store.cumulative(CUMULATIVE) == {0: {"n": 1.0}}
