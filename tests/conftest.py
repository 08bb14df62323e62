"""What all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import RunningServer

Serve = Callable[..., RunningServer]


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
