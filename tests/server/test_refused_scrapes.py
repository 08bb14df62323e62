"""Scrapes that are refused are counted, by reason: who reads the page elsewhere has to see why it was not told."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from metrics_server.errors import BadRequest
from metrics_server.http.worker_pools import WAIT_SECONDS, Deadline, NoTurn, WorkerPool
from metrics_server.telemetry import SCRAPE_REFUSALS
from tests.support.raw_http import Client, request, serving

SENT = 200


def _refused(page: bytes) -> dict[str, float]:
    found = re.findall(rb'^metrics_server_refused_scrapes_total\{reason="(\w+)"\} (\S+)$', page, re.MULTILINE)
    return {reason.decode(): float(count) for reason, count in found}


def _clients(port: int, stack: contextlib.ExitStack) -> Iterator[Client]:
    """Sends scrapes that share no page, all before any of them is read."""
    for number in range(SENT):
        client = stack.enter_context(Client(port, timeout=30))
        client.send(request("/v1/metrics", b"", f"Accept: text/plain, x/y{number}", method="GET", close=False))
        yield client


def test_each_refused_scrape_is_counted() -> None:
    """As many scrapes as were answered 503 are counted as crowded, none for another reason; all start at 0."""
    with serving() as server, contextlib.ExitStack() as stack:
        first = stack.enter_context(Client(server.port, timeout=30))
        first.send(request("/v1/metrics", method="GET", close=False))
        assert _refused(first.answer().body) == dict.fromkeys(SCRAPE_REFUSALS, 0.0)
        statuses = [client.answer().status for client in list(_clients(server.port, stack))]
        first.send(request("/v1/metrics", method="GET", close=False))
        assert _refused(first.answer().body) == {"crowded": statuses.count(503), "late": 0.0, "stopping": 0.0}
        assert set(statuses) <= {200, 503}


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool("scrapes", threads=1, waiting=0)
    yield pool
    pool.close()


def test_a_place_that_is_not_there_has_its_reason(pool: WorkerPool) -> None:
    """No room is crowded; and after a stop, what waits and what comes is told that the server is stopping."""
    with pool.slot() as deadline:
        with pytest.raises(NoTurn, match="too much") as crowded, pool.slot():
            pass
        pool.stop()
        with pytest.raises(NoTurn, match="stopping") as ended:
            deadline.check()
    with pytest.raises(NoTurn, match="stopping") as stopped, pool.slot():
        pass
    assert [each.value.reason for each in (crowded, ended, stopped)] == ["crowded", "stopping", "stopping"]


def test_a_turn_that_comes_too_late_has_its_reason() -> None:
    """Who has waited for longer than ten seconds is not answered, and that is late; a reading too long is no such."""
    now = 0.0
    deadline, reading = Deadline(lambda: now), Deadline(lambda: now)
    reading.limit(1.0)
    now = WAIT_SECONDS + 1
    with pytest.raises(NoTurn) as late:
        deadline.begin()
    assert late.value.reason == "late"
    with pytest.raises(BadRequest):
        reading.check()
