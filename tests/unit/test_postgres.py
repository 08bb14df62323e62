"""What is PostgreSQL's own: who is refused, what is told, and what of libpq's options holds."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest

from metrics_server.errors import BadConfiguration, StoreRefused
from metrics_server.metrics.window import MINUTE, Bucket
from metrics_server.store import open_store, redacted
from metrics_server.store.interface import Change, StoredSeries, Write
from metrics_server.store.postgres.store import PostgresStore
from tests.support.postgres import shared_postgres
from tests.support.running import free_port


@pytest.fixture
def url() -> str:
    return shared_postgres().fresh()


def test_tables_of_a_version_that_is_too_new_are_refused(url: str) -> None:
    """A sentence says what to do, and nothing is changed; newer tables that this version can use are used."""
    PostgresStore(url).close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE catalog SET schema_version = 9")
        PostgresStore(url).close()
        connection.execute("UPDATE catalog SET usable_from = 9")
        with pytest.raises(StoreRefused, match="have version 9, this server knows up to 1; use a newer server"):
            PostgresStore(url)


def test_a_database_that_cannot_be_reached_is_told_without_the_password() -> None:
    """Neither the refusal nor what is logged at the start repeats it."""
    url = f"postgresql://metrics:secret@127.0.0.1:{free_port()}/x?connect_timeout=2"
    with pytest.raises(StoreRefused) as refused:
        open_store(url)
    assert "PostgreSQL cannot be used" in str(refused.value)
    assert "secret" not in str(refused.value) + redacted(url)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("postgresql://u:p%40ss@h:5432/db", "postgresql://u:…@h:5432/db"),
        ("postgresql:///db?host=h&user=u&password=p&sslmode=require", "postgresql:///db?host=h&user=u&password=…&sslmode=require"),
        ("postgresql://h1:1,h2:2/db", "postgresql://h1:1,h2:2/db"),
        ("sqlite:////var/lib/x.db", "sqlite:////var/lib/x.db"),
    ],
)  # fmt: skip
def test_urls_are_told_without_passwords(written: str, told: str) -> None:
    assert redacted(written) == told


def test_an_unknown_option_of_the_url_is_told() -> None:
    with pytest.raises(StoreRefused, match="conect_timeout"):
        open_store("postgresql://127.0.0.1/x?conect_timeout=2")
    with pytest.raises(BadConfiguration, match="want one of"):
        open_store("mysql://127.0.0.1/x")


def test_of_several_hosts_one_that_takes_writes_is_found(url: str) -> None:
    """Those that are away are passed over."""
    server = shared_postgres()
    several = url.replace(f"127.0.0.1:{server.port}", f"127.0.0.1:{free_port()},127.0.0.1:{server.port}")
    with closing(PostgresStore(several)) as store:
        assert store.commit(Change({b"a": Write(0, b"x", 1.0)}))


def test_what_is_acknowledged_is_flushed_whatever_the_database_has_set(url: str) -> None:
    """A default of synchronous_commit = off would lose what was answered."""
    with closing(PostgresStore(url + "%20-csynchronous_commit%3Doff")) as store:
        assert store._connection is not None
        assert store._connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_writers_that_leave_make_room_at_once(url: str) -> None:
    """The upkeep goes to another server without waiting for the lease."""
    with closing(PostgresStore(url)) as second:
        first = PostgresStore(url)
        assert first.takes_upkeep()
        assert not second.takes_upkeep()
        assert second.other_writers() == 1
        first.close()
        assert second.other_writers() == 0
        second._beat()
        assert second.takes_upkeep()


def test_all_steps_of_a_history_are_of_one_moment(url: str) -> None:
    """What another server commits while a history is read is in none of its steps."""
    series = StoredSeries(1, b"{}", 0.0, 0.0, {})
    buckets = [(1, Bucket(MINUTE, number * MINUTE)) for number in range(3)]
    with closing(PostgresStore(url)) as store:
        assert store.commit(Change(series={1: series}, sums=dict.fromkeys(buckets, {"pairs": 1.0})))
        with closing(store.steps(1, 0, 3 * MINUTE, MINUTE)) as steps, closing(PostgresStore(url)) as other:
            next(steps)
            assert other.commit(Change(series={1: series}, sums=dict.fromkeys(buckets, {"wins": 1.0})))
            assert [step.sums for step in steps] == [{"pairs": 1.0}] * 2
