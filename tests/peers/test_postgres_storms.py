"""Servers of one database that are killed under load, at any moment and at each step: nothing acknowledged is lost,
nothing counts twice."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.bad_day import bad_day
from tests.support.postgres import Postgres
from tests.support.rows_without_ids import RowsWithoutIds
from tests.support.waiting import until

pytestmark = [pytest.mark.long, pytest.mark.bad_day]

KILLS, EVENTS = 100, 100_000


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres().create()
    yield server
    server.stop()


@pytest.mark.timeout(600)
def test_a_hundred_kills_lose_and_double_nothing(tmp_path: Path, postgres: Postgres) -> None:
    """Three servers are killed a hundred times, under 100,000 events with and without the id of a request: each event
    counts once; and rows without any id at least as often as they were acknowledged, at most as often as sent."""
    chance = random.Random(20261129)
    with bad_day(tmp_path, postgres.fresh(), 3, largest=150) as day:
        rows = RowsWithoutIds(day.servers)
        rows.start()
        kills = 0
        while kills < KILLS or day.acknowledged < EVENTS:
            server = chance.choice(day.servers.servers)
            day.servers.kill(server)
            day.servers.replace(server)
            kills += 1
            day.go_on(chance.randint(1, 1500))
        rows.end()
        rows.assert_counted()
        day.settle(others=RowsWithoutIds.DEPLOYMENT)
        assert sum(sender.answers[None] for sender in day.senders) > KILLS / 2, "the kills hit nothing"


DYING = """
import os, runpy, signal, sys, threading, time
from metrics_server.store.postgres.store import PostgresStore

name, moment, left = sys.argv[1], sys.argv[2], int(sys.argv[3])
method = getattr(PostgresStore, name.removeprefix("claim:"))

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def soon():
    time.sleep(0.0007)
    die()

def dying(self, *arguments):
    global left
    if not name.startswith("claim:") or arguments[1].has_claims:
        left -= 1
    if left >= 0:
        return method(self, *arguments)
    if moment == "before":
        die()
    if moment == "within":
        threading.Thread(target=soon).start()
    done = method(self, *arguments)
    die()

setattr(PostgresStore, name.removeprefix("claim:"), dying)
sys.argv = ["metrics_server", *sys.argv[4:]]
runpy.run_module("metrics_server", run_name="__main__")
"""
STEPS = {"load": "load", "claim": "claim:_call_commit", "commit": "_call_commit", "fold": "tidy", "read": "catch_up"}


@pytest.mark.parametrize("moment", ["before", "within", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_server_dies_at_a_step(tmp_path: Path, postgres: Postgres, step: str, moment: str) -> None:
    """Before a step of its work, in the midst of it, or before it can tell of it: the others go on, and every event
    counts once."""
    url = postgres.fresh()
    with bad_day(tmp_path, url, 1) as day, psycopg.connect(url, autocommit=True) as database:
        day.told.grow(every=20)  # the call that claims comes with new classes and new series
        for calls in (0, 1, 4) if step in ("claim", "fold") else (1, 8, 30):
            dying = day.servers.start(program=(sys.executable, "-c", DYING, STEPS[step], moment, str(calls + 1)))

            def has_died(dying=dying) -> bool:  # type: ignore[no-untyped-def]
                # The upkeep is its.
                database.execute("UPDATE upkeep SET writer = (SELECT max(id) FROM writers)")
                return dying.process.poll() is not None

            until(has_died, 60, f"it has not come to the step {step}")
            day.servers.servers.remove(dying)
            day.go_on(20)
        day.settle()
