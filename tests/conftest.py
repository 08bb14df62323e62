"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support import browser
from tests.support.deployments import set_clock
from tests.support.elastic import Elastic, running_elastic
from tests.support.running import RunningServer
from tests.support.scheduling import arrange

# No example fails for being slow: a machine may be busy beside it. In CI Hypothesis chooses its own profile.
if "CI" not in os.environ:
    settings.register_profile("unhurried", deadline=None)
    settings.load_profile("unhurried")

Serve = Callable[..., RunningServer]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    arrange(items)


@pytest.fixture(autouse=True)
def _clock() -> None:
    """The times that a test tells are counted from its beginning."""
    set_clock()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts real servers with the given options in a directory of the test's own, and ends them after it."""
    started: list[RunningServer] = []

    def start(*options: str, **more: Any) -> RunningServer:
        server = RunningServer(tmp_path, *options, **more)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[browser.Chromium]:
    """A real browser for all tests that want one."""
    yield from browser.chromium()


@pytest.fixture
def open_tab(chromium: browser.Chromium) -> Iterator[browser.OpenTab]:
    """Opens tabs on a server, and closes them after the test."""
    yield from browser.tabs(chromium)


@pytest.fixture
def elastic() -> Iterator[Elastic]:
    """Stands in for Elasticsearch."""
    with running_elastic() as server:
        yield server
