"""A large page leaves the memory of the server when it has been sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.support.running import FEEDBACK, RunningServer, ce

SERIES = 300
MEBIBYTE = 2**20


def test_scraped_pages_do_not_stay_in_memory(serve: Any) -> None:
    """After scrapes in both formats it has grown by little more than a page, whose lines it keeps compressed."""
    server = serve("--store", "memory://")
    body = {"response": {"data": {"ndarray": [[0.1, 0.2, 0.7]]}}, "truth": {"data": {"ndarray": [[0, 0, 1]]}}}
    for number in range(SERIES):
        name = f"wine-{number}"
        assert server.post(body, ce(FEEDBACK, name, name, inferenceservicename=name)).status == 200
    before, pages = _resident(server), []
    for accept in ("text/plain", "application/openmetrics-text;version=1.0.0") * 2:
        pages.append(len(server.get("/v1/metrics", {"Accept": accept}).body))
    assert min(pages) > 5 * MEBIBYTE
    assert _resident(server) - before < 1.5 * min(pages)  # twice as much where freed pages stay


def _resident(server: RunningServer) -> int:
    """Resident memory in bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024
