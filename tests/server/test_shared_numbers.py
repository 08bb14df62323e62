"""Servers that share a database: any number of them, in whatever way events are spread, show the same numbers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.support.fleet import (
    Fleet,
    agreed,
    assert_shows,
    by_deployment,
    differences,
    fleet,
    net,
    pairs,
    shown,
)
from tests.support.postgres import Postgres
from tests.support.spread_load import (
    AUTHORIZED,
    TOKEN,
    Flow,
    Stories,
    batches_of,
    doubled_and_shuffled,
    finished,
    sending,
)
from tests.support.waiting import until


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres().create()
    yield server
    server.stop()


@pytest.mark.parametrize("stories", [400, pytest.param(10_000, marks=pytest.mark.long)])
def test_any_number_of_servers_shows_what_one_shows(tmp_path: Path, postgres: Postgres, stories: int) -> None:
    """One, two and four servers on one database, sent everything twice in any order in parallel, show the numbers of
    one server on SQLite that was sent it once in order, and those of the events themselves."""
    told = Stories(15)
    events, chance = told.events(stories), random.Random(15)
    with fleet(tmp_path, f"sqlite:///{tmp_path}/one.db", 1) as alone:
        finished(sending(alone.ports, batches_of(events, chance), threads=1))
        reference = shown(alone.servers[0])
    assert_shows(reference, told.expected)
    for count in (1, 2, 4):
        with fleet(tmp_path, postgres.fresh(), count) as servers:
            batches = batches_of(doubled_and_shuffled(events, chance), chance)
            assert set(finished(sending(servers.ports, batches))) == {200}
            samples = agreed(servers)
        assert_shows(samples, told.expected)
        assert differences(net(samples), net(reference)) == []


def test_an_event_is_shown_at_once_here_and_within_a_second_elsewhere(tmp_path: Path, postgres: Postgres) -> None:
    """The page of the server that acknowledged an event has it in the next scrape; those of the others within a
    second."""
    lags = []
    with fleet(tmp_path, postgres.fresh(), 3) as servers:
        for number in range(9):
            told = Stories(number, deployments=1, prefix=f"{number}-")
            before = pairs(servers.servers[0])
            finished(sending(lambda mine=number % 3: [servers.ports()[mine]], [told.events(5)], threads=1))
            acknowledged_at = time.monotonic()
            expected = before + told.expected.pairs
            assert pairs(servers.servers[number % 3]) == expected
            for other in servers.servers:
                until(lambda other=other, expected=expected: pairs(other) == expected, 15, "not shown")
            lags.append(time.monotonic() - acknowledged_at)
    assert median(lags) < 1, lags  # the machine may have other things to do


def test_servers_come_and_go_under_load(tmp_path: Path, postgres: Postgres) -> None:
    """From four servers to one and to three, while events are sent: each counts once, and who is there shows all."""
    told = Stories(4)
    flow = Flow(told, 4, largest=8)
    with fleet(tmp_path, postgres.fresh(), 4) as servers:
        senders = sending(servers.ports, flow, pause=0.05)
        for server in servers.servers[:3]:
            servers.stop(server)
        servers.start(2)
        flow.end()
        finished(senders)
        assert_shows(agreed(servers), told.expected)
    assert sum(told.expected.cells.values()) > 50, "there was no load to speak of"


def retire(servers: Fleet, deployment: str) -> int:
    path = f"/v1/models/shop/{deployment}/default/tree"
    return servers.servers[0].request("DELETE", path, headers=AUTHORIZED).status


def test_a_series_is_deleted_while_others_write(tmp_path: Path, postgres: Postgres) -> None:
    """What was acknowledged before a DELETE is gone from every server, what is sent after it counts, and no other
    series notices."""
    (tmp_path / "token").write_text(TOKEN)
    told = [Stories(number, deployments=3, prefix=f"{number}-") for number in range(3)]
    flow = Flow(told[1], 8, largest=4)
    with fleet(tmp_path, postgres.fresh(), 3, "--token_file", str(tmp_path / "token")) as servers:
        finished(sending(servers.ports, [told[0].events(80)], threads=1))
        senders = sending(lambda: servers.ports()[1:], flow, pause=0.01)
        deleted = [retire(servers, "fraud-1") for _ in range(5)]
        flow.end()
        finished(senders)
        finished(sending(servers.ports, [told[2].events(80)], threads=1))
        samples = agreed(servers)
    assert 200 <= deleted[0] < 300
    assert set(deleted) <= {deleted[0], 404}
    found = by_deployment(samples, "model_support", window="1d")
    first, second, third = (one.expected.pairs for one in told)
    assert third["fraud-1"] <= found["fraud-1"] <= second["fraud-1"] + third["fraud-1"]
    for other in ("fraud-0", "fraud-2"):
        assert found[other] == first[other] + second[other] + third[other]


def test_a_series_that_another_server_has_just_made_can_be_deleted(tmp_path: Path, postgres: Postgres) -> None:
    """A DELETE finds what was acknowledged anywhere before."""
    (tmp_path / "token").write_text(TOKEN)
    with fleet(tmp_path, postgres.fresh(), 2, "--token_file", str(tmp_path / "token")) as servers:
        for number in range(8):
            events = Stories(number, deployments=1, prefix=f"{number}-").events(1)
            finished(sending(lambda: servers.ports()[1:], [events], threads=1))
            assert 200 <= retire(servers, "fraud-0") < 300
