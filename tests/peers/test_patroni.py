"""A cluster of PostgreSQL that fails over by itself, by Patroni and etcd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bad_day import bad_day
from tests.support.patroni import PatroniCluster
from tests.support.rows_without_ids import RowsWithoutIds

pytestmark = [pytest.mark.long, pytest.mark.bad_day]


@pytest.fixture
def cluster() -> Iterator[PatroniCluster]:
    started = PatroniCluster()
    try:
        yield started.start()
    finally:
        started.stop()


def test_patroni_fails_over(tmp_path: Path, cluster: PatroniCluster) -> None:
    """The machine of the primary is lost: 503 with Retry-After until Patroni has promoted the standby; nothing that was
    acknowledged is lost, nothing counts twice, rows without any id neither, also when the old primary comes back as a
    standby."""
    with bad_day(tmp_path, cluster.url()) as day:
        rows = RowsWithoutIds(day.servers)
        rows.start()
        lost = cluster.primary()
        assert lost is not None
        lost.kill()
        day.turn_away()
        day.go_on()
        assert cluster.primary() not in (lost, None)
        lost.start()
        cluster.await_standby()
        assert cluster.primary() is not lost
        day.go_on()
        rows.end()
        rows.assert_counted()
        day.settle(others=RowsWithoutIds.DEPLOYMENT)
