"""Outages: what the server needs and cannot reach is logged once when it begins to fail, and once when it is back."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing

import pytest

from metrics_server.telemetry import OutageLog
from tests.conftest import Serve
from tests.support.running import FEEDBACK, ce
from tests.support.waiting import until

PAIR = {"response": {"data": {"ndarray": [1]}}, "truth": {"data": {"ndarray": [1]}}}
logger = logging.getLogger("tests.outage")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO")
    return caplog


def _shown(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname[0]} {record.getMessage()}" for record in caplog.records]


def test_an_outage_is_two_lines(lines: pytest.LogCaptureFixture) -> None:
    """However often a failure and a success are noted, the log has the first of each; the next outage has its own."""
    outages = OutageLog(logger)
    outages.note_success("back")
    for attempt in range(3):
        outages.note_failure("it fails: %s", attempt)
    for _ in range(3):
        outages.note_success("back")
    outages.note_failure("it fails: %s", "again")
    assert _shown(lines) == ["W it fails: 0", "I back", "W it fails: again"]
    assert {record.name for record in lines.records} == {"tests.outage"}, "the module that it is about"


def test_causes_end_apart(lines: pytest.LogCaptureFixture) -> None:
    """Each cause is logged once, and a success that says nothing of a cause does not end it."""
    outages = OutageLog(logger)
    for cause in ("broker", "topic", "broker", "topic"):
        outages.note_failure("%s", cause, cause=cause)
    outages.note_success("back", causes=("broker", "login"))
    for cause in ("topic", "broker"):
        outages.note_failure("%s", cause, cause=cause)
    assert _shown(lines) == ["W broker", "W topic", "I back", "W broker"]


def test_the_level_is_that_of_the_outage(lines: pytest.LogCaptureFixture) -> None:
    """A store that fails is an error, a look-up that fails a warning; that it is over is news of both."""
    outages = OutageLog(logger, logging.ERROR)
    outages.note_failure("away")
    outages.note_success("back")
    assert _shown(lines) == ["E away", "I back"]


@pytest.mark.long
def test_a_store_that_is_away_is_told_once_for_each_outage(serve: Serve) -> None:
    """Two outages with several failed events each are four lines of the log."""
    server = serve("--store", "sqlite:///outage.db")
    for outage in (1, 2):
        with closing(sqlite3.connect(server.log.parent / "outage.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for number in (1, 2):
                assert server.post(PAIR, ce(FEEDBACK, f"{outage}.{number}", f"r{outage}.{number}")).status == 503
            other.execute("ROLLBACK")
        until(lambda: server.get("/readyz").status == 200, 30, "it does not get ready again")
    assert server.stop() == 0
    log = server.log.read_text()
    assert log.count("The store is unavailable, events are answered 503") == 2
    assert log.count("The store is back") == 2
