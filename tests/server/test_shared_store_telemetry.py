"""What a server tells of a store that it shares with others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from metrics_server.metrics.window import CUMULATIVE
from metrics_server.store.interface import Change, Sharing, Write
from metrics_server.store.postgres.store import PostgresStore
from metrics_server.telemetry import SharingTelemetry
from tests.support.postgres import Postgres, shared_postgres
from tests.support.running import RunningServer
from tests.support.waiting import until

OURS = "metrics_server_shared_store"
FEEDBACK = {"deployment": "wine", "prediction": 0, "truth": 1}


@pytest.fixture
def stores() -> Iterator[tuple[PostgresStore, PostgresStore]]:
    """Two servers' stores on one database."""
    url = shared_postgres().fresh()
    one, other = PostgresStore(url), PostgresStore(url)
    yield one, other
    one.close()
    other.close()


def _record(version: int = 0) -> Change:
    return Change(records={b"key": Write(version, b"value", expires_at=2e9)}, sums={(1, CUMULATIVE): {"pairs": 1.0}})


def test_a_commit_that_came_second_is_counted(stores: tuple[PostgresStore, PostgresStore]) -> None:
    """Who comes second is refused and counts it; who came first counts nothing."""
    first, second = stores
    assert first.commit(_record())
    assert not second.commit(_record())
    assert (first.sharing.conflicts, second.sharing.conflicts) == (0, 1)


def test_commits_are_unfolded_until_the_upkeep(stores: tuple[PostgresStore, PostgresStore]) -> None:
    """Every server knows how many commits of all servers wait to be added up; none does after the upkeep, and
    who did it knows when."""
    first, second = stores
    assert first.commit(_record())
    assert second.commit(Change())
    for store in stores:
        store.ready()
        assert store.sharing.unfolded == 2
    upkeep_at = first.sharing.upkeep_at, second.sharing.upkeep_at
    second.tidy()
    assert first.sharing.upkeep_at == upkeep_at[0]
    assert second.sharing.upkeep_at > upkeep_at[1]
    for store in stores:
        store.ready()
        assert store.sharing.unfolded == 0


def test_ages_are_as_of_the_scrape() -> None:
    """A server that is cut off from its store tells so without asking it: its values and its upkeep grow old."""
    registry = CollectorRegistry()
    SharingTelemetry(Sharing(caught_up_at=10.0, upkeep_at=4.0), registry, clock=lambda: 11.5)
    page = generate_latest(registry).decode()
    assert f"{OURS}_lag_seconds 1.5\n" in page
    assert f"{OURS}_upkeep_age_seconds 7.5\n" in page


def test_a_server_with_a_file_tells_nothing_of_sharing(tmp_path: Path) -> None:
    """Where no other server is, there is no lag that somebody could read."""
    server = RunningServer(tmp_path, "--store", "sqlite:///state.db")
    try:
        assert OURS not in server.get("/v1/metrics").body.decode()
    finally:
        server.stop()


def test_servers_tell_how_they_stand_to_the_database(tmp_path: Path) -> None:
    """Of two servers one does the upkeep; both are abreast of each other within a second, and tell that they are not
    any more while the database is away."""
    postgres = Postgres().create()
    servers = [RunningServer(tmp_path, "--store", postgres.url()) for _ in range(2)]

    def told(name: str) -> list[float]:
        return [value for server in servers if (value := server.value(f"{OURS}_{name}")) is not None]

    try:
        assert servers[0].post(FEEDBACK, {"Content-Type": "application/json"}, "/v1/feedback").status == 200
        until(lambda: max(told("lag_seconds")) < 1, 10, "the servers lag")
        until(lambda: min(told("upkeep_age_seconds")) < 2 and max(told("upkeep_age_seconds")) > 3, 20, "no one upkeep")
        until(lambda: told("unfolded_commits") == [0, 0], 10, "nobody adds up")
        assert told("clock_offset_seconds") == [0, 0]  # of one machine
        postgres.kill()
        until(lambda: min(told("lag_seconds")) > 2, 20, "the servers do not tell that they lag")
        postgres.start()
        until(lambda: max(told("lag_seconds")) < 1, 20, "the servers lag for ever")
    finally:
        for server in servers:
            server.stop()
        postgres.stop()
