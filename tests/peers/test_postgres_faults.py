"""Bad days of a database and of the servers that share it: nothing acknowledged is lost, nothing counts twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bad_day import bad_day
from tests.support.postgres import Postgres

long = pytest.mark.long


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    server = Postgres().create()
    yield server
    server.kill_all()
    server.stop()


def test_the_database_is_killed_and_comes_back(tmp_path: Path, postgres: Postgres) -> None:
    """SIGKILL of every process of PostgreSQL under load: 503 with Retry-After until it is back, then all goes on."""
    with bad_day(tmp_path, postgres.fresh()) as day:
        postgres.kill_all()
        day.turn_away()
        postgres.start()
        day.go_on()
        day.settle()


def test_the_database_takes_no_writes_for_a_while(tmp_path: Path, postgres: Postgres) -> None:
    """A database that is set to read only: 503 until it takes writes again."""
    with bad_day(tmp_path, postgres.fresh()) as day:
        for setting in ("on", "off"):
            postgres.execute(f"ALTER SYSTEM SET default_transaction_read_only = {setting}")
            postgres.execute("SELECT pg_reload_conf()")
            if setting == "on":
                day.turn_away()
        day.go_on()
        day.settle()


@long
def test_the_database_hangs(tmp_path: Path, postgres: Postgres) -> None:
    """Every process of PostgreSQL is stopped for 20 seconds, and goes on where it was."""
    with bad_day(tmp_path, postgres.fresh()) as day:
        postgres.signal_all(signal.SIGSTOP)
        time.sleep(20)  # how long it hangs is what is tested
        assert day.refused
        assert day.watch.ready[503]
        postgres.signal_all(signal.SIGCONT)
        day.go_on()
        day.settle()
