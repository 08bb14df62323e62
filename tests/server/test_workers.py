"""Several processes on one port, `--workers`: one server as seen from outside."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from tests.support.postgres import shared_postgres
from tests.support.running import RunningServer, free_port
from tests.support.waiting import until

ROWS = 400


def _children(server: RunningServer) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[RunningServer]:
    server = RunningServer(tmp_path, "--store", shared_postgres().fresh(), "--workers", "2")
    try:
        until(lambda: len(_pids_that_answer(server)) == 2, 30, "one worker does not answer")
        yield server
    finally:
        server.stop()


def _pids_that_answer(server: RunningServer) -> set[int]:
    """The workers that have connections; each connection is somebody's, by chance."""
    with ExitStack() as open_:
        for _ in range(8):
            connection = open_.enter_context(closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)))
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        return {pid for pid in _children(server) if _has_client(pid, server.port)}


def _has_client(pid: int, port: int) -> bool:
    """Tells whether a process has a connection with a client of its port."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            inodes.add(str(descriptor.readlink()).removeprefix("socket:[").rstrip("]"))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [row for row in rows if row[3] == "01" and int(row[1].split(":")[1], 16) == port]
    return any(row[9] in inodes for row in established)


def _send(server: RunningServer, first: int) -> int:
    rows = [
        {"request_id": f"r{first + number}", "deployment": "wine", "truth": 1, "prediction": number % 2}
        for number in range(10)
    ]
    return server.post(rows, {"Content-Type": "application/json"}, "/v1/feedback").status


def _events(server: RunningServer) -> float:
    return server.value("metrics_server_events_total", type="feedback", outcome="accepted") or 0.0


def test_any_worker_answers_a_scrape_for_all(workers: RunningServer) -> None:
    """Events go to any worker; each scrape, whichever worker has it, has the numbers of all of them."""
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda first: _send(workers, first), range(0, ROWS, 10))) == {200}
    until(lambda: _events(workers) == ROWS, 5, "not all workers are counted")
    for _ in range(10):
        assert workers.value("model_accuracy_ratio", deployment_name="wine", window="1h") == 0.5
        assert workers.value("model_support", deployment_name="wine", window="1h") == ROWS


def test_a_worker_that_is_killed_is_replaced_and_no_count_falls(workers: RunningServer) -> None:
    """Another process takes its place and goes on from what it had counted; the others serve meanwhile."""
    for first in range(0, ROWS, 10):
        assert _send(workers, first) == 200
    until(lambda: _events(workers) == ROWS, 5, "not all workers are counted")
    before = _children(workers)
    os.kill(before[0], signal.SIGKILL)
    until(lambda: before[0] not in _children(workers), 10, "it does not end")
    for _ in range(20):
        assert _events(workers) >= ROWS
    until(lambda: len(_children(workers)) == 2 and len(_pids_that_answer(workers)) == 2, 30, "none takes its place")
    assert _send(workers, ROWS) == 200
    until(lambda: _events(workers) == ROWS + 10, 5, "the new one does not count on")
    assert "Worker 0 ended with status -9; another takes its place" in workers.log.read_text()


def test_a_stop_ends_all(workers: RunningServer) -> None:
    """SIGTERM to the parent drains every worker; the exit status is 0."""
    children = _children(workers)
    workers.process.send_signal(signal.SIGTERM)
    assert workers.process.wait(30) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_workers_end_with_a_parent_that_is_killed(workers: RunningServer) -> None:
    """Nobody keeps the port after a SIGKILL of the parent."""
    children = _children(workers)
    workers.process.kill()
    workers.process.wait(10)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 30, "a worker goes on without its parent")


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "metrics_server", "--http_port", str(free_port()), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("store", ["sqlite:///metrics.db", "memory://"])
def test_a_store_of_one_process_refuses_workers(store: str) -> None:
    """A sentence says what is needed instead, and nothing is started."""
    ran = _run("--store", store, "--workers", "2")
    assert ran.returncode == 2
    assert "--workers 2 needs --store postgresql://" in ran.stderr


def test_what_stops_one_worker_at_its_start_stops_all() -> None:
    """A database that cannot be reached ends the command with the status of a server that could not start."""
    ran = _run("--store", f"postgresql://test@127.0.0.1:{free_port()}/x", "--workers", "2")
    assert ran.returncode == 1
    assert "--store: PostgreSQL cannot be used" in ran.stderr


def test_a_port_in_use_is_told(workers: RunningServer) -> None:
    """A second command does not take a part of the connections of the first."""
    url = shared_postgres().fresh()
    ran = subprocess.run(
        [sys.executable, "-m", "metrics_server", "--http_port", str(workers.port), "--store", url, "--workers", "2"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 1
    assert f"--http_port {workers.port}" in ran.stderr
